"""The conversation as pure values: what the template renders and what a turn is parsed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant", "tool"]

NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call of the assistant."""

    id: str
    name: str
    arguments: str  # JSON text as the model wrote it; may be invalid


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None  # JSON Schema
    strict: bool = False

    @property
    def schema(self) -> Mapping[str, Any]:
        """That of its parameters, also where it has none."""
        return NO_PARAMETERS if self.parameters is None else self.parameters


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered prompt.

    Special tokens are looked for only where `is_template` is true; the rest is content, whose text
    can never become a control token.
    """

    text: str
    is_template: bool


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of the conversation. `tool_call_id` and `name` are set on role `tool` only.

    `markup` follows the content, and is told with it: what a template has no place for.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    markup: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text of the answer, as the model writes it."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The name of a call is known; `index` counts the calls of one turn from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


TurnDelta = TextDelta | CallStarted | CallArguments
