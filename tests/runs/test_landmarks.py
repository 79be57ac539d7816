"""Where a conversation that is too long is cut."""

from __future__ import annotations

from server.chat.values import ChatMessage
from server.runs.prompt import from_landmark, without_oldest
from server.runs.turns import Unit

SIZE = 10
LIMIT = 400


def unit(number: int) -> Unit:
    """One message of its own."""
    return (ChatMessage("user", f"This is message {number}."),)


def kept(count: int, spare: int) -> list[Unit]:
    """What is left of so many messages."""
    units = [unit(number) for number in range(count)]
    sizes = [SIZE] * count
    fitting = without_oldest(units, sizes, count * SIZE - LIMIT)
    return list(from_landmark(fitting, sizes[count - len(fitting) :], spare))


def test_the_beginning_stays_for_many_turns() -> None:
    """Cut at landmarks a growing conversation seldom begins anew; cut anywhere, it always does."""
    counts = range(60, 260)
    anywhere = {kept(count, spare=0)[0] for count in counts}
    landmarks = {kept(count, spare=LIMIT // 4)[0] for count in counts}
    assert len(anywhere) == len(counts)
    assert len(landmarks) < len(counts) / 4


def test_it_costs_at_most_what_can_be_spared() -> None:
    """The newest are kept, as many as fit, but for the share that may be dropped."""
    for count in range(60, 160):
        units = kept(count, spare=LIMIT // 4)
        assert LIMIT * 3 // 4 <= len(units) * SIZE <= LIMIT
        assert units[-1] == unit(count - 1)


def test_the_newest_unit_always_stays() -> None:
    """It is no landmark that others are dropped for."""
    assert from_landmark([unit(1)], [SIZE], 1000) == [unit(1)]
