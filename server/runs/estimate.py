"""How many tokens a conversation is for a tokenizer that cannot be asked.

Tokens are taken to have so many bytes each, a number that is learned from what the endpoint says
it counted. It begins with fewer bytes than most tokenizers need, so that the first prompts are
rather too short than too long.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from server.chat.completions import tools_body
from server.chat.values import ChatMessage, ToolSpec

FIRST_GUESS = 3.0  # bytes a token
LEAST, MOST = 0.5, 12.0
LEARNING_RATE = 0.25
WORTH_LEARNING = 200  # bytes: less than that is mostly the template
MESSAGE_BYTES = 16  # what a template adds to a message


class TokenEstimate:
    """The bytes of a model's tokens, as far as they are known."""

    def __init__(self) -> None:
        self._bytes = FIRST_GUESS

    def tokens(self, size: int) -> int:
        return math.ceil(size / self._bytes)

    def learn(self, size: int, tokens: int) -> None:
        """What has this size turned out to be so many tokens."""
        if size >= WORTH_LEARNING and tokens > 0:
            seen = min(max(size / tokens, LEAST), MOST)
            self._bytes += LEARNING_RATE * (seen - self._bytes)

    def was_too_low(self) -> None:
        """The endpoint refused as too long what was estimated to fit."""
        self._bytes = max(LEAST, self._bytes * (1 - LEARNING_RATE))


def size_of(messages: Sequence[ChatMessage]) -> int:
    """What a tokenizer reads of messages, in bytes."""
    return sum(_size_of(message) for message in messages)


def size_of_tools(tools: Sequence[ToolSpec]) -> int:
    """The same of the functions that are offered."""
    body = tools_body(tools, must_call=False, parallel=True)
    return _bytes(json.dumps(body["tools"], ensure_ascii=False)) if body else 0


def _size_of(message: ChatMessage) -> int:
    calls = (call.name + call.arguments for call in message.tool_calls)
    return MESSAGE_BYTES + _bytes(message.content) + sum(map(_bytes, calls))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
