"""Turns as models write them, read by a parser however they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from server.chat.dialects import HERMES
from server.chat.turn import TurnParser
from server.chat.values import CallArguments, CallStarted, TextDelta, ToolSpec, TurnDelta

NAMES = ("get_weather", "f", "größe")
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "hourly": {"type": "boolean"},
        "near": {"type": "array", "items": {"type": "string"}},
    },
}
TOOLS = tuple(ToolSpec(name, "A function.", PARAMETERS) for name in NAMES)


def parsed(chunks: Iterable[str], dialect: Any = HERMES, **options: Any) -> TurnParser:
    """A finished parser, whose deltas were checked against what it says of the turn."""
    parser = TurnParser(dialect, TOOLS, **options)
    deltas: list[TurnDelta] = [delta for chunk in chunks for delta in parser.feed(chunk)]
    deltas += parser.finish()
    assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == parser.text
    started = [d for d in deltas if isinstance(d, CallStarted)]
    assert [(d.index, d.name) for d in started] == [(i, name) for i, name, _ in parser.calls]
    for index, _, arguments in parser.calls:
        mine = [d for d in deltas if not isinstance(d, TextDelta) and d.index == index]
        assert isinstance(mine[0], CallStarted)
        assert "".join(d.text for d in mine if isinstance(d, CallArguments)) == arguments
    assert all(d.text for d in deltas if not isinstance(d, CallStarted))
    return parser


def cuts(text: str, splits: int) -> Iterator[list[str]]:
    """The text whole, in single characters, and cut in two at every place, or at some."""
    yield [text]
    yield list(text)
    step = max(1, len(text) // splits)
    yield from ([text[:at], text[at:]] for at in range(1, len(text), step))


def seen(
    text: str, splits: int = 1000, **options: Any
) -> tuple[str, list[tuple[str, str]], str, bool]:
    """Text, calls, reasoning and whether a call was cut off; the same for every cut."""
    results = []
    for chunks in cuts(text, splits):
        parser = parsed(chunks, **options)
        calls = [(name, arguments) for _, name, arguments in parser.calls]
        results.append((parser.text, calls, parser.reasoning, parser.unfinished_call))
    assert all(result == results[0] for result in results)
    return results[0]
