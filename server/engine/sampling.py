"""The next tokens of a step, each from its row of logits.

The order is llama.cpp's: bias, penalties, mask, top_k, top_p, min_p, temperature. What is drawn
from a row does not depend on the rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from server.engine.backend import Logits
from server.engine.candidates import Finder, Ids, allows, allows_many, best_allowed, best_of
from server.engine.constraint import Mask
from server.engine.protocol import Sampling

# Fewer rows, or rows with so few logits, are each looked at alone.
_FEWEST_TOGETHER = 5
_FEWEST_LOGITS = 1 << 15
# Of more, a core's cache does not hold what is read twice.
_FEW_ROWS = 8
# All rows are read, if so many of them are to be: one thread gains less by that than several do.
_SHARE_FOR_ONE, _SHARE_FOR_TEAM = 3 / 4, 1 / 2
# With more candidates than that, a row is looked at alone.
_LONGEST_LIST = 128
# Random numbers that are made at once.
_ROLLS = 32
# The bits of a double that no float has: there a candidate's id stands behind its logit.
_ID_BITS = (1 << 29) - 1

# Logits with ids in them: both are sorted in one go, and no two are equal.
Keys = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating[Any]]


class Sampler:
    """How one sequence's tokens are drawn; its random state and what it has said are its own."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self.is_greedy = sampling.temperature <= 0
        self.top_k = sampling.top_k
        self.has_few = 0 < sampling.top_k <= _LONGEST_LIST
        power = 0.0 if self.is_greedy else 1 / sampling.temperature
        self.numbers = sampling.top_p, sampling.min_p, power
        self._random = np.random.default_rng(_seed(sampling))
        self._rolls: list[float] = []
        self._penalties = _Penalties(sampling, prompt) if _penalises(sampling) else None
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.intp)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)

    def pick(self, logits: Logits, mask: Mask | None = None) -> int:
        """The next token of one row. It is changed in place."""
        return Picker().pick(logits[np.newaxis], [Turn(0, self, mask)])[0]

    def shape(self, logits: Logits) -> None:
        """Change a row, in place, by what is to be said more or less often than it has it."""
        if len(self._biased):
            logits[self._biased] += self._bias
        if self._penalties is not None:
            self._penalties.apply(logits)

    def roll(self) -> float:
        """0..1, another one each time."""
        if not self._rolls:
            self._rolls = self._random.random(_ROLLS)[::-1].tolist()
        return self._rolls.pop()

    def count(self, token: int) -> None:
        """It was chosen."""
        if self._penalties is not None:
            self._penalties.count(token)


class Turn(NamedTuple):
    """One sequence's in a step: the row of its logits, and what may come."""

    row: int
    sampler: Sampler
    mask: Mask | None = None


class Picker:
    """Chooses the tokens of a step. Owned by the thread that decodes.

    Most rows are looked at together. Where many sequences decode, two dozen calls of numpy for each
    would cost more than what they compute.
    """

    def __init__(self, threads: int = 1) -> None:
        self._finder = Finder(threads)

    def pick(self, logits: Logits, turns: Sequence[Turn]) -> list[int]:
        """The token of each, by ascending rows. These are changed in place."""
        for turn in turns:
            turn.sampler.shape(logits[turn.row])
        tokens = self._together(logits, turns)
        for turn in turns:
            if turn.row not in tokens:
                tokens[turn.row] = _alone(logits[turn.row], turn.sampler, turn.mask)
            turn.sampler.count(tokens[turn.row])
        return [tokens[turn.row] for turn in turns]

    def _together(self, logits: Logits, turns: Sequence[Turn]) -> dict[int, int]:
        """By rows, as far as that can be done and is worth it."""
        tokens: dict[int, int] = {}
        if len(turns) >= _FEWEST_TOGETHER and logits.size >= _FEWEST_LOGITS:
            greedy = [turn for turn in turns if turn.sampler.is_greedy]
            drawing = [turn for turn in turns if _draws_from_few(turn)]
            if self._are_worth_it(greedy, len(logits)):
                tokens |= self._best(logits, greedy)
            if self._are_worth_it(drawing, len(logits)):
                tokens |= self._drawn(logits, drawing)
        return tokens

    def _are_worth_it(self, turns: Sequence[Turn], rows: int) -> bool:
        share = _SHARE_FOR_ONE if self._finder.threads_for(rows) == 1 else _SHARE_FOR_TEAM
        return len(turns) >= share * rows

    def _best(self, logits: Logits, turns: Sequence[Turn]) -> dict[int, int]:
        """Without those whose best token is not allowed."""
        tokens = self._finder.very_best(logits).tolist()
        return {
            turn.row: tokens[turn.row]
            for turn in turns
            if turn.mask is None or allows(turn.mask, tokens[turn.row])
        }

    def _drawn(self, logits: Logits, turns: Sequence[Turn]) -> dict[int, int]:
        """Without those that have no candidates, or none that is a number."""
        counts = [0] * len(logits)
        masks: list[Mask | None] = [None] * len(logits)
        for turn in turns:
            counts[turn.row], masks[turn.row] = turn.sampler.top_k, turn.mask
        at_once = _FEW_ROWS if self._finder.team.size == 1 else len(logits)
        lists = [
            self._lists(logits[some], counts[some], masks[some])
            for some in [slice(row, row + at_once) for row in range(0, len(logits), at_once)]
        ]
        return _draw(turns, _side_by_side(lists)[[turn.row for turn in turns]])

    def _lists(self, logits: Logits, counts: Sequence[int], masks: Sequence[Mask | None]) -> _Lists:
        found = self._finder.best_allowed(logits, counts, masks)
        lengths = np.bincount(found.rows, minlength=len(logits))
        return _Lists(_keys(found.scores, found.ids), lengths)


