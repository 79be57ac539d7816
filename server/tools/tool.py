"""What runs need of the server's own tools, whichever they are.

A tool is told to the model like a function. Its calls are read while they are written, answered,
and recalled in later prompts. Knows nothing of turns, steps and events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.chat.citations import Source
from server.chat.values import ToolCall, ToolSpec
from server.db.stores import Record
from server.schemas import JsonObject

Count = Callable[[str], Awaitable[int]]


class ToolFailed(Exception):
    """The run cannot go on with this tool; the text says why, for its user."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A stored call that was answered, as later prompts tell it, and what texts may cite of it.

    `arguments` are as the model wrote them; `output` is what it was told.
    """

    arguments: str
    output: str
    sources: Sequence[Source] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """The turn whose calls are answered: its run, and how much its model can be told.

    `context` and `room` are tokens: what the model reads, and what the answer to one call may take.
    """

    run: Record
    context: int
    room: int
    count: Count


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a call is answered: as it is stored."""

    call_id: str
    stored: JsonObject


class Reading(Protocol):
    """A call while it is written."""

    @property
    def stored(self) -> JsonObject:
        """As rows keep it for now; of a new one also what a stream is told."""
        ...

    def feed(self, arguments: str) -> JsonObject | None:
        """More of its arguments: what a stream is told of them, if anything."""
        ...


class Kind(Protocol):
    """What is known of a tool without using it. A module can be one."""

    def names(self) -> Iterator[str]:
        """What it may be called: by the first that no function has."""
        ...

    def spec(self, name: str) -> ToolSpec:
        """How models are told of it."""
        ...

    def reading(self, call_id: str, tool: JsonObject) -> Reading:
        """A new call; `tool` is the tool's configuration."""
        ...

    def told(self, call: JsonObject) -> Iterator[JsonObject]:
        """What a stream is told of a stored call, from its beginning."""
        ...

    def recalled(self, call: JsonObject) -> Recalled: ...


class Answering(Protocol):
    """Answers calls of one tool."""

    def answer(
        self, calls: Sequence[ToolCall], tool: JsonObject, scene: Scene
    ) -> AsyncGenerator[Answer, None]:
        """The calls of one turn, as they are answered; each at its end at least.

        To close the generator is to give up. Raises ToolFailed.
        """
        ...
