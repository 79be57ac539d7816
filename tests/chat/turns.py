"""Turns as models write them, read by a parser however they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

# As Mistral's templates do: the turns of user and assistant must alternate, the user's first, and
# calls and their results do not count.
STRICT_TEMPLATE = (
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% set ns = namespace(index=0) %}{% for m in turns if m.role != 'tool' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (ns.index % 2 == 0) %}{{ raise_exception('no turns') }}{% endif %}"
    "{% set ns.index = ns.index + 1 %}{% endfor %}"
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}[TOOL_CALLS][{% for call in m.tool_calls %}{{ call.function | tojson }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}]</s>"
    "{% elif m.role == 'assistant' %}{{ m.content }}</s>"
    "{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}"
)


def parsed(
    chunks: Iterable[str],
    dialect: Any = HERMES,
    tools: Sequence[ToolSpec] = TOOLS,
    **options: Any,
) -> TurnParser:
    """A finished parser, whose deltas were checked against what it says of the turn."""
    parser = TurnParser(dialect, tools, **options)
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
