"""Samples and goals as Markdown tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.goals import Goal
from benchmarks.intervals import Interval
from benchmarks.samples import Samples

# What is shown of each measure: its heading, its factor, its format.
COLUMNS = {
    "decode": ("decode tokens/s", 1.0, ".1f"),
    "aggregate": ("tokens/s in all", 1.0, ".1f"),
    "first_median": ("first token s, median", 1.0, ".3f"),
    "first_worst": ("first token s, worst", 1.0, ".3f"),
    "cpu_per_step": ("CPU ms a step", 1000.0, ".1f"),
    "api_per_step": ("of it HTTP and database", 1000.0, ".1f"),
    "prompt_tokens": ("prompt tokens", 1.0, ",.0f"),
    "cached_share": ("of these cached", 1.0, ".2f"),
    "while_writing": ("while writing, ms", 1000.0, ".1f"),
    "while_reading": ("while the prompt is read, ms", 1000.0, ".1f"),
    "p50": ("p50 ms", 1.0, ".2f"),
    "p99": ("p99 ms", 1.0, ".2f"),
}
NOT_MEASURED = "–"


def tables(samples: Samples, goals: Sequence[Goal]) -> str:
    """Everything that was measured, and what it says of the goals."""
    lines: list[str] = []
    for cases in _alike(samples):
        lines += [*_table(samples, cases), ""]
    return "\n".join([*lines, *verdicts(goals), ""])


def write_json(
    path: Path, about: Mapping[str, object], samples: Samples, goals: Iterable[Goal]
) -> None:
    """All values, for comparisons between runs."""
    values = [
        {"case": key.case, "of": key.of, "measure": key.measure, "values": found}
        for key, found in samples.rows()
    ]
    judged = [
        {
            "goal": goal.text,
            "median": goal.found.median,
            "low": goal.found.low,
            "high": goal.found.high,
            "bound": goal.bound,
            "met": goal.is_met,
        }
        for goal in goals
    ]
    path.write_text(json.dumps({"about": about, "samples": values, "goals": judged}, indent=1))


def row(*cells: object) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def _alike(samples: Samples) -> list[list[str]]:
    """The cases, those that follow each other and have measures in common together."""
    found: list[list[str]] = []
    for case in samples.cases():
        if found and _measures(samples, [case]) & _measures(samples, found[-1]):
            found[-1].append(case)
        else:
            found.append([case])
    return found


def _measures(samples: Samples, cases: Iterable[str]) -> set[str]:
    return {key.measure for key, _ in samples.rows() if key.case in cases} & COLUMNS.keys()


def _table(samples: Samples, cases: Sequence[str]) -> Iterator[str]:
    measures = _measures(samples, cases)
    shown = [measure for measure in COLUMNS if measure in measures]
    yield row("", "", *(COLUMNS[measure][0] for measure in shown))
    yield row(*("---" for _ in range(len(shown) + 2)))
    for case in cases:
        for subject in samples.subjects(case):
            found = (_shown(measure, samples.summary(case, subject, measure)) for measure in shown)
            yield row(case, subject, *found)


def _shown(measure: str, found: Interval | None) -> str:
    if found is None:
        return NOT_MEASURED
    _, factor, form = COLUMNS[measure]
    return spread(found, form, factor)


def spread(found: Interval, form: str, factor: float = 1.0) -> str:
    """A median with its interval; alone where that is nothing."""
    median, low, high = (
        format(value * factor, form) for value in (found.median, found.low, found.high)
    )
    return median if low == high else f"{median} ({low} – {high})"


def verdicts(goals: Iterable[Goal]) -> Iterator[str]:
    """What was wanted, and what came of it."""
    yield row("goal", "measured", "wanted", "")
    yield row("---", "---", "---", "---")
    for goal in goals:
        sign = "≥" if goal.at_least else "≤"
        met = "met" if goal.is_met else "**missed**"
        yield row(goal.text, spread(goal.found, ".3f"), f"{sign} {goal.bound:g}", met)
