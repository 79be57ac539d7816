"""The tokens of one decode step, as arrays that llama.cpp reads in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Batch:
    """Filled anew for every step by the decode loop, which owns it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
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

    def clear(self) -> None:
        self.size = 0

    def add(self, slot: int, position: int, tokens: Sequence[int], *, output: bool) -> int:
        """Append tokens of one sequence; returns the row of the last one, where logits may be."""
        start, end = self.size, self.size + len(tokens)
        self.tokens[start:end] = tokens
        self.positions[start:end] = range(position, position + len(tokens))
        self.slots[start:end] = slot
        self.outputs[start:end] = 0
        self.outputs[end - 1] = output
        self.size = end
        return end - 1
