"""What the engine is to reach, as ratios on the machine at hand.

A goal is met when the interval of the ratio reaches it, so that a few disturbed rounds decide
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import responsiveness, returning
from benchmarks.concurrency import CEILING, Cell
from benchmarks.intervals import Interval
from benchmarks.samples import Key, Samples

OURS = "ours"
LLAMA_SERVER = "llama-server"
FEWEST_FOR_LATENCY = 4  # runs from which on waiting is compared
HIT = 0.9  # of a returning prompt, what must have been found for its tier to count
LONG_HISTORY = 8000  # of a shorter one, a new question is more than the goal allows
P99_MS = 20.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One ratio, or latency, and its bound."""

    text: str
    found: Interval
    bound: float
    at_least: bool

    @property
    def is_met(self) -> bool:
        return self.found.high >= self.bound if self.at_least else self.found.low <= self.bound


def goals(samples: Samples, cells: Sequence[Cell], histories: Sequence[int]) -> Iterator[Goal]:
    """All goals for which there are values."""
    for cell in cells:
        yield from _shared(samples, cell) if cell.shared else _flowing(samples, cell)
    for history in histories:
        if history >= LONG_HISTORY:
            yield from _returning(samples, history)
    yield from _responding(samples)


def _flowing(samples: Samples, cell: Cell) -> Iterator[Goal]:
    wanted: list[tuple[str, str, float, bool]] = [
        ("decode", CEILING, 0.95, True),
        ("decode", LLAMA_SERVER, 1.0, True),
        ("aggregate", LLAMA_SERVER, 1.0, True),
        ("aggregate", CEILING, 0.93 if cell.runs > 1 else 0.95, True),
    ]
    if cell.runs >= FEWEST_FOR_LATENCY:
        wanted.append(("first_median", LLAMA_SERVER, 1.0, False))
        wanted.append(("first_worst", LLAMA_SERVER, 1.0, False))
    yield from _compared(samples, cell.name, wanted)


def _shared(samples: Samples, cell: Cell) -> Iterator[Goal]:
    yield from _compared(samples, cell.name, [("aggregate", LLAMA_SERVER, 2.0, True)])


def _compared(
    samples: Samples, case: str, wanted: Iterable[tuple[str, str, float, bool]]
) -> Iterator[Goal]:
    for measure, peer, bound, at_least in wanted:
        found = samples.ratio(Key(case, OURS, measure), Key(case, peer, measure))
        if found:
            yield Goal(f"{case}: {MEASURES[measure]} / {peer}", found, bound, at_least)


MEASURES = {
    "decode": "decode",
    "aggregate": "tokens a second in all",
    "first_median": "median first token",
    "first_worst": "worst first token",
}


def _returning(samples: Samples, history: int) -> Iterator[Goal]:
    case = returning.case(history)
    for tier in ("RAM", "disk"):
        share = samples.summary(case, tier, "cached_share")
        found = samples.ratio(
            Key(case, tier, "first_median"), Key(case, returning.FULL_PREFILL, "first_median")
        )
        if found and share:
            missed = "" if share.low >= HIT else " (not found there)"
            yield Goal(f"{case}: from {tier} / full prefill{missed}", found, 0.03, at_least=False)


def _responding(samples: Samples) -> Iterator[Goal]:
    for name in samples.subjects(responsiveness.CASE):
        found = samples.summary(responsiveness.CASE, name, "p99")
        if found and name != "idle":
            yield Goal(f"GET {name}: p99 in ms", found, P99_MS, at_least=False)
