"""The stream of training batches: documents as tokens, in rows of like length.

One document a row, so nothing leaks from one conversation into the next. The stream depends on
the seed, the rank and the size of a batch alone, and goes on from any place in it.
"""

import logging
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

import numpy as np
import tokenizer as vocabulary
import torch
from corpus import conversation, is_held
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

log = logging.getLogger(__name__)
SHARE = 16  # tokens of a batch for a document of the pool from which batches are cut
PROMPT_SHARE = 0.15  # of the loss, for the tokens that are not the assistant's
EVERY = 4  # so many of those, one is counted
FAILED = "Traceback (most recent call last):"
STEPS = ((256, 16), (512, 32), (1024, 64))  # lengths of rows to these are multiples of that
LONGEST_STEP = 128


@dataclass(frozen=True, slots=True)
class Row:
    """A document as tokens, with the weight of each as a target; whether the network is held to
    it; and where its branches begin, if it has any: each goes on from what stands before the
    first.
    """

    ids: list[int]
    weights: list[float]
    is_held: bool
    forks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Padded:
    """Rows of one length: tokens (rows, length); the places, counted through all rows, whose
    next tokens are targets, with their weights; which rows are of documents that the network
    is held to (rows); and the branch of each token, 0 where all branches see it (rows, length).
    """

    tokens: NDArray[np.int16]
    places: NDArray[np.int32]
    weights: NDArray[np.float32]
    held: NDArray[np.bool_]
    branches: NDArray[np.int16]

    def only(self, chosen: NDArray[np.bool_]) -> "Padded":
        """Those rows (rows), as if there were no others."""
        length = self.tokens.shape[1]
        rows, columns = np.divmod(self.places, length)
        kept = chosen[rows]
        places = ((chosen.cumsum() - 1)[rows] * length + columns)[kept].astype(np.int32)
        return Padded(
            self.tokens[chosen],
            places,
            self.weights[kept],
            self.held[chosen],
            self.branches[chosen],
        )

    def unpadded(self, chosen: NDArray[np.bool_]) -> Iterator[Row]:
        """The rows up to their last targets, with the chosen branches alone (rows, branches; of a
        row that has none, 0). Rows of which nothing is chosen, or without targets, are left out.
        """
        length = self.tokens.shape[1]
        weights = np.zeros((len(self.tokens), length), dtype=np.float32)
        rows, columns = np.divmod(self.places, length)
        weights[rows, columns + 1] = self.weights
        for number in np.flatnonzero(chosen.any(axis=1)):
            branches = self.branches[number]
            kept = (branches == 0) | chosen[number][branches]
            targets = np.flatnonzero(kept & (weights[number] > 0))
            if len(targets):
                kept[targets[-1] + 1 :] = False
                yield Row(
                    self.tokens[number][kept].tolist(),
                    weights[number][kept].tolist(),
                    bool(self.held[number]),
                    tuple(np.flatnonzero(np.diff(branches[kept], prepend=0)).tolist()),
                )

    def positions(self) -> NDArray[np.int16]:
        """Of each token in what it sees: a branch follows what all see (rows, length)."""
        places = np.broadcast_to(np.arange(self.tokens.shape[1]), self.tokens.shape)
        begins = np.diff(self.branches, axis=1, prepend=0) > 0
        begun = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        shared = (self.branches == 0).sum(axis=1, keepdims=True)
        return np.where(self.branches == 0, places, places - begun + shared).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Batch:
    """The same on a device: all rows in one, filled up with padding. `hidden`, where rows have
    branches, is minus infinity where a token does not see one of its row, and 0 where it does
    (rows, 1, length, length).
    """

    tokens: Tensor
    rows: int
    length: int
    places: Tensor
    weights: Tensor
    held: Tensor  # which of the places are of held rows
    positions: Tensor
    hidden: Tensor | None


