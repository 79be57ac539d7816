"""A model made of arithmetic: its next token is a checksum of everything its slot holds.

So any mistake about which tokens sit where shows as a wrong answer.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import count

import numpy as np

from server.engine.backend import Logits, Outcome, State
from server.engine.batch import Batch

VOCABULARY = 97
END = 0


def next_token(tokens: list[int]) -> int:
    """Depends on all that came before."""
    return zlib.crc32(bytes(tokens)) % VOCABULARY


def answer(prompt: list[int], most: int) -> list[int]:
    """What the model says to this prompt, if nothing goes wrong; without the end token."""
    said: list[int] = []
    while len(said) < most and (token := next_token([*prompt, *said])) != END:
        said.append(token)
    return said


class ArithmeticBackend:
    def __init__(
        self,
        *,
        slots: int = 4,
        context: int = 64,
        cells: int = 256,
        rolls_back: bool = True,
        mixes: bool = True,
    ) -> None:
        self.mixes = mixes
        self.sampling_threads = 2
        self.slots = slots
        self.context = context
        self.cells = cells
        self.real_cells = cells  # how many there are, whatever `cells` says
        self.vocabulary = VOCABULARY
        self.rolls_back = rolls_back
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.cells_of: list[list[int]] = [[] for _ in range(slots)]  # what `held` sits in
        self.loads = 0
        self.saves = 0
        self.refuses_states = False
        self._cell_numbers = count()
        self.batches: list[int] = []
        self.refuses = 0  # how many times the next decodes say FULL whatever the count
        self.interrupted = False
        self.interrupts = 0  # how many of the next decodes are interrupted in their middle
        self.now = 0.0
        self.seconds_per_token = 0.0
        self.seconds_per_save = 0.0
        self._rows: dict[int, list[int]] = {}

    def decode(self, batch: Batch) -> Outcome:
        if self.refuses or self.cells_held + batch.size > self.real_cells:
            self.refuses = max(0, self.refuses - 1)
            return Outcome.FULL
        if self.interrupted or self.interrupts:
            self.interrupts = max(0, self.interrupts - 1)
            self._break_off(batch)
            return Outcome.ABORTED
        self.batches.append(batch.size)
        self.now += batch.size * self.seconds_per_token
        self._rows = {}
        for row in range(batch.size):
            self._take(row, batch)
        assert len(self._rows) <= self.slots, "more outputs than the context was made for"
        return Outcome.DONE

    def _break_off(self, batch: Batch) -> None:
        """Some of the batch is in the cells, some not."""
        self._rows = {}
        for row in range(batch.size // 2):
            self._take(row, batch)

    def _take(self, row: int, batch: Batch) -> None:
        held = self.held[batch.slots[row]]
        assert batch.positions[row] == len(held), "a hole in the sequence"
        held.append(int(batch.tokens[row]))
        self.cells_of[batch.slots[row]].append(next(self._cell_numbers))
        assert len(held) <= self.context, "longer than the context"
        if batch.outputs[row]:
            self._rows[row] = list(held)

    def logits(self, rows: Sequence[int]) -> Logits:
        assert list(rows) == list(self._rows), "others than those that asked for output"
        logits = np.zeros((len(rows), VOCABULARY), np.float32)
        for row, held in zip(logits, self._rows.values(), strict=True):
            row[next_token(held)] = 1
        return logits

    def cut(self, slot: int, length: int) -> None:
        assert length == 0 or self.rolls_back, "this model cannot be cut in the middle"
        del self.held[slot][length:]
        del self.cells_of[slot][length:]

    def copy(self, source: int, target: int, length: int) -> None:
        assert self.rolls_back
        assert not self.held[target]
        assert length <= len(self.held[source])
        self.held[target] = self.held[source][:length]
        self.cells_of[target] = self.cells_of[source][:length]

    @property
    def cells_held(self) -> int:
        """Shared ones are counted once."""
        return len({cell for cells in self.cells_of for cell in cells})

    def save(self, slot: int, length: int, most: int) -> State | None:
        assert self.rolls_back or length == len(self.held[slot])
        if length > most:
            return None
        self.saves += 1
        self.now += self.seconds_per_save
        return np.array(self.held[slot][:length], np.uint8)

    def load(self, slot: int, state: State) -> bool:
        assert not self.held[slot]
        self.loads += 1
        if self.refuses_states or self.cells_held + len(state) > self.real_cells:
            return False
        self.held[slot] = state.tolist()
        self.cells_of[slot] = [next(self._cell_numbers) for _ in state]
        return True

    def interrupt(self) -> None:
        self.interrupted = True

    def resume(self) -> None:
        self.interrupted = False

    def ends_turn(self, token: int) -> bool:
        return token == END

    def text(self, token: int) -> bytes:
        return bytes((token,))
