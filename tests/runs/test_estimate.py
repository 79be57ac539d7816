"""Counting tokens without a tokenizer."""

from __future__ import annotations

import pytest

from server.chat.values import ChatMessage, ToolCall, ToolSpec
from server.runs.estimate import FIRST_GUESS, TokenEstimate, size_of, size_of_tools


@pytest.mark.parametrize("bytes_a_token", [1.0, 2.5, 6.0])
def test_it_approaches_what_is_counted(bytes_a_token: float) -> None:
    """After some turns the estimate is within a few percent of a tokenizer's count."""
    estimate = TokenEstimate()
    for _ in range(20):
        estimate.learn(3000, round(3000 / bytes_a_token))
    assert estimate.tokens(9000) == pytest.approx(9000 / bytes_a_token, rel=0.03)


@pytest.mark.parametrize(("size", "tokens"), [(100, 100), (1000, 0)])
def test_it_learns_nothing_from_little(size: int, tokens: int) -> None:
    """A short prompt is mostly template, and a count of nothing is none."""
    estimate = TokenEstimate()
    estimate.learn(size, tokens)
    assert estimate.tokens(3000) == 3000 / FIRST_GUESS


def test_one_strange_count_does_not_spoil_it() -> None:
    """A usage that makes no sense moves the estimate by a bounded step."""
    estimate = TokenEstimate()
    estimate.learn(1_000_000, 1)
    assert 500 < estimate.tokens(3000) < 1000


def test_it_grows_when_it_was_too_low() -> None:
    """But not without end."""
    estimate = TokenEstimate()
    before = estimate.tokens(3000)
    estimate.was_too_low()
    assert estimate.tokens(3000) > before
    for _ in range(50):
        estimate.was_too_low()
    assert estimate.tokens(3000) == 6000


def test_everything_that_is_sent_has_a_size() -> None:
    """Text in bytes, calls, what the template adds, and the functions' descriptions."""
    plain = size_of([ChatMessage("user", "four")])
    assert size_of([ChatMessage("user", "vier"), ChatMessage("user", "four")]) == 2 * plain
    assert size_of([ChatMessage("user", "日本")]) == plain + 2
    calls = ChatMessage("assistant", "four", tool_calls=(ToolCall("id", "now", "{}"),))
    assert size_of([calls]) == plain + 5
    assert size_of_tools([]) == 0
    assert size_of_tools([ToolSpec("now", "x" * 100)]) > 100
