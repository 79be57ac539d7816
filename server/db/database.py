"""The only transaction code: one writer thread with group commit, and a few read-only connections.

A unit of work is a plain synchronous function over one `Tx`. Units that wait together share one
transaction, each inside a savepoint, and a caller is answered only after the commit is durable. A
unit touches nothing but its `tx`, since it may run twice; what must happen after the commit is
registered with `tx.after_commit` and dropped with a failed attempt. Hooks run on the event loop in
commit order, before the caller's future resolves.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from server import failpoints
from server.clock import Clock
from server.db.stores import Stores
from server.ids import IdSource

log = logging.getLogger(__name__)

BATCH = 64

T = TypeVar("T")
Hook = Callable[[], None]


class DatabaseBusy(Exception):
    """Another process holds the database; the same unit may succeed later."""


class DatabaseFull(Exception):
    """The disk, or the database's size limit, is full; nothing was written."""


class DatabaseClosed(Exception):
    """The database was closed before the unit could run."""


class Tx(Stores):
    """One transaction: the stores, the time of its start, and what to do once it is committed."""

    def __init__(self, connection: Connection, clock: Clock, ids: IdSource) -> None:
        super().__init__(connection)
        self.ids = ids
        self.now = clock.now()
        self.hooks: list[Hook] = []

    def after_commit(self, hook: Hook) -> None:
        """Call `hook` on the event loop once this unit is durable."""
        self.hooks.append(hook)


@dataclass(slots=True)
class _Unit:
    """A unit of work in the queue, and where its answer goes."""

    work: Callable[[Tx], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    hooks: Sequence[Hook] = field(default=())
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        """Runs on the loop: the hooks first, so that they precede the caller's next step."""
        for hook in self.hooks:
            try:
                hook()
            except Exception:
                log.exception("after_commit_failed")
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """One SQLite file. `write` and `read` are awaited on the loop; the work runs in threads.

    `busy_timeout` is in seconds; `readers` is the number of read-only connections.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        ids: IdSource,
        *,
        busy_timeout: float = 5.0,
        readers: int = 4,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._writer_engine = open_engine(path, busy_timeout)
        self._reader_engine = open_engine(path, busy_timeout, read_only=True, pool_size=readers)
        self._queue: SimpleQueue[_Unit | None] = SimpleQueue()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, name="db-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a durable transaction and return its result.

        Raises what `work` raises (nothing of it is kept then), or DatabaseBusy, DatabaseFull.
        Cancelling the caller does not undo the unit.
        """
        if self._closed:
            raise DatabaseClosed
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Unit(work, loop, future))
        return await future

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` over one consistent snapshot; it cannot write."""
        if self._closed:
            raise DatabaseClosed
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish the queued units, then close all connections. Blocks for as long as they take."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        self._writer_engine.dispose()
        self._reader_engine.dispose()

    def _read(self, work: Callable[[Tx], T]) -> T:
        with self._reader_engine.connect() as connection:
            raw = driver(connection)
            try:
                raw.execute("BEGIN")
                return work(Tx(connection, self._clock, self._ids))
            except (OperationalError, sqlite3.OperationalError) as error:
                raise translated(error) from error
            finally:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")

    def _write_forever(self) -> None:
        with self._writer_engine.connect() as connection:
            while (unit := self._queue.get()) is not None:
                self._commit_together(connection, [unit, *self._waiting()])

    def _waiting(self) -> list[_Unit]:
        """What has queued up meanwhile. The closing mark stays in the queue, behind all units."""
        units: list[_Unit] = []
        while len(units) < BATCH - 1:
            try:
                unit = self._queue.get_nowait()
            except Empty:
                break
            if unit is None:
                self._queue.put(None)
                break
            units.append(unit)
        return units

    def _commit_together(self, connection: Connection, units: list[_Unit]) -> None:
        raw = driver(connection)
        try:
            raw.execute("BEGIN IMMEDIATE")
            for unit in units:
                self._attempt(connection, raw, unit)
                if not raw.in_transaction:  # a full disk rolls back everything, savepoints too
                    self._commit_alone(connection, units)
                    return
            failpoints.hit("commit.before")
            raw.execute("COMMIT")
            failpoints.hit("commit.after")
        except Exception as error:  # the edge of the writer thread: it must live on
            for unit in units:
                unit.hooks, unit.error = (), translated(error)
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        settle(units)

    def _commit_alone(self, connection: Connection, units: list[_Unit]) -> None:
        """Give each unit a transaction of its own, so that only those that cannot be kept fail."""
        raw = driver(connection)
        for unit in units:
            unit.hooks, unit.result, unit.error = (), None, None
            try:
                raw.execute("BEGIN IMMEDIATE")
                tx = Tx(connection, self._clock, self._ids)
                unit.result = unit.work(tx)
                raw.execute("COMMIT")
                unit.hooks = tx.hooks
            except Exception as error:
                unit.hooks, unit.error = (), translated(error)
            finally:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
            settle([unit])

    def _attempt(self, connection: Connection, raw: sqlite3.Connection, unit: _Unit) -> None:
        tx = Tx(connection, self._clock, self._ids)
        raw.execute("SAVEPOINT unit")
        try:
            unit.result = unit.work(tx)
            unit.hooks = tx.hooks
        except Exception as error:
            unit.error = translated(error)
            if raw.in_transaction:
                raw.execute("ROLLBACK TO unit")
        if raw.in_transaction:
            raw.execute("RELEASE unit")


def settle(units: list[_Unit]) -> None:
    """Answer the units on their loops, in commit order, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Unit]] = {}
    for unit in units:
        by_loop.setdefault(unit.loop, []).append(unit)
    for loop, members in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, members)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("answer_lost", extra={"units": len(members)})


def _settle_all(units: list[_Unit]) -> None:
    for unit in units:
        unit.settle()


def driver(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 connection below; the transaction statements cost a tenth there."""
    raw: Any = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def translated(error: Exception) -> Exception:
    """SQLite's words for a locked or full database, as errors of ours; others unchanged."""
    cause = error.orig if isinstance(error, OperationalError) else error
    if isinstance(cause, sqlite3.OperationalError):
        text = str(cause)
        if "locked" in text or "busy" in text:
            return DatabaseBusy(text)
        if "full" in text or "disk I/O" in text:
            return DatabaseFull(text)
    return error


def open_engine(
    path: Path, busy_timeout: float, *, read_only: bool = False, pool_size: int = 1
) -> Engine:
    """An engine whose transactions are ours to begin and end.

    The driver's own mode begins transactions late and breaks savepoints, hence AUTOCOMMIT.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": busy_timeout},
        pool_size=pool_size,
        max_overflow=0,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        if read_only:
            raw.execute("PRAGMA query_only = ON")

    return engine
