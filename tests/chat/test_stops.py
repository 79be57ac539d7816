"""Stop strings: what is said is exactly what comes before the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.stops import StopStrings
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta


def say(strings: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool, list[str]]:
    """All that is said, whether a string was found, and what was said at once."""
    stops = StopStrings(strings)
    said = [
        delta.text
        for piece in pieces
        for delta in stops.before([TextDelta(piece)])
        if isinstance(delta, TextDelta)
    ]
    assert "" not in said
    return "".join([*said, *(delta.text for delta in stops.finish())]), stops.found, said


@pytest.mark.parametrize(
    ("strings", "text", "said", "found"),
    [
        (["END"], "to the END of it", "to the ", True),
        (["END"], "to the EN", "to the EN", False),
        (["END"], "ENENEND", "ENEN", True),
        (["aab"], "aaaab", "aa", True),
        (["abcd", "bc"], "xabcx", "xa", True),
        (["bc", "abcd"], "xabdx", "xabdx", False),
        (["\n\n"], "a\nb\n\nc", "a\nb", True),
        (["日本"], "今日本日", "今", True),
        (["", "x"], "abx", "ab", True),
        ([""], "abc", "abc", False),
        (["x"], "x", "", True),
        ([], "abc", "abc", False),
    ],
)
def test_a_string_is_found_at_every_split(
    strings: list[str], text: str, said: str, found: bool
) -> None:
    """In one delta, in two, and letter by letter."""
    splits = [[text[:cut], text[cut:]] for cut in range(1, len(text))]
    for pieces in [[text], *splits, list(text)]:
        assert say(strings, pieces)[:2] == (said, found)


@given(
    st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3),
    st.text("abé", max_size=20),
    st.data(),
)
def test_any_text_is_said_up_to_the_string_that_is_complete_first(
    strings: list[str], text: str, data: st.DataObject
) -> None:
    """Nothing of a string is ever said, and nothing else is held back for long."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)]) if a < b]
    said, found, at_once = say(strings, pieces)
    assert found == any(string in text for string in strings)
    assert text.startswith(said)
    if not found:
        assert said == text
        assert len(text) - len("".join(at_once)) < max(map(len, strings))
    else:
        assert not any(string in said for string in strings)
        assert any(text.startswith(string, len(said)) for string in strings)


def test_a_call_is_no_place_to_stop() -> None:
    """What waited before it was no beginning of a string, and behind it nothing ends the turn."""
    call: list[TurnDelta] = [CallStarted(0, "f"), CallArguments(0, '{"a": "END"}')]
    stops = StopStrings(["END"])
    deltas = [TextDelta("The EN"), *call, TextDelta("END")]
    told = list(stops.before(deltas))
    assert told == [TextDelta("The "), TextDelta("EN"), *call, TextDelta("END")]
    assert (list(stops.finish()), stops.found) == ([], False)


def test_nothing_is_told_behind_the_string() -> None:
    """Of the deltas that it comes with, nor of any that come later."""
    stops = StopStrings(["END"])
    assert list(stops.before([TextDelta("a END b"), CallStarted(0, "f")])) == [TextDelta("a ")]
    assert list(stops.before([TextDelta("more")])) == []
    assert list(stops.finish()) == []
