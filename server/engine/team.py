"""Threads that share a short computation with the one that asks for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from queue import SimpleQueue
from typing import Any, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Team:
    """So many threads, the caller's among them. Owned by the caller; started when first needed.

    For work that is done mostly without the interpreter's lock, in pieces that are worth waking a
    thread for, which takes some tens of microseconds. Whoever is free takes the next piece, so one
    that wakes late holds up nobody.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rounds = SimpleQueue[_Round]()
        self._started = False

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """The result of each piece, in their order."""
        if min(self.size, len(pieces)) < 2:
            return [work(piece) for piece in pieces]
        if not self._started:
            self._start()
        shared = _Round(work, pieces)
        for _ in range(min(self.size, len(pieces)) - 1):
            self._rounds.put(shared)
        shared.take_part()
        return shared.results()

    def _start(self) -> None:
        """If the machine allows no more threads, those that there are do the work."""
        self._started = True
        for started in range(1, self.size):
            helper = threading.Thread(target=_help, args=(self._rounds,), name="team", daemon=True)
            try:
                helper.start()
            except RuntimeError:
                self.size = started
                return


class _Round:
    """One computation. Its pieces are taken, and what came of them given, by any thread."""

    def __init__(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> None:
        self._work = work
        self._left = deque(enumerate(pieces))
        self._count = len(pieces)
        self._done = SimpleQueue[tuple[int, Any, Exception | None]]()

    def take_part(self) -> None:
        while True:
            try:
                number, piece = self._left.popleft()
            except IndexError:
                return
            try:
                self._done.put((number, self._work(piece), None))
            except Exception as problem:  # noqa: BLE001 - whoever asked hears of it
                self._done.put((number, None, problem))

    def results(self) -> list[Any]:
        """Of all: nobody works on when they are there."""
        done = sorted((self._done.get() for _ in range(self._count)), key=itemgetter(0))
        for _, _, problem in done:
            if problem is not None:
                raise problem
        return [result for _, result, _ in done]


def _help(rounds: SimpleQueue[_Round]) -> None:
    while True:
        rounds.get().take_part()
