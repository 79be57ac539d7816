"""What several queries found, in several stores, as one list with scores.

Of a query's hits the order is that of their scores, 0..1: how near a hit is, and how much of the
query's words it has (a convex combination: `benchmarks.retrieval` found it better than fusing the
two by rank). Scores of different queries say little of each other, so the lists of several are
fused by rank: a chunk gets 1 / (CONSTANT + rank) from each list in which it has a score at all.
Scores then fall along the fused list: where they would rise, neighbours have their mean (isotonic
regression).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

DEPTH: Final = 100  # chunks that a query may find by each means in a store
CONSTANT: Final = 10  # Cormack et al. 2009 have 60, for lists of a thousand
WORDS: Final = 0.7  # what words count of a score; the rest is nearness
NEW: Final = 0.25  # of a chunk's text; with less it only repeats better ones


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a query found.

    `cosine` is of its nearest window; `coverage` is the share of the query's words that it has,
    0..1. None is what was not looked at.
    """

    store_id: str
    chunk: int
    file_id: str
    start: int
    end: int
    cosine: float | None
    coverage: float | None

    @property
    def key(self) -> tuple[str, int]:
        """Names the chunk, whichever query found it."""
        return self.store_id, self.chunk

    def score(self, unrelated: float) -> float:
        """How much there is to it, 0..1, by what was looked at.

        Nearness is 0 at the cosine of texts that have nothing to do with each other, and 1 for
        the same text.
        """
        if self.cosine is None:
            return self.coverage or 0.0
        nearness = max(0.0, min(1.0, (self.cosine - unrelated) / (1 - unrelated)))
        if self.coverage is None:
            return nearness
        return (1 - WORDS) * nearness + WORDS * self.coverage


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate at its place in the list."""

    candidate: Candidate
    score: float


def ranked(found: Iterable[Sequence[Candidate]], unrelated: float) -> list[Ranked]:
    """One list of what each query found, best first; each chunk once.

    `unrelated` is the cosine of texts that have nothing to do with each other. A chunk whose text
    better hits of its file have already is left out.
    """
    fused: defaultdict[tuple[str, int], float] = defaultdict(float)
    best: dict[tuple[str, int], Ranked] = {}
    for candidates in found:
        hits = [Ranked(each, each.score(unrelated)) for each in candidates]
        for rank, hit in _ranks(hits):
            key = hit.candidate.key
            fused[key] += 1 / (CONSTANT + rank) if hit.score > 0 else 0.0
            best[key] = max(best.get(key, hit), hit, key=_worth)
    order = sorted(sorted(fused), key=lambda key: (fused[key], _worth(best[key])), reverse=True)
    distinct = [*_distinct(best[key] for key in order)]
    scores = falling(hit.score for hit in distinct)
    return [Ranked(hit.candidate, score) for hit, score in zip(distinct, scores, strict=True)]


def falling(values: Iterable[float]) -> list[float]:
    """The nearest values, by least squares, of which none is greater than the one before it."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] < mean:
            held, count = pools.pop()
            mean, size = (held * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]


def _ranks(hits: Iterable[Ranked]) -> Iterator[tuple[int, Ranked]]:
    """From 1; equals share one. Where there is nothing to them, the nearer is still the better."""
    rank, last = 0, (math.inf, math.inf)
    for number, hit in enumerate(sorted(hits, key=_worth, reverse=True), 1):
        if _worth(hit) < last:
            rank, last = number, _worth(hit)
        yield rank, hit


def _worth(hit: Ranked) -> tuple[float, float]:
    cosine = hit.candidate.cosine
    return hit.score, -math.inf if cosine is None else cosine


def _distinct(hits: Iterable[Ranked]) -> Iterator[Ranked]:
    held: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for hit in hits:
        one = hit.candidate
        spans = held[one.store_id, one.file_id]
        if not _repeats(one.start, one.end, spans):
            spans.append((one.start, one.end))
            yield hit


def _repeats(start: int, end: int, held: Iterable[tuple[int, int]]) -> bool:
    """Whether nearly all of a text is in others."""
    new, position = 0, start
    for first, last in sorted(held):
        if first >= end:
            break
        new += max(0, first - position)
        position = max(position, last)
    new += max(0, end - position)
    return new < NEW * (end - start)
