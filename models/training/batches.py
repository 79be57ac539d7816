"""The stream of training batches: documents as tokens, in rows of like length.

One document a row, so nothing leaks from one conversation into the next. The stream depends on
the seed and the rank alone; to go on after step n, its first n batches are drawn and dropped.
"""

import random
from collections.abc import Iterator

import tokenizer as vocabulary
import torch
from corpus import document
from tokenizers import Tokenizer
from torch import Tensor

POOL = 384  # documents that are sorted by length and cut into batches together
PROMPT_WEIGHT = 0.1  # of the loss on prompt tokens, of which every fourth is counted
Row = tuple[list[int], list[float]]
Batch = tuple[Tensor, Tensor, Tensor]


class Rows:
    """Turns documents into token ids and the weight of each as a target."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self.tokenizer = tokenizer
        self.longest = longest
        self.turn_start = tokenizer.token_to_id(vocabulary.TURN_START)
        self.turn_end = tokenizer.token_to_id(vocabulary.TURN_END)
        self.answer_start = [self.turn_start, *tokenizer.encode("assistant\n").ids]

    def row(self, text: str) -> Row:
        ids = self.tokenizer.encode(text.rstrip("\n")).ids[: self.longest]
        return ids, self.weights(ids)

    def weights(self, ids: list[int]) -> list[float]:
        """One for what the assistant says with the mark that ends it, little for the rest."""
        weights = [0.0 if place % 4 else PROMPT_WEIGHT for place in range(len(ids))]
        size = len(self.answer_start)
        saying = False
        for place, token in enumerate(ids):
            if saying:
                weights[place] = 1.0
                saying = token != self.turn_end
            elif ids[place + 1 - size : place + 1] == self.answer_start:
                saying = True
        return weights


def batches(rows: Rows, seed: int, rank: int, world: int, tokens: int) -> Iterator[Batch]:
    number = rank
    order = random.Random(f"{seed}/batches/{rank}")
    while True:
        numbers = range(number, number + POOL * world, world)
        number += POOL * world
        pool = sorted((rows.row(document(seed, n)) for n in numbers), key=lambda row: len(row[0]))
        cuts = list(cut(pool, tokens))
        order.shuffle(cuts)
        yield from (padded(group) for group in cuts)


def cut(pool: list[Row], tokens: int) -> Iterator[list[Row]]:
    """Groups whose padded size stays within the number of tokens."""
    group: list[Row] = []
    for row in pool:
        if group and (len(group) + 1) * len(row[0]) > tokens:
            yield group
            group = []
        group.append(row)
    yield group


def padded(group: list[Row]) -> Batch:
    length = -(-max(len(ids) for ids, _ in group) // 16) * 16
    tokens = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.zeros_like(tokens)
    weights = torch.zeros(len(group), length)
    for place, (ids, weight) in enumerate(group):
        size = len(ids)
        tokens[place, :size] = torch.tensor(ids)
        targets[place, : size - 1] = torch.tensor(ids[1:])
        weights[place, : size - 1] = torch.tensor(weight[1:])
    return tokens, targets, weights
