"""The database: one thread writes, with group commit, and a few threads read.

A unit of work is a plain synchronous function over one `Tx`. Units that wait together share one
transaction, each inside a savepoint, and a caller is answered only after the commit is durable. A
unit touches nothing but its `tx`, since it may run twice; what must happen after the commit is
registered with `tx.after_commit` and dropped with a failed attempt. Hooks run on the event loop in
commit order, before the caller's future resolves.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import Connection

from server.clock import Clock
from server.db.connection import DatabaseBusy, DatabaseFull, open_engine, roll_back
from server.db.group_commit import GroupCommit
from server.db.queries import Queries
from server.db.unit import Hook, Tx, Unit, settle
from server.ids import IdSource
from server.metrics import Metrics

__all__ = ["Database", "DatabaseBusy", "DatabaseClosed", "DatabaseFull", "Tx"]

BATCH = 64

T = TypeVar("T")
Queue = SimpleQueue[Unit | None]  # None ends the thread that takes it


class DatabaseClosed(Exception):
    """The database was closed before the unit could run."""


class Database:
    """One SQLite file. `write` and `read` are awaited on the loop; the work runs in threads.

    `busy_timeout` is in seconds; `readers` is the number of read-only connections. `most` is how
    many rows of a table a project may have, by the table's name; 0 is no limit.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        ids: IdSource,
        *,
        busy_timeout: float = 5.0,
        readers: int = 4,
        metrics: Metrics | None = None,
        most: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._metrics = metrics or Metrics()
        self._most = most
        self._writes: Queue = SimpleQueue()
        self._reads: Queue = SimpleQueue()
        self._listeners: defaultdict[str, list[Hook]] = defaultdict(list)
        self._writing_since: float | None = None
        self._closed = False
        self._gate = threading.Lock()  # nothing is queued behind the marks that end the threads
        writer = open_engine(path, busy_timeout).connect()
        reading = open_engine(path, busy_timeout, read_only=True)
        connections = [reading.connect() for _ in range(readers)]
        self._threads = [_start(self._write_forever, writer)]
        self._threads += [_start(self._read_forever, connection) for connection in connections]

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a durable transaction and return its result.

        Raises what `work` raises (nothing of it is kept then), or DatabaseBusy, DatabaseFull.
        Cancelling the caller does not undo the unit.
        """
        return await self._enqueue(self._writes, work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` over one consistent snapshot; it cannot write."""
        return await self._enqueue(self._reads, work)

    def problem(self, patience: float) -> str | None:
        """What is wrong with its threads; None: all work. A commit may take `patience` seconds."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead and not self._closed:
            return f"A thread has ended: {', '.join(dead)}."
        since = self._writing_since
        if since is not None and time.monotonic() - since > patience:
            return f"A write has taken more than {patience:g} seconds."
        return None

    @property
    def waiting(self) -> int:
        """How many units wait for the writer."""
        return self._writes.qsize()

    def listen(self, channel: str, wake: Hook) -> None:
        """Call `wake` on the loop after each commit of a unit that has notified the channel."""
        self._listeners[channel].append(wake)

    def close(self) -> None:
        """Finish the queued units, then close all connections. Blocks for as long as they take.

        The writer's is the last, so that SQLite moves the log into the file: of two that close at
        once, each takes the other one for somebody who needs the log.
        """
        with self._gate:
            first, self._closed = not self._closed, True
        writer, *readers = self._threads
        for queue, threads in ((self._reads, readers), (self._writes, [writer])):
            for _ in threads if first else ():
                queue.put(None)
            for thread in threads:
                thread.join()

    def _enqueue(self, queue: Queue, work: Callable[[Tx], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise DatabaseClosed
            queue.put(Unit(work, loop, future))
        return future

    def _read_forever(self, connection: Connection) -> None:
        queries = Queries(connection)
        while (unit := self._reads.get()) is not None:
            queries.raw.execute("BEGIN")
            unit.attempt(self._begin(queries))
            roll_back(queries.raw)
            settle([unit])

    def _write_forever(self, connection: Connection) -> None:
        committed = self._metrics.commit_seconds.observe
        queries = Queries(connection)
        group = GroupCommit(queries.raw, partial(self._begin, queries), committed)
        while (unit := self._writes.get()) is not None:
            units = [unit, *self._waiting(BATCH - 1)]
            self._writing_since = time.monotonic()
            group.run(units)
            self._writing_since = None
            if isinstance(unit.error, DatabaseBusy):
                units += self._refused(unit.error)
            for outcome, number in Counter(map(_outcome, units)).items():
                self._metrics.units.labels(outcome).inc(number)
            settle(units)

    def _begin(self, queries: Queries) -> Tx:
        return Tx(queries, self._clock, self._ids, self._listeners, self._most)

    def _refused(self, busy: DatabaseBusy) -> list[Unit]:
        """Those who queued up behind a lock that outlasted the timeout need not wait again."""
        units = self._waiting(math.inf)
        for unit in units:
            unit.fail(busy)
        return units

    def _waiting(self, most: float) -> list[Unit]:
        """What has queued up meanwhile. The closing mark stays in the queue."""
        units: list[Unit] = []
        while len(units) < most:
            try:
                unit = self._writes.get_nowait()
            except Empty:
                break
            if unit is None:
                self._writes.put(None)
                break
            units.append(unit)
        return units


def _outcome(unit: Unit) -> str:
    """In a word for the metrics. What a unit raises is mostly a refusal of what a client asked."""
    match unit.error:
        case None:
            return "committed"
        case DatabaseBusy():
            return "busy"
        case DatabaseFull():
            return "full"
    return "refused"


def _start(serve: Callable[[Connection], None], connection: Connection) -> threading.Thread:
    """A thread that serves its queue over a connection of its own, and closes it at the end."""

    def run() -> None:
        with connection:
            serve(connection)

    thread = threading.Thread(target=run, name=serve.__name__.strip("_"), daemon=True)
    thread.start()
    return thread
