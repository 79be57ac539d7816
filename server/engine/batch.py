"""The tokens of one decode step, as arrays that llama.cpp reads in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """The next tokens of one sequence; `output` asks for the logits after the last one."""

    slot: int
    position: int
    tokens: Sequence[int]
    output: bool


class Batch:
    """Filled anew for every step by the decode loop, which owns it."""

    def __init__(self, capacity: int) -> None:
        self.size = 0
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.slots = np.zeros(capacity, np.int32)
        self.outputs = np.zeros(capacity, np.int8)
        # llama.cpp allows a token many sequences; here each has one, at the address of its entry.
        self.slot_counts = np.ones(capacity, np.int32)
        self.slot_addresses = (
            np.arange(capacity, dtype=np.uintp) * self.slots.itemsize + self.slots.ctypes.data
        ).astype(np.uintp)

    def fill(self, parts: Iterable[Part]) -> list[int]:
        """Replace the content; returns each part's last row, where its logits may be."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        outputs: list[bool] = []
        rows = []
        for slot, position, new, output in parts:
            count = len(new)
            tokens += new
            if count == 1:  # nearly always
                positions.append(position)
                slots.append(slot)
            else:
                positions += range(position, position + count)
                slots += [slot] * count
                outputs += [False] * (count - 1)
            outputs.append(output)
            rows.append(len(tokens) - 1)
        self.size = size = len(tokens)
        # One assignment an array: at one a sequence, these would cost more than all the rest.
        self.tokens[:size] = tokens
        self.positions[:size] = positions
        self.slots[:size] = slots
        self.outputs[:size] = outputs
        return rows
