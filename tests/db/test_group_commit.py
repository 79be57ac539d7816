"""Units that wait together share one commit, and still succeed or fail each by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from server.clock import SystemClock
from server.db.database import Database, DatabaseClosed, Tx
from server.db.stores import Record
from server.failpoints import FailpointError
from server.ids import RandomIds
from tests.db import rows
from tests.db.waiting import PATIENCE, together, writer_held


class Refused(Exception):
    """What a unit raises here."""


async def test_one_commit_for_all_that_wait(db: Database, thread: Record) -> None:
    """Forty units that queued up behind another are committed at once."""
    statements: list[str] = []
    await db.write(lambda tx: tx.queries.raw.set_trace_callback(statements.append))
    statements.clear()
    answers = await together(db, *[lambda tx: rows.message(tx, thread.id).id] * 40)
    commits = [text for text in statements if text == "COMMIT"]
    assert len(commits) == 2, "the one they waited for, and theirs"
    assert await rows.message_ids(db, thread) == set(answers)


async def test_more_than_a_batch(db: Database, thread: Record) -> None:
    """However many wait, all are answered."""
    answers = await together(db, *[lambda tx: rows.message(tx, thread.id).id] * 200)
    assert await rows.message_ids(db, thread) == set(answers)


async def test_failing_unit_fails_alone(db: Database, thread: Record) -> None:
    """Of a unit that raises nothing is kept, neither rows nor hooks; its neighbours are whole."""
    hooks: list[str] = []

    def keep(tx: Tx) -> str:
        tx.after_commit(lambda: hooks.append("kept"))
        return str(rows.message(tx, thread.id).id)

    def refuse(tx: Tx) -> None:
        rows.message(tx, thread.id)
        tx.after_commit(lambda: hooks.append("refused"))
        rows.message(tx, thread.id)
        raise Refused

    first, refused, last = await together(db, keep, refuse, keep)
    assert isinstance(refused, Refused)
    assert await rows.message_ids(db, thread) == {first, last}
    assert hooks == ["kept", "kept"]


async def test_unit_that_fails_without_company(db: Database, thread: Record) -> None:
    """A unit alone in its transaction leaves nothing half written either."""

    def refuse(tx: Tx) -> None:
        rows.message(tx, thread.id)
        raise Refused

    with pytest.raises(Refused):
        await db.write(refuse)
    assert await rows.message_ids(db, thread) == set()


async def test_later_unit_sees_the_earlier_one(db: Database) -> None:
    """Units of one batch run in the order in which they came."""
    made: list[str] = []

    def make(tx: Tx) -> None:
        made.append(rows.thread(tx).id)

    def look(tx: Tx) -> bool:
        return tx.threads.by_id(made[0]) is not None

    assert (await together(db, make, look))[1] is True


async def test_hooks_run_in_commit_order_before_their_callers(db: Database) -> None:
    """On the loop, in commit order; a caller goes on only after its own hooks."""
    loop, log = asyncio.get_running_loop(), list[str]()

    def note(entry: str) -> None:
        assert asyncio.get_running_loop() is loop
        log.append(entry)

    async def call(name: str) -> None:
        def unit(tx: Tx) -> None:
            tx.after_commit(partial(note, f"{name} first"))
            tx.after_commit(partial(note, f"{name} second"))

        await db.write(unit)
        log.append(f"{name} answered")

    async with writer_held(db):
        calls = [asyncio.create_task(call(name)) for name in "abc"]
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    hooks = [entry for entry in log if not entry.endswith("answered")]
    assert hooks == ["a first", "a second", "b first", "b second", "c first", "c second"]
    assert all(log.index(f"{name} answered") > log.index(f"{name} second") for name in "abc")


async def test_hook_that_raises(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    """The unit is committed, so its caller is answered, and the other hooks run."""
    ran: list[str] = []

    def unit(tx: Tx) -> str:
        tx.after_commit(lambda: ran[99])  # type: ignore[arg-type,return-value]
        tx.after_commit(lambda: ran.append("second"))
        return "done"

    assert await db.write(unit) == "done"
    assert ran == ["second"]
    assert "after_commit_failed" in caplog.text


@pytest.mark.parametrize("number", [1, 3])
async def test_commit_that_fails(
    db: Database, thread: Record, failpoint: Callable[[str], None], number: int
) -> None:
    """All callers get the error, also one that had failed by itself; nothing is written."""
    hooks: list[str] = []

    def keep(tx: Tx) -> None:
        rows.message(tx, thread.id)
        tx.after_commit(lambda: hooks.append("ran"))

    def refuse(_: Tx) -> None:
        raise Refused

    failpoint("commit.before=raise:2")  # the first passage is the one they wait for
    answers = await together(db, *[keep] * number, *[refuse] * (number - 1))
    assert {type(answer) for answer in answers} == {FailpointError}
    assert await rows.message_ids(db, thread) == set()
    assert hooks == []
    await db.write(keep)
    assert len(await rows.message_ids(db, thread)) == 1


async def test_transaction_that_vanishes(db: Database, thread: Record) -> None:
    """If SQLite rolls the whole batch back, each unit runs again in a transaction of its own."""
    attempts: list[str] = []

    def keep(tx: Tx) -> str:
        attempts.append("keep")
        return str(rows.message(tx, thread.id).id)

    def lose(tx: Tx) -> None:
        attempts.append("lose")
        rows.message(tx, thread.id)
        tx.queries.raw.execute("ROLLBACK")
        raise Refused

    first, lost, last = await together(db, keep, lose, keep)
    assert isinstance(lost, Refused)
    assert attempts == ["keep", "lose", "keep", "lose", "keep"]
    assert await rows.message_ids(db, thread) == {first, last}


async def test_caller_that_is_cancelled(db: Database, thread: Record) -> None:
    """A unit that was queued is done and its hooks run, although nobody waits for it."""
    hooks: list[str] = []

    def unit(tx: Tx) -> None:
        rows.message(tx, thread.id)
        tx.after_commit(lambda: hooks.append("ran"))

    async with writer_held(db):
        task = asyncio.create_task(db.write(unit))
        await asyncio.sleep(0)
        task.cancel()
    await db.write(lambda tx: None)
    assert task.cancelled()
    assert hooks == ["ran"]
    assert len(await rows.message_ids(db, thread)) == 1


async def test_readers_cannot_write(db: Database, thread: Record) -> None:
    """A read that tries to is refused by SQLite, and the next read is well."""
    with pytest.raises(Exception, match="readonly"):
        await db.read(lambda tx: rows.message(tx, thread.id))
    assert await rows.message_ids(db, thread) == set()


async def test_reading_while_a_unit_is_open(db: Database, thread: Record) -> None:
    """A reader does not wait for the writer, nor does it see what is not committed."""
    async with writer_held(db):
        writing = asyncio.create_task(db.write(lambda tx: rows.message(tx, thread.id)))
        await asyncio.sleep(0)
        assert await rows.message_ids(db, thread) == set()
    row = await writing
    assert await rows.message_ids(db, thread) == {row.id}


async def test_a_read_is_one_snapshot(db: Database, thread: Record) -> None:
    """What is committed while a read goes on does not show in it."""
    loop, looked = asyncio.get_running_loop(), asyncio.Event()
    written = asyncio.Event()

    def look_twice(tx: Tx) -> tuple[int, int]:
        first = len(tx.messages.every(thread_id=thread.id))
        loop.call_soon_threadsafe(looked.set)
        asyncio.run_coroutine_threadsafe(written.wait(), loop).result(PATIENCE)
        return first, len(tx.messages.every(thread_id=thread.id))

    reading = asyncio.create_task(db.read(look_twice))
    await looked.wait()
    await db.write(lambda tx: rows.message(tx, thread.id))
    written.set()
    assert await reading == (0, 0)
    assert len(await rows.message_ids(db, thread)) == 1


async def test_closing(path: Path) -> None:
    """Queued units are finished, later ones refused, and the log is folded into the file."""
    db = Database(path, SystemClock(), RandomIds())
    async with writer_held(db):
        writing = [asyncio.create_task(db.write(rows.thread)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(db.close))
    made = {row.id for row in await asyncio.gather(*writing)}
    await closing
    for call in (db.write, db.read):
        with pytest.raises(DatabaseClosed):
            await call(rows.thread)
    db.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with sqlite3.connect(path) as raw:
        assert {row[0] for row in raw.execute("SELECT id FROM thread")} == made
    raw.close()


async def test_part_of_a_unit_that_fails(db: Database, thread: Record) -> None:
    """Nothing of the part is kept, neither rows nor hooks; the rest of the unit is."""
    called: list[str] = []

    def part(tx: Tx) -> None:
        rows.message(tx, thread.id)
        tx.after_commit(lambda: called.append("part"))
        raise KeyError("no such thing")

    def unit(tx: Tx) -> str:
        tx.after_commit(lambda: called.append("before"))
        kept = rows.message(tx, thread.id)
        with pytest.raises(KeyError):
            tx.wholly(part)
        tx.wholly(lambda tx: tx.after_commit(lambda: called.append("after")))
        return str(kept.id)

    assert {await db.write(unit)} == await rows.message_ids(db, thread)
    assert called == ["before", "after"]


@pytest.fixture
def closers() -> Iterator[list[str]]:
    """The names of the threads that have closed connections, in their order."""
    names: list[str] = []

    def note(*_: object) -> None:
        names.append(threading.current_thread().name)

    event.listen(NullPool, "close", note)
    yield names
    event.remove(NullPool, "close", note)


async def test_the_writer_closes_last(path: Path, closers: list[str]) -> None:
    """Two that close at once would leave the log beside the file."""
    for _ in range(10):
        db = Database(path, SystemClock(), RandomIds())
        await asyncio.gather(*[db.write(rows.thread) for _ in range(8)])
        closers.clear()
        await asyncio.to_thread(db.close)
        assert closers == ["read_forever"] * 4 + ["write_forever"]
        assert not path.with_name(f"{path.name}-wal").exists()
