"""Parses what a model writes in its turn, while it writes: text, tool calls, reasoning.

Whatever cannot become a marker any more is given out at once. What is not a call although it
begins like one (no JSON, no name, the name of no tool that was offered) is text, markers and all.
A call that has been announced stays a call: where its arguments turn out to be no JSON, they are
given out as they were written, up to the closing marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol

from server.chat.dialects import Dialect
from server.chat.harmony import HarmonyReader
from server.chat.marked import MarkedReader
from server.chat.values import ToolSpec, TurnDelta
from server.chat.written import Written


class Reader(Protocol):
    """Reads a turn into what was `Written`, for one form of dialects."""

    unfinished_call: bool

    @property
    def in_reasoning(self) -> bool: ...

    def read(self, text: str) -> None: ...

    def finish(self) -> None:
        """The turn is over: what was held is text, reasoning, or a call that was cut off."""
        ...


class TurnParser:
    """The parser of one turn. Owned by the execution that reads the turn.

    An answer that `has_form` is nothing but that, whatever its strings spell.
    """

    def __init__(
        self,
        dialect: Dialect,
        tools: Iterable[ToolSpec],
        *,
        in_reasoning: bool = False,
        has_form: bool = False,
    ) -> None:
        functions = {tool.name: tool for tool in tools}
        self._written = Written()
        read = (
            partial(HarmonyReader, functions)
            if dialect.form == "harmony"
            else partial(MarkedReader, dialect, functions)
        )
        self._reader: Reader = read(self._written, in_reasoning=in_reasoning, has_form=has_form)

    @property
    def text(self) -> str:
        """The answer so far: all text deltas, joined."""
        return self._written.text

    @property
    def reasoning(self) -> str:
        return self._written.reasoning

    @property
    def in_reasoning(self) -> bool:
        """Whether what comes next belongs to the reasoning, as far as is known."""
        return self._reader.in_reasoning

    @property
    def calls(self) -> tuple[tuple[int, str, str], ...]:
        """Index, name and arguments of each call; the last is cut off if `unfinished_call`."""
        return self._written.calls

    @property
    def unfinished_call(self) -> bool:
        return self._reader.unfinished_call

    def feed(self, text: str) -> list[TurnDelta]:
        self._reader.read(text)
        return self._written.take()

    def finish(self) -> list[TurnDelta]:
        self._reader.finish()
        return self._written.take()
