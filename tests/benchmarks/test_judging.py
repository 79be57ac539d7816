"""From answers to verdicts: what the engine's benchmark makes of what it saw."""

from __future__ import annotations

import pytest

from benchmarks.answers import Answer
from benchmarks.concurrency import CEILING, Cell, decode_rate
from benchmarks.goals import LLAMA_SERVER, OURS, Goal, goals
from benchmarks.intervals import Interval, interval, percentile
from benchmarks.samples import Key, Samples

CELL = Cell(runs=2, prompt=100, answer=10)


def answer(begun: float, pace: float, tokens: int) -> Answer:
    """An answer whose first token comes at `begun`, the others `pace` seconds after each other."""
    pieces = tuple(begun + pace * number for number in range(tokens))
    return Answer(0.0, pieces, pieces[-1], "", 100, tokens, 0)


def judged(samples: Samples) -> dict[str, bool]:
    """Which goals of CELL are met, by what they compare."""
    return {
        goal.text.partition(": ")[2]: goal.is_met for goal in goals(samples, [CELL], histories=[])
    }


def test_five_rounds_are_bounded_by_the_least_and_the_greatest() -> None:
    """Any narrower bounds would hold the true median too seldom."""
    assert interval([5, 1, 4, 2, 3]) == Interval(3, 1, 5)


def test_more_rounds_leave_the_outliers_out() -> None:
    """From eight values on, the extreme ones are not needed to bound the median."""
    assert interval([1, 2, 3, 4, 5, 6, 7, 1000]) == Interval(4.5, 2, 7)


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """Of a hundred latencies, the 99th percentile is the worst."""
    assert percentile(range(100), 0.99) == 99


def test_decoding_is_measured_while_all_streams_write() -> None:
    """What one stream writes while another waits or has ended is not in the rate."""
    early, late = answer(begun=0.0, pace=0.1, tokens=30), answer(begun=1.0, pace=0.1, tokens=30)
    assert decode_rate([early, late]) == pytest.approx(20, rel=0.1)


def test_streams_that_never_write_together_have_no_rate() -> None:
    """A rate that was not seen is none, not zero."""
    assert decode_rate([answer(0.0, 0.1, 10), answer(5.0, 0.1, 10)]) is None


def test_ratios_compare_values_of_the_same_round() -> None:
    """A machine that is slow for one round is slow for both."""
    samples = Samples()
    for turn, speed in enumerate((100.0, 10.0, 50.0)):
        samples.add(turn, CELL.name, OURS, decode=speed)
        samples.add(turn, CELL.name, CEILING, decode=speed * 2)
    ratio = samples.ratio(Key(CELL.name, OURS, "decode"), Key(CELL.name, CEILING, "decode"))
    assert ratio == Interval(0.5, 0.5, 0.5)


def test_a_goal_is_met_when_the_interval_reaches_it() -> None:
    """A median just short of the bound is not a miss while the interval holds the bound."""
    assert Goal("", Interval(0.9, 0.8, 1.0), 0.95, at_least=True).is_met
    assert not Goal("", Interval(0.9, 0.8, 0.94), 0.95, at_least=True).is_met
    assert Goal("", Interval(1.1, 0.9, 1.3), 1.0, at_least=False).is_met
    assert not Goal("", Interval(1.1, 1.01, 1.3), 1.0, at_least=False).is_met


def test_goals_are_of_what_was_measured() -> None:
    """A peer that is not built leaves its goals out; the others are judged."""
    samples = Samples()
    for turn in range(5):
        samples.add(turn, CELL.name, OURS, decode=90.0, aggregate=80.0)
        samples.add(turn, CELL.name, LLAMA_SERVER, decode=100.0, aggregate=80.0)
    assert judged(samples) == {
        f"decode / {LLAMA_SERVER}": False,
        f"tokens a second in all / {LLAMA_SERVER}": True,
    }
