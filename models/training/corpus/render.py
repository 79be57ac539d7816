"""Renders conversations with the very template that is shipped in the model's file."""

from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_PATH = Path(__file__).parents[1] / "template.jinja"
TEMPLATE_TEXT = TEMPLATE_PATH.read_text(encoding="utf-8")

_template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
    TEMPLATE_TEXT
)


def render(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    return _template.render(
        messages=messages, tools=tools, add_generation_prompt=add_generation_prompt
    )
