"""Which tokens sit in which slot of the context, and which idle ones are worth keeping.

A finished generation's tokens stay in its slot, as a prefix for the thread that returns, until the
cells are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from server.engine.backend import Backend

# Every chat starts with the same few tokens of its template; sharing those saves nothing.
SHORTEST_PREFIX = 16


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence of the context. `tokens` is exactly what its cells hold."""

    index: int
    tokens: list[int] = field(default_factory=list)
    scope: str = ""
    busy: bool = False
    used: int = 0  # order of last use


class KVCache:
    """The slots of one backend. Owned by the decode loop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._slots = [Slot(index) for index in range(backend.slots)]
        self._uses = count(1)

    @property
    def cells_held(self) -> int:
        return sum(len(slot.tokens) for slot in self._slots)

    def claim(self, tokens: Sequence[int], scope: str) -> Slot | None:
        """A free slot, holding the longest usable prefix of `tokens`; None if all are busy."""
        idle = [slot for slot in self._slots if not slot.busy]
        if not idle:
            return None
        prefixes = [(self._reusable(slot, tokens, scope), slot) for slot in self._slots]
        length, donor = max(prefixes, key=lambda prefix: (prefix[0], not prefix[1].busy))
        slot = min(
            idle, key=lambda slot: (slot is donor and length > 0, bool(slot.tokens), slot.used)
        )
        if slot is donor or (not donor.busy and len(donor.tokens) <= 2 * length):
            slot = donor
            self.cut(slot, length)
        else:
            self._fork(donor, slot, length)
        slot.scope, slot.busy = scope, True
        return slot

    def release(self, slot: Slot) -> None:
        """The generation ended; its tokens stay until the cells are needed."""
        slot.busy, slot.used = False, next(self._uses)

    def cut(self, slot: Slot, length: int) -> None:
        if length < len(slot.tokens):
            self._backend.cut(slot.index, length)
            del slot.tokens[length:]

    def restore(self, slot: Slot) -> None:
        """After an aborted step: make the cells hold what `tokens` says, as far as that goes."""
        length = len(slot.tokens) if self._backend.rolls_back else 0
        self._backend.cut(slot.index, length)
        del slot.tokens[length:]

    def make_room(self, cells: int) -> bool:
        """Evict idle slots, the longest unused first, until so many cells are free."""
        while self._backend.cells - self.cells_held < cells:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        idle = [slot for slot in self._slots if slot.tokens and not slot.busy]
        if not idle:
            return False
        self.cut(min(idle, key=lambda slot: slot.used), 0)
        return True

    def _fork(self, donor: Slot, slot: Slot, length: int) -> None:
        """Share a prefix, where taking the donor's slot would throw away most of another chat.

        Shared cells are counted for each slot that has them: too many, never too few.
        """
        self.cut(slot, 0)
        if length:
            self._backend.copy(donor.index, slot.index, length)
            slot.tokens += donor.tokens[:length]

    def _reusable(self, slot: Slot, tokens: Sequence[int], scope: str) -> int:
        if slot.scope != scope:
            return 0
        # At least one token is decoded again: logits are not part of what is kept.
        length = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
        if (slot.busy or length < len(slot.tokens)) and not self._backend.rolls_back:
            return 0
        return length if length >= SHORTEST_PREFIX else 0


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    return next(i for i in range(shorter) if left[i] != right[i])
