"""Making units of work wait together, so that they become one batch."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

from server.db.database import Database, Tx

PATIENCE = 20.0


@contextlib.asynccontextmanager
async def writer_held(db: Database) -> AsyncIterator[None]:
    """Units written inside wait together; at the end they are let go, as one batch."""
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold(_: Tx) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(PATIENCE)

    holding = asyncio.create_task(db.write(hold))
    await begun.wait()
    try:
        yield
    finally:
        go_on.set()
        await holding


async def together(db: Database, *units: Callable[[Tx], object]) -> list[object]:
    """The answers, results or errors, of units that waited together."""
    async with writer_held(db):
        tasks = [asyncio.create_task(db.write(unit)) for unit in units]
        await asyncio.sleep(0)  # each task has queued its unit when it has been resumed once
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*tasks, return_exceptions=True)