def moved(made: Padded, device: torch.device, size: int = 0) -> Batch:
    """To the device, filled up to that many tokens, so that the shape follows from the length of
    the rows alone; nothing there is waited for.
    """
    rows, length = made.tokens.shape
    rows = size // length if size else rows
    filled = made.tokens.size
    tokens = np.zeros(max(size, filled), dtype=np.int16)
    tokens[:filled] = made.tokens.ravel()
    positions, unseen = torch.arange(len(tokens), device=device) % length, None
    if made.branches.any():
        branches = np.zeros((rows, length), dtype=np.int16)
        branches[: len(made.branches)] = made.branches
        positions[:filled] = sent(made.positions().ravel(), device)
        unseen = hidden(sent(branches, device))
    return Batch(
        sent(tokens, device).long(),
        rows,
        length,
        sent(made.places, device).long(),
        sent(made.weights, device),
        sent(made.held[made.places // length], device),
        positions,
        unseen,
    )


def hidden(branches: Tensor) -> Tensor:
    """A token sees what comes before it in its own branch, and what comes before all branches."""
    length = branches.shape[1]
    own = branches.unsqueeze(2) == branches.unsqueeze(1)
    shared = (branches == 0).unsqueeze(1)
    before = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    seen = ((own | shared) & before).unsqueeze(1)
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float("-inf"))


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Rows:
    """Turns documents into token ids and the weight of each as a target."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self.tokenizer = tokenizer
        self.longest = longest
        self.turn_start = tokenizer.token_to_id(vocabulary.TURN_START)
        self.turn_end = tokenizer.token_to_id(vocabulary.TURN_END)
        self.answer_start = tokenizer.encode("assistant\n").ids
        self.failed = tokenizer.encode(FAILED).ids

    def row(self, texts: tuple[str, ...], is_held: bool) -> Row:
        """Of a document; or of what all its branches go on from, and of those that there is room
        for.
        """
        opening, *branches = texts
        ids = self.tokenizer.encode(opening if branches else opening.rstrip("\n")).ids
        forks = []
        for branch in branches:
            more = self.tokenizer.encode(branch.rstrip("\n")).ids
            if len(ids) + len(more) <= self.longest:
                forks.append(len(ids))
                ids += more
        ids = ids[: self.longest]
        weights = self.weights(ids)
        for place in forks:  # the token before it in the row may be another branch's
            weights[place] = 0.0
        return Row(ids, weights, is_held, tuple(forks))

    def weights(self, ids: list[int]) -> list[float]:
        """One for what the assistant says with the mark that ends it, little for the rest.

        A program that fails is there to be mended, and is not to be learned.
        """
        said = [place for span in self.answers(ids) for place in span]
        others = max(1, (len(ids) - len(said)) // EVERY)
        little = min(PROMPT_SHARE, PROMPT_SHARE * len(said) / others)
        weights = [0.0 if place % EVERY else little for place in range(len(ids))]
        for place in said:
            weights[place] = 1.0
        return weights

    def answers(self, ids: list[int]) -> Iterator[range]:
        """The places of each answer that is to be learned."""
        starts = [place for place, token in enumerate(ids) if token == self.turn_start]
        ends = [*starts[1:], len(ids), len(ids)]
        for number, start in enumerate(starts):
            said = start + 1 + len(self.answer_start)
            end, following = ends[number], ids[ends[number] : ends[number + 1]]
            if ids[start + 1 : said] == self.answer_start and not self.fails(following):
                stop = end if end == len(ids) else ids.index(self.turn_end, said) + 1
                yield range(said, stop)

    def fails(self, turn: list[int]) -> bool:
        """Whether this turn says that the program before it has failed."""
        size = len(self.failed)
        return any(turn[place : place + size] == self.failed for place in range(3, 12))


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream has come: batches of a pool of documents."""

    pool: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """The share of one process in the documents of a seed."""

    vocabulary: Path
    longest: int  # tokens of a row
    seed: int
    rank: int
    processes: int
    tokens: int  # in a batch, padding included
    first: int = 0  # number of its first document

    def batches(self, place: Place, workers: int) -> Iterator[tuple[Padded, Place]]:
        """Each batch with the place behind it; pools are made ahead by so many other processes."""
        passed = place.batch
        for pool, made in zip(count(place.pool), self.pools(place.pool, workers), strict=False):
            for number, batch in enumerate(made[passed:], passed + 1):
                yield batch, Place(pool, number)
            passed = 0

    def pools(self, first: int, workers: int) -> Iterator[list[Padded]]:
        if not workers:
            yield from map(self.pool, count(first))
            return
        # Spawned: a process that has begun to use a GPU must not be forked.
        with get_context("spawn").Pool(workers) as processes:
            coming: deque[AsyncResult[list[Padded]]] = deque()
            for pool in count(first):
                coming.append(processes.apply_async(self.pool, (pool,)))
                if len(coming) > workers:
                    yield coming.popleft().get()

    def texts(self, number: int) -> tuple[str, ...]:
        """Of a document; none for one that cannot be made, which is told: of millions one that
        meets a fault of the corpus must not end hours of training.
        """
        try:
            return conversation(self.seed, number).texts()
        except Exception:
            log.exception("Document %d of seed %d cannot be made", number, self.seed)
            return ()

    def pool(self, number: int) -> list[Padded]:
        """The batches of a pool in their order: rows of like length together."""
        rows = Rows(vocabulary.load(self.vocabulary), self.longest)
        size = self.tokens // SHARE
        first = self.first + number * size * self.processes + self.rank
        documents = range(first, first + size * self.processes, self.processes)
        made = (
            rows.row(texts, is_held(number))
            for number in documents
            if (texts := self.texts(number))
        )
        pooled = sorted(made, key=len)
        groups = list(cut(pooled, self.tokens))
        random.Random(f"{self.seed}/batches/{self.rank}/{number}").shuffle(groups)
        return [padded(group) for group in groups]


def cut(pool: list[Row], tokens: int) -> Iterator[list[Row]]:
    """Groups whose padded size stays within the number of tokens."""
    group: list[Row] = []
    for row in pool:
        if group and (len(group) + 1) * rounded(len(row)) > tokens:
            yield group
            group = []
        group.append(row)
    yield group


def rounded(length: int) -> int:
    """A few lengths, some 3 % apart: a GPU has to get used to each."""
    step = next((step for most, step in STEPS if length <= most), LONGEST_STEP)
    return -(-length // step) * step


def padded(group: list[Row]) -> Padded:
    length = rounded(max(map(len, group)))
    tokens, begins = np.zeros((2, len(group), length), dtype=np.int16)
    weights = np.zeros((len(group), length), dtype=np.float32)
    for place, row in enumerate(group):
        tokens[place, : len(row)] = row.ids
        weights[place, : len(row) - 1] = row.weights[1:]
        begins[place, list(row.forks)] = 1
    places = np.flatnonzero(weights).astype(np.int32)
    held = np.array([row.is_held for row in group])
    branches = begins.cumsum(axis=1, dtype=np.int16)
    return Padded(tokens, places, weights.ravel()[places], held, branches)
