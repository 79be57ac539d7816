"""The next token from a row of logits.

The best few are found without sorting or even copying the row: on a vocabulary of 150,000 tokens
that is what makes a token cost microseconds. The order is llama.cpp's: bias, penalties, mask,
top_k, top_p, min_p, temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.engine.backend import Logits
from server.engine.constraint import Mask
from server.engine.protocol import Sampling

# The row as a grid with so many rows: the best of each column is one vector operation away.
_GRID_ROWS = 128
# Of a mask: with so few words that allow something, the tokens are listed; else this many times
# more are looked at than are wanted.
_FEW_WORDS = 256
_MANY = 4

Ids = npt.NDArray[np.intp]


class Sampler:
    """Draws for one sequence; its random state and what it has seen are the sequence's own."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(_seed(sampling))
        self._penalties = _Penalties(sampling, prompt) if _penalises(sampling) else None
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.intp)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)

    def pick(self, logits: Logits, mask: Mask | None = None) -> int:
        """The next token. The row is changed in place."""
        self._shape(logits)
        token = self._draw(logits, mask)
        if self._penalties is not None:
            self._penalties.count(token)
        return token

    def _shape(self, logits: Logits) -> None:
        if len(self._biased):
            logits[self._biased] += self._bias
        if self._penalties is not None:
            self._penalties.apply(logits)

    def _draw(self, logits: Logits, mask: Mask | None) -> int:
        sampling = self._sampling
        if sampling.temperature <= 0:
            return _best(logits, mask)
        if mask is None:
            ids = best_of(logits, sampling.top_k)
        else:
            ids = best_allowed(logits, mask, sampling.top_k)
        scores = logits[ids]
        if sampling.top_k or sampling.top_p < 1:
            order = scores.argsort()[::-1][: sampling.top_k or None]
            ids, scores = ids[order], scores[order]
        highest = scores.max(initial=-np.inf)
        if not math.isfinite(highest):
            return _best(logits, mask)
        shares = np.exp(scores - np.float64(highest))
        if sampling.top_p < 1:
            totals = shares.cumsum()
            shares = shares[: totals.searchsorted(sampling.top_p * totals[-1]) + 1]
        if sampling.min_p > 0:
            shares = np.where(shares < sampling.min_p, 0, shares)
        totals = (shares ** (1 / sampling.temperature)).cumsum()
        return int(ids[totals.searchsorted(self._random.random() * totals[-1], side="right")])


def best_of(logits: Logits, count: int) -> Ids:
    """Ids of the `count` best tokens and perhaps some more, in any order; of 0, all possible ones.

    The best are in those columns of the grid that have the best maxima, and the worst of these
    maxima is a bound that at least `count` tokens reach.
    """
    width, rest = divmod(len(logits), _GRID_ROWS)
    if not 0 < count < len(logits):
        return (logits > -np.inf).nonzero()[0]
    if count >= width:
        return logits.argpartition(-count)[-count:]
    grid = logits[: len(logits) - rest].reshape(_GRID_ROWS, width)
    peaks = grid.max(axis=0)
    columns = peaks.argpartition(width - count)[width - count :]
    bound = max(peaks[columns].min(), _LEAST)
    rows, places = divmod((grid.take(columns, axis=1) >= bound).ravel().nonzero()[0], count)
    ids: Ids = rows * width + columns[places]
    if rest:
        more = (logits[-rest:] >= bound).nonzero()[0] + (len(logits) - rest)
        ids = np.concatenate((ids, more))
    return ids


_LEAST = np.finfo(np.float32).min


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


def _are_in(mask: Mask, ids: Ids) -> npt.NDArray[np.bool_]:
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


def _best(logits: Logits, mask: Mask | None) -> int:
    best = int(logits.argmax())
    if mask is None or int(mask[best >> 5]) >> (best & 31) & 1:
        return best
    ids = best_allowed(logits, mask, 1)
    return int(ids[logits[ids].argmax()])


class _Penalties:
    """What a sequence has said so far, and how much that is held against saying it again.

    Presence and frequency count what was generated, as OpenAI describes them; repetition counts the
    prompt, too (Keskar et al. 2019, section 4.1).
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._places: dict[int, int] = {}
        self._ids = np.zeros(64, np.intp)
        self._counts = np.zeros(64, np.float32)
        if sampling.repetition_penalty != 1:
            for token in dict.fromkeys(prompt):
                self._place(token)

    def count(self, token: int) -> None:
        place = self._place(token)  # it may replace the arrays
        self._counts[place] += 1

    def apply(self, logits: Logits) -> None:
        seen = len(self._places)
        ids, counts = self._ids[:seen], self._counts[:seen]
        scores = logits[ids]
        factor = self._sampling.repetition_penalty
        if factor != 1:
            scores = np.where(scores > 0, scores / factor, scores * factor)
        scores -= counts * self._sampling.frequency_penalty
        scores -= (counts > 0) * np.float32(self._sampling.presence_penalty)
        logits[ids] = scores

    def _place(self, token: int) -> int:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._ids[place] = token
        return place


def _seed(sampling: Sampling) -> int | None:
    """OpenAI's seeds may be negative; numpy's may not."""
    return None if sampling.seed is None else sampling.seed % (1 << 64)


def _penalises(sampling: Sampling) -> bool:
    used = sampling.presence_penalty or sampling.frequency_penalty
    return bool(used) or sampling.repetition_penalty != 1
