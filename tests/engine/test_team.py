"""Threads that share a computation: all of it is done, by several, and faults are heard of."""

from __future__ import annotations

import threading

import pytest

from server.engine.team import Team

PATIENCE = 10.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_results_come_in_the_order_of_the_pieces(size: int) -> None:
    """Whoever computes them; of no pieces there are none."""
    team = Team(size)
    for _ in range(50):
        assert team.each(lambda number: number * number, range(20)) == [n * n for n in range(20)]
    assert team.each(lambda number: number, []) == []


def test_pieces_are_computed_at_once() -> None:
    """Each by a thread of its own, of which the caller's is one."""
    meeting = threading.Barrier(3, timeout=PATIENCE)

    def meet(_: int) -> str:
        meeting.wait()
        return threading.current_thread().name

    names = Team(3).each(meet, range(3))
    assert threading.current_thread().name in names


def test_a_fault_is_the_callers_and_the_team_goes_on() -> None:
    """Once all the other pieces are done, so that nobody works on what the caller has left."""
    done: list[int] = []

    def halve(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        done.append(number)
        return number // 2

    team = Team(2)
    for _ in range(20):
        done.clear()
        with pytest.raises(ValueError, match="7"):
            team.each(halve, [2, 7, 4, 8])
        assert sorted(done) == [2, 4, 8]
    assert team.each(halve, [2, 4, 8]) == [1, 2, 4]


@pytest.mark.parametrize("most", [0, 1])
def test_those_that_can_be_started_do_the_work(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is out of threads loses speed, and no answers."""
    allowed = iter(range(most))
    start = threading.Thread.start

    def start_if_allowed(thread: threading.Thread) -> None:
        if next(allowed, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    team = Team(4)
    for _ in range(3):
        assert team.each(lambda number: -number, range(9)) == [-number for number in range(9)]
    assert team.size == 1 + most
