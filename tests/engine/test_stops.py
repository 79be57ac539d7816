"""Stop strings: what is said is exactly what comes before the first of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.stops import StopStrings
from tests.engine.arithmetic import ArithmeticBackend, answer
from tests.engine.serving import Served, talkative_prompts


def say(strings: list[str], pieces: list[bytes]) -> tuple[bytes, bool, list[bytes]]:
    """All that is said, whether a string was found, and what was said at once."""
    stops = StopStrings(strings)
    said = []
    for piece in pieces:
        said.append(stops.feed(piece))
        if stops.found:
            break
    return b"".join([*said, stops.finish()]), stops.found, said


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
        (["本"], "今日木本", "今日木", True),
        (["é"], "caf\u00e8 caf\u00e9", "caf\u00e8 caf", True),
        (["", "x"], "abx", "ab", True),
        ([""], "abc", "abc", False),
        (["x"], "x", "", True),
    ],
)
def test_a_string_is_found_at_every_split(
    strings: list[str], text: str, said: str, found: bool
) -> None:
    """In one piece, in two at any byte, and byte by byte."""
    data = text.encode()
    splits = [[data[:cut], data[cut:]] for cut in range(len(data) + 1)]
    for pieces in [*splits, [data[i : i + 1] for i in range(len(data))]]:
        assert say(strings, pieces)[:2] == (said.encode(), found)


@given(
    st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3),
    st.text("abé", max_size=20),
    st.data(),
)
def test_any_text_is_said_up_to_the_string_that_is_complete_first(
    strings: list[str], text: str, data: st.DataObject
) -> None:
    """Nothing of a string is ever said, and nothing else is held back for long."""
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    said, found, at_once = say(strings, pieces)
    places = [whole.find(string.encode()) for string in strings]
    assert found == any(place >= 0 for place in places)
    assert whole.startswith(said)
    if not found:
        assert said == whole
        longest = max(len(string.encode()) for string in strings)
        assert len(whole) - len(b"".join(at_once)) < longest
    else:
        assert not any(string.encode() in said for string in strings)
        rest = whole[len(said) :]
        assert any(rest.startswith(string.encode()) for string in strings)


def spoken() -> tuple[list[int], bytes]:
    """A prompt, and the forty ASCII bytes that the model answers."""
    prompt = talkative_prompts(1)[0]
    return prompt, bytes(answer(prompt, 40))


def test_a_generation_ends_before_it_says_a_stop_string() -> None:
    """Found across tokens, of which each is one byte here; all of them are counted."""
    prompt, text = spoken()
    served = Served(ArithmeticBackend())
    served.ask(1, prompt, most=40, stop=(text[10:14].decode(), "never"))
    served.run()
    assert served.text[1] == text[:10]
    assert (served.ends[1].reason, served.ends[1].completion_tokens) == ("stop", 14)


@pytest.mark.parametrize("how", ["length", "cancelled"])
def test_what_is_held_back_comes_with_the_end(how: str) -> None:
    """It was no stop string after all."""
    prompt, text = spoken()
    served = Served(ArithmeticBackend())
    stop = text[8:12].decode() + "?"
    served.ask(1, prompt, most=12 if how == "length" else 40, stop=(stop,))
    for _ in range(12):
        served.step()
    if how == "cancelled":
        assert served.text[1] == text[:8]
        served.decoder.cancel(1)
    served.run()
    assert (served.text[1], served.ends[1].reason) == (text[:12], how)
