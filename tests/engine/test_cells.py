"""How many cells are held, whoever shares them with whom."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from server.engine.batch import Batch, Part
from server.engine.cells import CellCount
from tests.engine.arithmetic import ArithmeticBackend

SLOTS = 4
steps = st.tuples(
    st.sampled_from(["extend", "share", "cut"]),
    st.integers(0, SLOTS - 1),
    st.integers(0, SLOTS - 1),
    st.integers(0, 30),
)


@given(st.lists(steps, max_size=60), st.sets(st.integers(0, SLOTS - 1)))
def test_the_count_is_what_the_context_holds(
    script: list[tuple[str, int, int, int]], some: set[int]
) -> None:
    """After any extending, sharing and cutting: all cells, and those of any slots together."""
    backend = ArithmeticBackend(slots=SLOTS, context=2000, cells=9999)
    cells = CellCount(SLOTS)
    batch = Batch(40)
    for action, slot, other, count in script:
        length = len(backend.held[slot])
        if action == "extend" and count:
            batch.fill([Part(slot, length, array("i", [1] * count), False)])
            backend.decode(batch)
            cells.extend(slot, count)
        elif action == "share" and slot != other and not backend.held[other]:
            backend.copy(slot, other, min(count, length))
            cells.share(slot, other, min(count, length))
        elif action == "cut":
            backend.cut(slot, min(count, length))
            cells.cut(slot, min(count, length))
        assert cells.total == backend.cells_held
        held = {cell for index in some for cell in backend.cells_of[index]}
        assert cells.held_by(some) == len(held)


def test_a_prefix_that_three_share_is_free_when_the_last_lets_go() -> None:
    """Also where they share stretches of different lengths."""
    cells = CellCount(3)
    cells.extend(0, 100)
    cells.share(0, 1, 60)
    cells.share(1, 2, 30)
    cells.extend(1, 5)
    assert (cells.total, cells.held_by([1]), cells.held_by([2]), cells.held_by([1, 2])) == (
        (105, 65, 30, 65)
    )
    cells.cut(0, 0)
    assert cells.total == 65
    cells.cut(1, 0)
    assert cells.total == 30
    cells.cut(2, 10)
    assert cells.total == 10
