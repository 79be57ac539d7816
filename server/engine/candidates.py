"""The best tokens of rows of logits, found without sorting or even copying a row.

On a vocabulary of 150,000 tokens that is what makes a token cost microseconds. Several rows are
looked at by the same few calls of numpy, the longest of which threads can share.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engine.backend import Logits
from server.engine.constraint import Mask
from server.engine.team import Team

# A row is a grid with so many lines at most: the best of each column is one vector operation away.
_LINES = 64
_LINES_ALONE = 128
# So many columns for each token that is wanted: then few of the best share one.
_SPREAD = 5
# With fewer, what threads win by reading is lost by waking and waiting for each other.
_ROWS_WORTH_A_THREAD = 8
# In one call, so that what comes of it is in memory that is at hand.
_ROWS_AT_ONCE = 8
_COLUMNS_AT_ONCE = 400
# Of a mask: with so few words that allow something, the tokens are listed; else this many times
# more are looked at than are wanted.
_FEW_WORDS = 256
_MANY = 4

Ids = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

_LEAST = float(np.finfo(np.float32).min)


class Found(NamedTuple):
    """Tokens of several rows, row by row: where each stands, and its logit."""

    rows: Ids
    ids: Ids
    scores: Logits

    def only(self, kept: Flags | Ids) -> Found:
        return Found(self.rows[kept], self.ids[kept], self.scores[kept])


class Finder:
    """Looks at the rows of a step, whose candidates it finds. Owned by one thread."""

    def __init__(self, threads: int = 1) -> None:
        self.team = Team(threads)
        self._peaks, self._values = _Scratch(), _Scratch()

    def best(self, logits: Logits, counts: Sequence[int]) -> Found:
        """So many of the best tokens of each row and perhaps some more, but nothing impossible.

        The n-th best of some columns' maxima is a bound that at least n tokens reach; they are in
        those columns that reach it. Of a row of which none are wanted nothing is found, nor of one
        where far more than that are equally good: a broken model's, which must not hold up others.

        What reads the rows is shared by the team. With all else its threads would only hold each
        other up, since each call of numpy gives the interpreter's lock away and takes it back.
        """
        size, wanted = logits.shape[1], _SPREAD * max(1, *counts)
        lines = min(_LINES, max(1, size // wanted))
        width = size // lines
        grid = logits[:, : lines * width].reshape(len(logits), lines, width)
        peaks = self._highest(grid)
        bounds = _bounds(peaks, counts, max(1, width // wanted))
        reached = peaks >= bounds
        crowded = np.count_nonzero(reached, axis=1) > wanted
        bounds[crowded], reached[crowded] = np.inf, False
        rows, columns = np.divmod(_places(reached), width)
        values = self._read(grid, rows, columns)
        best = _places(values >= bounds[rows])
        hits, heights = np.divmod(best, lines)
        found = Found(rows[hits], heights * width + columns[hits], values.ravel()[best])
        return found if lines * width == size else _with_rest(found, logits, lines * width, bounds)

    def very_best(self, logits: Logits) -> Ids:
        """The best token of each row."""
        slices = self._slices(len(logits), len(logits), _ROWS_AT_ONCE)
        return np.concatenate(self.team.each(lambda some: logits[some].argmax(axis=1), slices))

    def best_allowed(
        self, logits: Logits, counts: Sequence[int], masks: Sequence[Mask | None]
    ) -> Found:
        """The same of what masks allow; nothing of a row if too few of its best are allowed."""
        if all(mask is None for mask in masks):
            return self.best(logits, counts)
        more = [
            count if mask is None else _MANY * count
            for count, mask in zip(counts, masks, strict=True)
        ]
        found = self.best(logits, more)
        ends = np.bincount(found.rows, minlength=len(masks)).cumsum()
        kept = np.ones(len(found.rows), np.bool_)
        for mask, count, start, end in zip(masks, counts, [0, *ends], ends, strict=False):
            if mask is not None:
                allowed = _are_in(mask, found.ids[start:end])
                kept[start:end] = allowed & (np.count_nonzero(allowed) >= count)
        return found.only(kept)

    def _highest(self, grid: Logits) -> Logits:
        """Of each column."""
        rows, _, width = grid.shape
        peaks = self._peaks.of(rows, width)

        def fold(some: slice) -> None:
            np.fmax.reduce(grid[some], axis=1, initial=-np.inf, out=peaks[some])

        self.team.each(fold, self._slices(rows, rows, _ROWS_AT_ONCE))
        return peaks

    def _read(self, grid: Logits, rows: Ids, columns: Ids) -> Logits:
        """These columns."""
        slices = self._slices(len(grid), len(rows), _COLUMNS_AT_ONCE)
        if len(slices) == 1:
            return grid[rows, :, columns]
        values = self._values.of(len(rows), grid.shape[1])

        def read(some: slice) -> None:
            values[some] = grid[rows[some], :, columns[some]]

        self.team.each(read, slices)
        return values

    def threads_for(self, rows: int) -> int:
        """How many of the team so many rows are worth."""
        return min(self.team.size, max(1, rows // _ROWS_WORTH_A_THREAD))

    def _slices(self, rows: int, pieces: int, most: int) -> list[slice]:
        return _slices(pieces, max(self.threads_for(rows), -(-pieces // most)))


class _Scratch:
    """Memory that is used again: new one each time would cost as much as what is computed."""

    def __init__(self) -> None:
        self._all = np.zeros(0, np.float32)

    def of(self, rows: int, width: int) -> Logits:
        if self._all.size < rows * width:
            self._all = np.zeros(rows * width, np.float32)
        return self._all[: rows * width].reshape(rows, width)


def _slices(length: int, parts: int) -> list[slice]:
    ends = [length * part // parts for part in range(parts + 1)]
    return [slice(*each) for each in pairwise(ends)]


def _bounds(peaks: Logits, counts: Sequence[int], lines: int) -> Logits:
    """One for each row. To find it sooner, it is taken from the maxima of some columns each."""
    width = peaks.shape[1] // lines
    grid = peaks[:, : lines * width].reshape(len(peaks), lines, width)
    highest = np.maximum.reduce(grid, axis=1)
    highest.sort(axis=1)
    if len({*counts}) == 1:  # nearly always
        return _bound(highest, counts[0])[:, np.newaxis]
    bounds = [_bound(highest[row : row + 1], count) for row, count in enumerate(counts)]
    return np.array(bounds, np.float32)


def _bound(ascending: Logits, count: int) -> Logits:
    if count == 0:
        return np.full(len(ascending), np.inf, np.float32)
    if count > ascending.shape[1]:
        return np.full(len(ascending), _LEAST, np.float32)
    bounds: Logits = np.maximum(ascending[:, -count], _LEAST)
    return bounds


def _places(flags: Flags) -> Ids:
    """Of those that are set, in all rows together. By both indices, numpy takes far longer."""
    return flags.ravel().nonzero()[0]


def _with_rest(found: Found, logits: Logits, start: int, bounds: Logits) -> Found:
    """And what is behind the grid."""
    rest = logits[:, start:]
    rows, places = (rest >= bounds).nonzero()
    more = Found(rows, places + start, rest[rows, places])
    together = Found(
        np.concatenate((found.rows, more.rows)),
        np.concatenate((found.ids, more.ids)),
        np.concatenate((found.scores, more.scores)),
    )
    return together.only(together.rows.argsort(kind="stable"))


def best_of(logits: Logits, count: int) -> Ids:
    """Ids of a row's best tokens, likewise; of 0, of all that are possible.

    For one row alone this takes fewer calls, each of which costs more than what it computes.
    """
    width, rest = divmod(len(logits), _LINES_ALONE)
    if not 0 < count < len(logits):
        return (logits > -np.inf).nonzero()[0]
    if count >= width:
        bound = -np.partition(-logits, count - 1)[count - 1]
        return _places(logits >= np.fmax(bound, _LEAST))
    grid = logits[: len(logits) - rest].reshape(_LINES_ALONE, width)
    peaks = np.fmax.reduce(grid, axis=0, initial=-np.inf)
    bound = max(np.partition(peaks, width - count)[width - count], _LEAST)
    columns = (peaks >= bound).nonzero()[0]
    lines, places = np.divmod(_places(grid.take(columns, axis=1) >= bound), len(columns))
    ids: Ids = lines * width + columns[places]
    if rest:
        more = (logits[-rest:] >= bound).nonzero()[0] + (len(logits) - rest)
        ids = np.concatenate((ids, more))
    return ids


def best_allowed(logits: Logits, mask: Mask, count: int) -> Ids:
    """Ids of the `count` best tokens of a mask and perhaps some more; of 0, all of them.

    A mask allows either few tokens, as where a number goes on, or nearly all, as in a text. Then
    some more than so many of the best are looked at: if enough of them are allowed, those are it.
    """
    words = mask.nonzero()[0]
    if count and len(words) > _FEW_WORDS:
        best = best_of(logits, _MANY * count)
        allowed: Ids = best[_are_in(mask, best)]
        if len(allowed) >= count:
            return allowed
    ids = _ids_in(mask, words)
    return _best_among(ids, logits, count) if len(ids) > _MANY * count > 0 else ids


def allows_many(mask: Mask) -> bool:
    """Whether its tokens are not worth listing."""
    return bool(np.count_nonzero(mask) > _FEW_WORDS)


def allows(mask: Mask, token: int) -> bool:
    return bool(int(mask[token >> 5]) >> (token & 31) & 1)


def _are_in(mask: Mask, ids: Ids) -> Flags:
    bits: npt.NDArray[np.uint32] = mask[ids >> 5] >> (ids & 31).astype(np.uint32)
    return (bits & 1).astype(np.bool_)


def _best_among(ids: Ids, logits: Logits, count: int) -> Ids:
    best: Ids = ids[best_of(logits[ids], count)]
    return best


def _ids_in(mask: Mask, words: Ids) -> Ids:
    """Of the bits that are set in these words of it."""
    bits = np.unpackbits(mask[words].view(np.uint8), bitorder="little").nonzero()[0]
    ids: Ids = (words[bits >> 5] << 5) + (bits & 31)
    return ids
