"""A unit of work: a plain synchronous function over one transaction, and the way of its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from server.clock import Clock
from server.db.connection import translated
from server.db.queries import Queries
from server.db.stores import Stores
from server.ids import IdSource

log = logging.getLogger(__name__)

T = TypeVar("T")
Hook = Callable[[], None]
Listeners = Mapping[str, Sequence[Hook]]


class Tx(Stores):
    """One transaction: the stores, the time of its start, and what to do once it is committed."""

    def __init__(
        self,
        queries: Queries,
        clock: Clock,
        ids: IdSource,
        listeners: Listeners,
        most: Mapping[str, int],
    ) -> None:
        super().__init__(queries, most)
        self.ids = ids
        self.now = clock.now()
        self.hooks: list[Hook] = []
        self._listeners = listeners

    def touch(self) -> None:
        """Write something that changes nothing, to see whether anything can be written."""
        self.queries.raw.execute("PRAGMA user_version = 0")

    def after_commit(self, hook: Hook) -> None:
        """Call `hook` on the event loop once this unit is durable."""
        self.hooks.append(hook)

    def wholly(self, work: Callable[[Self], T]) -> T:
        """Do a part of the unit's work. If it raises, nothing of it is kept; the unit may go on."""
        raw, hooks = self.queries.raw, len(self.hooks)
        raw.execute("SAVEPOINT part")
        try:
            result = work(self)
        except Exception:
            del self.hooks[hooks:]
            if raw.in_transaction:  # a full disk has rolled back all of it
                raw.execute("ROLLBACK TO part")
                raw.execute("RELEASE part")
            raise
        raw.execute("RELEASE part")
        return result

    def notify(self, channel: str) -> None:
        """Once this unit is durable, wake whoever listens to the database on this channel."""
        self.hooks += self._listeners.get(channel, ())


@dataclass(slots=True, eq=False)
class Unit:
    """Work in a queue. The thread that took it attempts it, then the caller's loop settles it.

    Both happen in its caller's context, so that their log lines tell what it was about.
    """

    work: Callable[[Tx], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    hooks: Sequence[Hook] = ()
    result: Any = None
    error: Exception | None = None
    context: Context = field(default_factory=copy_context)

    def attempt(self, tx: Tx) -> None:
        """Do the work, anew if it was done before; an error is kept for the caller."""
        try:
            result = self.context.run(self.work, tx)
            self.result, self.hooks, self.error = result, tx.hooks, None
        except Exception as error:  # noqa: BLE001 - the caller gets it, the thread lives on
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Have the caller get this error, and nobody a result."""
        self.result, self.hooks, self.error = None, (), translated(error)

    def settle(self) -> None:
        """Runs on the loop: the hooks first, so that they precede the caller's next step."""
        for hook in self.hooks:
            try:
                self.context.run(hook)
            except Exception:
                log.exception("after_commit_failed")
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def settle(units: Iterable[Unit]) -> None:
    """Answer the units on their loops, in this order, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Unit]] = {}
    for unit in units:
        by_loop.setdefault(unit.loop, []).append(unit)
    for loop, members in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, members)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("answer_lost", extra={"units": len(members)})


def _settle_all(units: list[Unit]) -> None:
    for unit in units:
        unit.settle()
