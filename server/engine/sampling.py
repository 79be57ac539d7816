"""The next token from a row of logits.

The row is cut to its best few before anything is sorted: on a vocabulary of 150,000 tokens that is
what makes a token cost microseconds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from server.engine.backend import Logits
from server.engine.protocol import Sampling

_FIRST_REACH = 6.0
_WIDEST_REACH = 1e6


class Sampler:
    """Draws for one sequence; its random state is the sequence's own."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)
        self._reach = _FIRST_REACH  # how far below the best logit the top k was last found

    def pick(self, logits: Logits) -> int:
        best = int(logits.argmax())
        highest = float(logits[best])
        if self._sampling.temperature <= 0 or not math.isfinite(highest):
            return best
        ids = self._top(logits, highest)
        scores = logits[ids].astype(np.float64) - highest
        if self._cuts_by_share:
            order = scores.argsort()[::-1]
            kept = order[: self._likely(scores[order])]
            ids, scores = ids[kept], scores[kept]
        totals = np.exp(scores / self._sampling.temperature).cumsum()
        return int(ids[totals.searchsorted(self._random.random() * totals[-1], side="right")])

    def _top(self, logits: Logits, highest: float) -> npt.NDArray[np.intp]:
        """Ids of the top_k best tokens, in any order."""
        wanted = self._sampling.top_k
        if not 0 < wanted < len(logits):
            return (logits > -np.inf).nonzero()[0]
        ids = (logits >= highest - self._reach).nonzero()[0]
        while len(ids) < wanted and self._reach < _WIDEST_REACH:
            self._reach *= 1.5
            ids = (logits >= highest - self._reach).nonzero()[0]
        if len(ids) > 8 * wanted:
            self._reach *= 0.9
        if len(ids) <= wanted:
            return ids
        return ids[logits[ids].argpartition(-wanted)[-wanted:]]

    @property
    def _cuts_by_share(self) -> bool:
        return self._sampling.top_p < 1 or self._sampling.min_p > 0

    def _likely(self, scores: npt.NDArray[np.float64]) -> int:
        """How many of the candidates, best first, top_p and min_p leave; always at least one."""
        shares = np.exp(scores)
        kept = len(shares)
        if self._sampling.top_p < 1:
            totals = shares.cumsum()
            kept = int(totals.searchsorted(self._sampling.top_p * totals[-1])) + 1
        if self._sampling.min_p > 0:
            kept = min(kept, int((shares >= self._sampling.min_p).sum()))
        return max(1, kept)
