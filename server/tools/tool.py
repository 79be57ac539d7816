"""What runs need of the server's own tools, whichever they are.

A tool is told to the model like a function. Its calls are read while they are written, answered,
and recalled in later prompts. Knows nothing of turns, steps and events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.chat.citations import Source
from server.chat.values import ToolCall, ToolSpec
from server.db.database import Tx
from server.db.stores import Record
from server.schemas import JsonObject

Count = Callable[[str], Awaitable[int]]


async def longest(most: int, room: int, tokens_of: Callable[[int], Awaitable[int]]) -> int:
    """The length up to `most` at which something takes no more than so many tokens; 0 if none."""
    while most and (tokens := await tokens_of(most)) > room:
        most = min(most - 1, most * room // tokens)
    return most


class ToolFailed(Exception):
    """The run cannot go on with this tool; the text says why, for its user."""


@dataclass(frozen=True, slots=True)
class Offer:
    """How a run's model is told of a tool.

    A note stands behind the message whose id it has. `files` are the names of those that the tool
    has before it is called. What it answers is to be cited by numbers if it `cites`.
    """

    spec: ToolSpec
    notes: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    cites: bool = False


@dataclass(frozen=True, slots=True)
class Recalled:
    """A stored call that was answered, as later prompts tell it, and what answers may have of it.

    `arguments` are as the model wrote them; `output` is what it was told. Answers cite `sources`,
    have `figures` at their front (ids of files), and link to `files` (names). `failure` is why it
    came to nothing, if that was not for what the model asked.
    """

    arguments: str
    output: str
    sources: Sequence[Source] = ()
    figures: Sequence[str] = ()
    files: Sequence[str] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """The turn whose calls are answered: its run, and how much its model can be told.

    `context` and `room` are tokens: what the model reads, and what the answer to one call may take.
    `failures` counts the run's earlier steps that failed though they were answered.
    """

    run: Record
    context: int
    room: int
    count: Count
    failures: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a call is answered: as it is stored, and what of that a stream is told."""

    call_id: str
    stored: JsonObject
    told: JsonObject | None = None


class Reading(Protocol):
    """A call while it is written."""

    @property
    def stored(self) -> JsonObject:
        """As rows keep it for now; of a new one also what a stream is told."""
        ...

    def feed(self, arguments: str) -> JsonObject | None:
        """More of its arguments: what a stream is told of them, if anything."""
        ...

    def finish(self) -> JsonObject | None:
        """The arguments are over: what a stream is told of what was held back."""
        ...


class Kind(Protocol):
    """What is known of a tool without using it. A module can be one."""

    def names(self) -> Iterator[str]:
        """What it may be called: by the first that no function has."""
        ...

    def offer(self, tx: Tx, run: Record, name: str, messages: Sequence[Record]) -> Offer:
        """How the run's model is told of it, beside these messages."""
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
        """The calls of one turn, in order: how far each is, and at last its whole answer.

        To close the generator is to give up, and not to have taken the last answer: what was made
        for it goes again. Raises ToolFailed.
        """
        ...
