"""Work that comes again and again, for as long as the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from server.db.database import DatabaseBusy, DatabaseFull

log = logging.getLogger(__name__)


async def sweep_forever(
    sweep: Callable[[], Awaitable[None]], name: str, interval: float, stopping: asyncio.Event
) -> None:
    """Do it every so many seconds, also after it failed, until the server stops."""
    while not await stops_within(stopping, interval):
        try:
            await sweep()
        except (DatabaseBusy, DatabaseFull):
            log.warning("%s_delayed", name)
        except Exception:  # the edge: without this loop nothing would ever expire
            log.exception("%s_failed", name)


class Sweeper:
    """Does it every so many seconds, from `start` to `stop`."""

    def __init__(self, sweep: Callable[[], Awaitable[None]], name: str, interval: float) -> None:
        self._work = sweep, name, interval
        self._stopping = asyncio.Event()
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        sweeping = sweep_forever(*self._work, self._stopping)
        self._sweeping = asyncio.create_task(sweeping, name=self._work[1])

    async def stop(self) -> None:
        """Return when a sweep that is going on has ended."""
        self._stopping.set()
        if self._sweeping is not None:
            await self._sweeping


def ended(loops: Iterable[asyncio.Task[None]], stopping: asyncio.Event) -> str | None:
    """Which of them have, though nobody stops the server; None: all work."""
    names = [] if stopping.is_set() else [loop.get_name() for loop in loops if loop.done()]
    return f"A task has ended: {', '.join(names)}." if names else None


async def stops_within(stopping: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the server stops; whether it does."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
    return stopping.is_set()
