"""A database that is full, or held by somebody else: who is told what, and that it heals."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.db.database import Database, DatabaseBusy, DatabaseFull, Tx
from server.db.stores import Record
from tests.db import rows
from tests.db.waiting import together

NO_LIMIT = 2**30


async def leave_room(db: Database, pages: int) -> None:
    """Limit the file to so many pages more than it has; SQLite's own stand-in for a full disk."""

    def limit(tx: Tx) -> None:
        raw = tx.queries.raw
        (used,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {min(used + pages, NO_LIMIT)}")

    await db.write(limit)


def message_of(size: int, thread: Record, tx: Tx) -> str:
    """A new message of so many characters."""
    content = [{"type": "text", "text": {"value": "x" * size, "annotations": []}}]
    return str(rows.message(tx, thread.id, content=content).id)


async def test_full_database(db: Database, thread: Record) -> None:
    """What cannot be kept is refused, its neighbours are kept, reads go on, and it heals."""
    await leave_room(db, 20)

    def small(tx: Tx) -> str:
        return message_of(10, thread, tx)

    def large(tx: Tx) -> str:
        message_of(10, thread, tx)
        return message_of(500_000, thread, tx)

    first, refused, last = await together(db, small, large, small)
    assert isinstance(refused, DatabaseFull)
    assert await rows.message_ids(db, thread) == {first, last}
    with pytest.raises(DatabaseFull):
        await db.write(large)
    assert await rows.message_ids(db, thread) == {first, last}
    await leave_room(db, NO_LIMIT)
    kept = await db.write(large)
    assert kept in await rows.message_ids(db, thread)


async def test_hooks_of_a_refused_unit(db: Database, thread: Record) -> None:
    """Only the commits announce themselves, each once, although units may have run twice."""
    await leave_room(db, 20)
    announced: list[int] = []

    def unit(size: int, tx: Tx) -> None:
        message_of(size, thread, tx)
        tx.after_commit(lambda: announced.append(size))

    sizes = (1, 500_000, 2, 600_000, 3)
    answers = await together(db, *[lambda tx, size=size: unit(size, tx) for size in sizes])
    assert [type(answer) for answer in answers] == [
        type(None),
        DatabaseFull,
        type(None),
        DatabaseFull,
        type(None),
    ]
    assert announced == [1, 2, 3]


@contextlib.contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Somebody else's connection has the file for itself."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_locked_database(db: Database, path: Path, thread: Record) -> None:
    """Writers are told within the timeout and a second, also those behind; readers do not mind."""
    with held_by_another(path):
        begun = time.monotonic()
        writing = [asyncio.create_task(db.write(rows.thread)) for _ in range(200)]
        assert await db.read(lambda tx: tx.threads.by_id(thread.id)) is not None
        answers = await asyncio.gather(*writing, return_exceptions=True)
        assert time.monotonic() - begun < 0.3 + 1.0
    assert {type(answer) for answer in answers} == {DatabaseBusy}
    row = await db.write(rows.thread)
    assert await db.read(lambda tx: tx.threads.by_id(row.id)) is not None


async def test_lock_that_goes_away_in_time(db: Database, path: Path) -> None:
    """A writer waits for a lock that is short, and nobody hears of it."""
    with held_by_another(path):
        writing = asyncio.create_task(db.write(rows.thread))
        await asyncio.sleep(0)
    assert (await writing).id
