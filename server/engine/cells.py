"""How many cells the slots of a context hold together, when sequences share some of them.

A cell is one token's keys and values. Sequences that begin alike share the cells of their common
prefix, and a cell is free when its last sequence lets go of it. llama.cpp knows this but does not
tell, so it is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Stretch:
    """Neighbouring cells that have the same holders."""

    length: int
    holders: int = 1


class CellCount:
    """Counts for slots 0 to `slots` - 1. Mirrors what is done to the context."""

    def __init__(self, slots: int) -> None:
        self._held: list[list[_Stretch]] = [[] for _ in range(slots)]
        self.total = 0  # cells that at least one slot holds

    def extend(self, slot: int, count: int) -> None:
        """The slot took so many cells of its own."""
        held = self._held[slot]
        if held and held[-1].holders == 1:
            held[-1].length += count
        elif count:
            held.append(_Stretch(count))
        self.total += count

    def share(self, donor: int, slot: int, count: int) -> None:
        """The empty slot now holds the donor's first `count` cells, too."""
        shared = self._held[donor][: self._split(donor, count)]
        for stretch in shared:
            stretch.holders += 1
        self._held[slot] = shared

    def cut(self, slot: int, length: int) -> None:
        """The slot keeps its first `length` cells."""
        keep = self._split(slot, length)
        held = self._held[slot]
        for stretch in held[keep:]:
            stretch.holders -= 1
            if stretch.holders == 0:
                self.total -= stretch.length
        del held[keep:]

    def own(self, slot: int) -> int:
        """Cells that would be free if this slot let go of all of its own."""
        return sum(stretch.length for stretch in self._held[slot] if stretch.holders == 1)

    def _split(self, slot: int, length: int) -> int:
        """How many stretches make up the first `length` cells, cutting one in two if need be."""
        start = 0
        for index, stretch in enumerate(self._held[slot]):
            if start >= length:
                return index
            if start + stretch.length > length:
                self._divide(stretch, length - start)
                return index + 1
            start += stretch.length
        return len(self._held[slot])

    def _divide(self, stretch: _Stretch, length: int) -> None:
        """Cut a stretch in two, for everybody who holds it."""
        rest = _Stretch(stretch.length - length, stretch.holders)
        stretch.length = length
        for held in self._held:
            for index, other in enumerate(held):
                if other is stretch:
                    held.insert(index + 1, rest)
                    break
