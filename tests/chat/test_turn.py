"""What a model writes becomes the same text and calls, however it is cut into pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.chat.dialects import HERMES, PLAIN
from server.chat.turn import TurnParser
from server.chat.values import CallArguments, CallStarted, TextDelta
from tests.chat.turns import NAMES, TOOLS, seen

MARKERS = (HERMES.call_open, HERMES.call_close, HERMES.reasoning_open, HERMES.reasoning_close)


def call(name: str, arguments: str) -> str:
    """A call as its family writes it."""
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'


strings = st.one_of(
    st.text(max_size=8),
    st.sampled_from(['{"', "}}", '\\"', "</tool_call>", "<tool_call>", "\\", "]", "é\u2028😀"]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def written_calls(draw: st.DrawFn) -> tuple[str, str, str]:
    """A call as a model may write it, its name and its arguments' text."""
    name = draw(st.sampled_from(NAMES))
    style: dict[str, Any] = {
        "ensure_ascii": draw(st.booleans()),
        "indent": draw(st.sampled_from([None, 2])),
    }
    arguments = json.dumps(draw(st.dictionaries(strings, json_values, max_size=3)), **style)
    fields = [f'"name": {json.dumps(name)}', f'"arguments": {arguments}']
    if draw(st.booleans()):
        fields.append(f'"id": {json.dumps(draw(json_values))}')
    space = draw(st.sampled_from(["", "\n", "  \n"]))
    body = space.join(["{", f",{space}".join(draw(st.permutations(fields))), "}"])
    return f"<tool_call>{space}{body}{space}</tool_call>", name, arguments


texts = (
    st.text(max_size=12) | st.sampled_from(["a < b\n", "<tool", "\n\n", "</", "<think"])
).filter(lambda text: not any(marker in text for marker in MARKERS))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(texts, written_calls()), max_size=3), texts)
def test_any_turn_reads_the_same_however_cut(
    turns: list[tuple[str, tuple[str, str, str]]], last: str
) -> None:
    """Text and calls in any order come back exactly, whole, by characters and at many splits."""
    written = "".join(text + body for text, (body, _, _) in turns) + last
    text = ("".join(text for text, _ in turns) + last).lstrip()
    calls = [(name, arguments) for _, (_, name, arguments) in turns]
    if calls and not last.strip():
        text = text.rstrip()
    assert seen(written, splits=12) == (text, calls, "", False)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*MARKERS, '{"name": "f"', '"arguments": {', "}", ",", " x", "\n"]))
)
@example(["<tool_call>", "<tool_call>", '{"name": "f"', "}", "</tool_call>"])
def test_any_nonsense_reads_the_same_however_cut(parts: list[str]) -> None:
    """Markers and scraps in any order never fail, and never depend on how they are cut."""
    seen("".join(parts), splits=12)


def test_text_is_given_out_at_once() -> None:
    """Only what may be a marker, or white space before one, is held back."""
    parser = TurnParser(HERMES, TOOLS)
    assert parser.feed("Hello") == [TextDelta("Hello")]
    assert parser.feed(" ") == []
    assert parser.feed("you <") == [TextDelta(" you")]
    assert parser.feed("b") == [TextDelta(" <b")]
    assert parser.feed("<tool_cal") == []
    assert parser.feed("m") == [TextDelta("<tool_calm")]


def test_arguments_stream_as_they_are_written() -> None:
    """The name comes once it is known, then the arguments, character by character."""
    parser = TurnParser(HERMES, TOOLS)
    assert parser.feed('<tool_call>{"name": "f') == []
    assert parser.feed('"') == [CallStarted(0, "f")]
    assert parser.feed(', "arguments": {"a') == [CallArguments(0, '{"a')]
    assert parser.feed('": 1') == [CallArguments(0, '": 1')]
    assert parser.feed("}") == [CallArguments(0, "}")]
    assert parser.feed("}</tool_call>") == []
    assert parser.calls == ((0, "f", '{"a": 1}'),)


def test_arguments_before_the_name_wait_for_it() -> None:
    """Arguments are never given out for a call whose name is not known yet."""
    parser = TurnParser(HERMES, TOOLS)
    assert parser.feed('<tool_call>{"arguments": {"a": 1}, "name":') == []
    assert parser.feed(' "f"') == [CallStarted(0, "f"), CallArguments(0, '{"a": 1}')]


