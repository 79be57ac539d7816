"""Medians over rounds, and how far they can be trusted.

The interval is between two order statistics: it needs no assumption on how the values are spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and the bounds that hold the true one with at least CONFIDENCE.

    With fewer than five values no bounds do: they are then the least and the greatest value.
    """

    median: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """The median of `values` with the narrowest symmetric bounds."""
    ordered = sorted(values)
    cut = max((k for k in range(len(ordered) // 2) if _coverage(len(ordered), k)), default=0)
    return Interval(statistics.median(ordered), ordered[cut], ordered[len(ordered) - 1 - cut])


def _coverage(count: int, cut: int) -> bool:
    """Whether the values without `cut` at both ends still hold the median often enough."""
    outside = 2 * sum(comb(count, k) for k in range(cut + 1)) / 2**count
    return 1 - outside >= CONFIDENCE


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
