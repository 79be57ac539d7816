"""How families of models write tool calls and reasoning, as data."""

from server.chat.dialects.dialect import Dialect
from server.chat.dialects.families import (
    COMMAND_R,
    DEEPSEEK,
    DEEPSEEK_V31,
    DIALECTS,
    GEMMA,
    GRANITE,
    HARMONY,
    HERMES,
    JSON,
    LLAMA,
    MISTRAL,
    MISTRAL_LIST,
    PHI,
    PLAIN,
    QWEN_CODER,
)

__all__ = [
    "COMMAND_R",
    "DEEPSEEK",
    "DEEPSEEK_V31",
    "DIALECTS",
    "GEMMA",
    "GRANITE",
    "HARMONY",
    "HERMES",
    "JSON",
    "LLAMA",
    "MISTRAL",
    "MISTRAL_LIST",
    "PHI",
    "PLAIN",
    "QWEN_CODER",
    "Dialect",
]