def test_several_calls_in_one_turn() -> None:
    """Calls are counted from 0; the text between and around them is one answer."""
    turn = "Let me see.\n" + call("f", "{}") + "\n" + call("get_weather", '{"x": "}"}') + "\n"
    assert seen(turn) == ("Let me see.", [("f", "{}"), ("get_weather", '{"x": "}"}')], "", False)


@pytest.mark.parametrize(
    "written",
    [
        "<tool_call>\nI would call f\n</tool_call>",
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": 5, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f"\n</tool_call>'.replace('"f"', "f"),
        call("unheard_of", '{"a": 1}'),
    ],
)
def test_what_is_no_call_is_text(written: str) -> None:
    """No JSON, no name, or a tool that was not offered: the text is kept as it was written."""
    assert seen(f"So: {written} done") == (f"So: {written} done", [], "", False)


def test_a_call_after_a_broken_one_counts() -> None:
    """Text that was no call does not hide the call behind it."""
    text, calls, _, _ = seen("<tool_call>oops " + call("f", "{}"))
    assert (text, calls) == ("<tool_call>oops", [("f", "{}")])


def test_broken_arguments_are_given_as_written() -> None:
    """A call that was announced keeps what the model wrote, without the call's own brace."""
    assert seen(call("f", '{"a": oops}'))[1] == [("f", '{"a": oops}')]
    assert seen(call("f", "oops"))[1] == [("f", "oops")]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (r'"{\"a\": \"b\\n\"}"', r'{"a": "b\n"}'),
        ('"Paris"', '"Paris"'),
        ("null", "{}"),
        ("17", "17"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_arguments_that_are_no_object(written: str, arguments: str) -> None:
    """An object in a string is unwrapped; nothing is an empty object; the rest stays."""
    assert seen(call("f", written))[1] == [("f", arguments)]


@pytest.mark.parametrize("end", ["}", ",}", ", 5}", " oops"])
def test_a_call_without_arguments(end: str) -> None:
    """It has empty ones, also where it is broken behind its name."""
    assert seen(f'<tool_call>{{"name": "f"{end}</tool_call>')[1] == [("f", "{}")]


def test_a_second_name_or_arguments_is_passed_over() -> None:
    """The first of each counts: it has been given out already."""
    body = '{"name": "f", "name": "x", "arguments": {"a": 1}, "arguments": {}}'
    assert seen(f"<tool_call>{body}</tool_call>")[1] == [("f", '{"a": 1}')]


@pytest.mark.parametrize("end", ["", "\n", "}", "}\n</tool_call>", "\n</tool_"])
def test_a_call_may_lack_its_close_or_have_a_brace_too_many(end: str) -> None:
    """The object's end is the call's end, and what is left of the markup is not text."""
    assert seen('<tool_call>{"name": "f", "arguments": {}}' + end) == ("", [("f", "{}")], "", False)


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ("<tool_call>", []),
        ('<tool_call>\n{"na', []),
        ('<tool_call>\n{"name": "f", "argu', [("f", "")]),
        ('<tool_call>\n{"name": "f", "arguments": {"a": "b', [("f", '{"a": "b')]),
    ],
)
def test_a_call_cut_off_is_reported(written: str, calls: list[tuple[str, str]]) -> None:
    """A turn that ends inside a call says so and shows no markup."""
    assert seen("Wait. " + written) == ("Wait.", calls, "", True)


def test_a_marker_cut_off_is_text() -> None:
    """At the end of the turn it cannot become a marker any more."""
    assert seen("a <tool_") == ("a <tool_", [], "", False)


def test_reasoning_is_kept_apart() -> None:
    """Reasoning before the answer is not in the text; white space around it is nobody's."""
    turn = "\n<think>\nHm <tool_call>.\n</think>\n\nYes.\n" + call("f", "{}")
    assert seen(turn) == ("Yes.", [("f", "{}")], "\nHm <tool_call>.\n", False)
    assert seen("<think>never ends") == ("", [], "never ends", False)
    assert seen("Hm</think>Yes.", in_reasoning=True) == ("Yes.", [], "Hm", False)


def test_reasoning_later_in_the_turn_is_text() -> None:
    """Only a turn that begins with the marker has reasoning."""
    assert seen("Write <think> like this")[0] == "Write <think> like this"


def test_a_dialect_without_calls_has_only_text() -> None:
    """There, tool markup is text like any other."""
    turn = "<think>a</think>b " + call("f", "{}") + "\n"
    assert seen(turn, dialect=PLAIN) == ("b " + call("f", "{}") + "\n", [], "a", False)