def _draws_from_few(turn: Turn) -> bool:
    sampler, mask = turn.sampler, turn.mask
    return sampler.has_few and not sampler.is_greedy and (mask is None or allows_many(mask))


class _Lists(NamedTuple):
    """The candidates of some rows, and how many each row has."""

    keys: Keys
    lengths: Ids


def _side_by_side(lists: Sequence[_Lists]) -> Keys:
    """A row for each list, filled up with what is impossible."""
    keys = np.concatenate([each.keys for each in lists])
    lengths = np.concatenate([each.lengths for each in lists])
    longest = max(1, int(lengths.max()))
    grid = np.full((len(lengths), longest), -np.inf)
    grid[np.arange(longest) < lengths[:, np.newaxis]] = keys
    return grid


def _draw(turns: Sequence[Turn], lists: Keys) -> dict[int, int]:
    """As `_alone` does, of all lists at once; by rows."""
    samplers = [turn.sampler for turn in turns]
    counts = [sampler.top_k for sampler in samplers]
    ids, scores = _parts(_descending(lists, max(counts)))
    sound = [math.isfinite(score) for score in scores[:, 0].tolist()]
    if not all(sound):
        scores[np.logical_not(sound)] = 0
    shares = np.exp(scores - scores[:, :1])
    if min(counts) < shares.shape[1]:
        shares[np.arange(shares.shape[1]) >= _column(counts)] = 0
    top_p, min_p, power = np.array([sampler.numbers for sampler in samplers]).T[..., np.newaxis]
    if top_p.min() < 1:
        totals = shares.cumsum(axis=1)
        shares[:, 1:][(totals[:, :-1] >= top_p * totals[:, -1:]) & (top_p < 1)] = 0
    if min_p.max() > 0:
        shares[shares < min_p] = 0
    totals = np.power(shares, power).cumsum(axis=1)
    random = [sampler.roll() if fine else 0 for sampler, fine in zip(samplers, sound, strict=True)]
    places = (totals[:, :-1] <= _column(random) * totals[:, -1:]).sum(axis=1)
    tokens = ids[np.arange(len(ids)), places].tolist()
    drawn = zip(turns, tokens, sound, strict=True)
    return {turn.row: token for turn, token, is_sound in drawn if is_sound}


def _column(values: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(values, np.float64)[:, np.newaxis]


def _alone(logits: Logits, sampler: Sampler, mask: Mask | None) -> int:
    if sampler.is_greedy:
        return _best(logits, mask)
    top_p, min_p, power = sampler.numbers
    if mask is None:
        ids = best_of(logits, sampler.top_k)
    else:
        ids = best_allowed(logits, mask, sampler.top_k)
    scores = logits[ids]
    if sampler.top_k or top_p < 1:
        ascending = _as_keys(ids, scores) if sampler.has_few else scores.argsort()
        order = ascending[::-1][: sampler.top_k or None]
        ids, scores = ids[order], scores[order]
    highest = scores.max(initial=-np.inf)
    if not math.isfinite(highest):
        return _best(logits, mask)
    shares = np.exp(scores - np.float64(highest))
    if top_p < 1:
        totals = shares.cumsum()
        shares = shares[: totals.searchsorted(top_p * totals[-1]) + 1]
    if min_p > 0:
        shares = np.where(shares < min_p, 0, shares)
    totals = np.power(shares, power).cumsum()
    return int(ids[totals.searchsorted(sampler.roll() * totals[-1], side="right")])


def _as_keys(ids: Ids, scores: Logits) -> Ids:
    """The order that their keys would have."""
    return np.lexsort((np.copysign(ids, scores), scores))


def _keys(scores: Scores, ids: Ids) -> Keys:
    keys = scores.astype(np.float64)
    bits = keys.view(np.int64)
    bits |= ids
    return keys


def _descending(keys: Keys, count: int) -> Keys:
    """The first so many; the keys themselves end up ascending."""
    keys.sort(axis=-1)
    return keys[..., : -count - 1 : -1]


def _parts(keys: Keys) -> tuple[Ids, Scores]:
    """Ids and logits."""
    bits = keys.view(np.int64)
    return bits & _ID_BITS, (bits & ~_ID_BITS).view(np.float64)


def _best(logits: Logits, mask: Mask | None) -> int:
    best = int(logits.argmax())
    if mask is None or allows(mask, best):
        return best
    ids = best_allowed(logits, mask, 1)
    if not len(ids):  # what is allowed is impossible
        ids = best_allowed(logits, mask, 0)
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
