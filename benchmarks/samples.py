"""What was measured: one value a round for each case, server and measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.intervals import Interval, interval


@dataclass(frozen=True, slots=True)
class Key:
    """Names one thing that is measured in every round."""

    case: str
    of: str
    measure: str


class Samples:
    """Values by key and round. Comparisons pair the values of one round."""

    def __init__(self) -> None:
        self._values: dict[Key, dict[int, float]] = {}

    def add(self, turn: int, case: str, of: str, **measures: float | None) -> None:
        """Note a round's values; None is what could not be seen in it."""
        for measure, value in measures.items():
            if value is not None:
                self._values.setdefault(Key(case, of, measure), {})[turn] = value

    def summary(self, case: str, of: str, measure: str) -> Interval | None:
        """The median over the rounds, if there is any."""
        values = self._values.get(Key(case, of, measure))
        return interval(list(values.values())) if values else None

    def ratio(self, above: Key, below: Key) -> Interval | None:
        """Of the values of the same rounds."""
        over, under = self._values.get(above, {}), self._values.get(below, {})
        ratios = [over[turn] / under[turn] for turn in over if under.get(turn)]
        return interval(ratios) if ratios else None

    def cases(self) -> list[str]:
        """In the order in which they were first measured."""
        return list(dict.fromkeys(key.case for key in self._values))

    def subjects(self, case: str) -> list[str]:
        """Of whom there are values in a case."""
        return list(dict.fromkeys(key.of for key in self._values if key.case == case))

    def rows(self) -> Iterator[tuple[Key, list[float]]]:
        """Everything, for a file."""
        for key, values in self._values.items():
            yield key, list(values.values())
