"""Which tokens the next decode step computes.

Every live stream gets its one token; prompts fill what is left, first come first served, in chunks
that keep the streams flowing. When the cells run out the youngest sequence is parked: it keeps its
tokens, loses its slot, and is first in line again. So nothing that fits alone can fail.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from server.engine.backend import Backend
from server.engine.kv_cache import KVCache, Slot
from server.engine.sequence import Sequence

# Cells kept free for each live sequence to grow into before another one is admitted: a parked
# sequence that came back at once would only be parked again.
HEADROOM = 64
STEP_TARGET = 0.1  # seconds a step may take beside live streams
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Share:
    """What one sequence contributes to a step: its next `count` undecoded tokens."""

    sequence: Sequence
    slot: Slot
    count: int
    completes: bool  # nothing is left undecoded, so its next token can be sampled


class Scheduler:
    """Owned by the decode loop."""

    def __init__(
        self, backend: Backend, cache: KVCache, *, batch: int, smallest_chunk: int
    ) -> None:
        self.running: list[Sequence] = []  # in order of admission
        self.waiting: deque[Sequence] = deque()
        self._cells = backend.cells
        self._cache = cache
        self._batch = batch
        self._smallest_chunk = smallest_chunk
        self._seconds_per_token = 0.0  # of prompts, smoothed

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def admit(self) -> None:
        while self.waiting and self._has_room_for(self.waiting[0]):
            sequence = self.waiting[0]
            slot = self._cache.claim(sequence.tokens, sequence.scope)
            if slot is None:
                return
            sequence.slot = slot
            if sequence.cached_tokens is None:
                sequence.cached_tokens = len(slot.tokens)
            self.running.append(self.waiting.popleft())

    def plan(self) -> list[Share]:
        """The next step. Cells for it are free when this returns."""
        shares = self._shares()
        while not self._cache.make_room(sum(share.count for share in shares)):
            self.park(self.running[-1])
            shares = self._shares()
        return shares

    def park(self, sequence: Sequence) -> None:
        """Back to the head of the line, without its slot's cells."""
        self.running.remove(sequence)
        if sequence.slot is not None:
            self._cache.cut(sequence.slot, 0)
            self._cache.release(sequence.slot)
            sequence.slot = None
        self.waiting.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """The sequence ended, wherever it was."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._cache.release(sequence.slot)
        sequence.slot = None

    def observe(self, prompt_tokens: int, seconds: float) -> None:
        """Learn what prompt tokens cost, from a step that was mostly prompt."""
        if prompt_tokens < self._smallest_chunk:
            return
        measured = seconds / prompt_tokens
        past = self._seconds_per_token or measured
        self._seconds_per_token = past + _SMOOTHING * (measured - past)

    def _shares(self) -> list[Share]:
        shares: list[Share] = []
        prompts: list[tuple[Sequence, Slot, int]] = []
        for sequence in self.running:
            slot = sequence.held
            left = len(sequence.tokens) - len(slot.tokens)
            if left == 1:
                shares.append(Share(sequence, slot, 1, completes=True))
            else:
                prompts.append((sequence, slot, left))
        budget = self._chunk(len(shares))
        for sequence, slot, left in prompts:
            if count := min(budget, left):
                shares.append(Share(sequence, slot, count, completes=count == left))
                budget -= count
        return shares

    def _chunk(self, streams: int) -> int:
        """How many prompt tokens go beside so many live streams."""
        left = self._batch - streams
        if streams == 0 or self._seconds_per_token == 0:
            return left if streams == 0 else min(left, self._smallest_chunk)
        affordable = int(STEP_TARGET / self._seconds_per_token)
        return min(left, max(self._smallest_chunk, affordable))

    def _has_room_for(self, sequence: Sequence) -> bool:
        if not self.running:
            return True
        reach = sum(map(_reach, self.running)) + _reach(sequence)
        return reach <= self._cells


def _reach(sequence: Sequence) -> int:
    return min(len(sequence.tokens) + HEADROOM, sequence.limit)
