"""What a caller may have in a minute, and at once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import errors
from server.access.limits import Allowance, Bucket, Limits, shown
from tests.support import ManualClock


def allowance(clock: ManualClock, **limits: int) -> Allowance:
    """Of a key with these limits."""
    return Allowance("key_1", Limits(**limits), clock.monotonic)


def test_requests_in_a_minute(clock: ManualClock) -> None:
    """So many at once, then as many as come in with time; a refused one costs nothing."""
    mine = allowance(clock, requests_per_minute=3)
    for _ in range(3):
        mine.take_request()
    for _ in range(5):
        with pytest.raises(errors.TooMany) as caught:
            mine.take_request()
    assert caught.value.message == (
        "Rate limit reached for key_1 on requests per min (RPM): Limit 3, Used 3, Requested 1. "
        "Please try again in 20s."
    )
    assert (caught.value.type, caught.value.code) == ("requests", "rate_limit_exceeded")
    assert caught.value.retry_after == 20
    clock.advance(20)
    mine.take_request()
    with pytest.raises(errors.TooMany):
        mine.take_request()
    clock.advance(3600)
    for _ in range(3):
        mine.take_request()
    with pytest.raises(errors.TooMany):
        mine.take_request()


def test_tokens_in_a_minute(clock: ManualClock) -> None:
    """Who has any may ask; what an answer took beyond them is made good before the next."""
    mine = allowance(clock, tokens_per_minute=600)
    mine.require_tokens()
    mine.charge(900)
    with pytest.raises(errors.TooMany) as caught:
        mine.require_tokens()
    assert caught.value.type == "tokens"
    assert "on tokens per min (TPM): Limit 600, Used 900, Requested 1. " in caught.value.message
    assert caught.value.retry_after == pytest.approx(30.1)
    clock.advance(31)
    mine.require_tokens()


def test_completions_at_once(clock: ManualClock) -> None:
    """One that has ended makes room for the next, and has taken its tokens."""
    mine = allowance(clock, concurrent_runs=2, tokens_per_minute=60)
    mine.begin_completion()
    mine.begin_completion()
    with pytest.raises(errors.TooMany, match="at most 2 chat completions") as caught:
        mine.begin_completion()
    assert caught.value.retry_after == 5
    mine.end_completion(60)
    mine.begin_completion()
    with pytest.raises(errors.TooMany, match="tokens per min"):
        mine.require_tokens()


def test_without_limits(clock: ManualClock) -> None:
    """Nothing is counted, and nothing told."""
    mine = allowance(clock)
    for _ in range(1000):
        mine.take_request()
        mine.require_tokens()
        mine.charge(10**9)
    assert mine.headers() == {}


def test_headers(clock: ManualClock) -> None:
    """The limit, what is left of it, and when it is whole again."""
    mine = allowance(clock, requests_per_minute=60, tokens_per_minute=6000)
    mine.take_request()
    mine.charge(12_000)
    assert mine.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "2m0s",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9996, "60s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3720, "1h2m0s"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    """They are written as Go writes them, and never shorter than they are."""
    assert shown(seconds) == text
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+(\.\d+)?s|\d+ms", text)


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=60),
)
def test_no_more_than_that(per_minute: int, steps: list[tuple[float, bool]]) -> None:
    """However requests come, in no minute are there more than twice as many as allowed.

    A full bucket, and what comes in meanwhile. Who waits as long as he is told has one.
    """
    clock = ManualClock()
    bucket = Bucket(per_minute, clock.monotonic)
    taken: list[float] = []
    for pause, waits in steps:
        clock.ticks += pause
        if waits:
            clock.ticks += bucket.wait(1) + 1e-6
            assert bucket.wait(1) == 0
        while bucket.wait(1) == 0:
            bucket.take(1)
            taken.append(clock.ticks)
    for start in taken:
        assert sum(start <= each < start + 60 for each in taken) <= 2 * per_minute
