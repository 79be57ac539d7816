"""A point of the database's writer at which a test holds it."""

from __future__ import annotations

import asyncio
import threading

from server import failpoints
from tests.support import DEADLINE


class Gate:
    """Holds the writer the next time it passes a failpoint, until the gate is opened.

    What is written meanwhile waits its turn behind it.
    """

    def __init__(self, point: str) -> None:
        self.reached = asyncio.Event()
        self._point = point
        self._opened = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Gate:
        failpoints.arm(self._point, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        failpoints.disarm(self._point)
        self._opened.set()

    async def open(self) -> None:
        """Let the writer go on, after everybody on the loop has done what they could."""
        for _ in range(50):
            await asyncio.sleep(0)
        self._opened.set()

    def _hold(self) -> None:
        failpoints.disarm(self._point)
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._opened.wait(DEADLINE)
