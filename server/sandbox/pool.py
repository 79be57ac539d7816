"""Every thread's session: found or made, kept for a while, replaced when it is gone.

Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from server.clock import Clock
from server.config import CodeInterpreterSettings
from server.sandbox.backends import Backend, Slots
from server.sandbox.process import Launch, Lost, SandboxProcess
from server.sandbox.session import Excess, Fetch, Session, is_at_hand
from server.sandbox.values import (
    FileIn,
    Output,
    Result,
    SandboxCrashed,
    SandboxUnavailable,
    SessionKey,
)

log = logging.getLogger(__name__)

_START_PATIENCE: Final = 30.0  # seconds
_LOOK_AT_BUSY: Final = 0.1
_LOOK_AT_ALL: Final = 10  # each so many looks
_LOOKS_AT_ONCE: Final = 4
_REST: Final = 3  # between two looks, in times that the first took
_SPARE_AGAIN: Final = 10.0  # seconds, after no spare session could be had
_MOST_REMEMBERED: Final = 10_000  # threads whose session is gone
_RESTARTED: Final = (
    "The session was restarted: variables and files of earlier calls are gone, but for the files "
    "that were uploaded."
)
_DELETED: Final = "The thread was deleted."


@dataclass(slots=True)
class _Place:
    """A thread's: its session, if it has one now, and whose turn it is."""

    session: Session | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0  # that are in a call or wait for their turn
    used: float = 0.0
    was_lost: bool = False
    is_closed: bool = False


class SessionPool:
    """A Sandbox on this machine, over a backend that has passed its tests."""

    problem: str | None = None

    def __init__(
        self,
        backend: Backend,
        settings: CodeInterpreterSettings,
        clock: Clock,
    ) -> None:
        self.backend = backend
        self.settings = settings
        self.kills = 0  # sessions that were ended for what they took
        self._clock = clock
        self._places: OrderedDict[SessionKey, _Place] = OrderedDict()  # the last used one last
        self._starting = 0
        self._room = asyncio.Condition()
        self._spares: list[Session] = []
        self._filling = 0
        self._refill_from = -math.inf  # on the monotonic clock
        self._slots = Slots(settings)
        self._free_slots: list[int] = []
        self._looked_at = set[Session]()
        self._threads = ThreadPoolExecutor(_LOOKS_AT_ONCE, "sandbox")
        self._tasks = set[asyncio.Task[None]]()
        self._is_closed = False

    def start(self) -> None:
        """Begin to keep spare sessions, and to look after all."""
        self._go(self._look_after())
        self._refill()

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
        fetch: Fetch = is_at_hand,
    ) -> Result:
        """As Sandbox.run. What a session lacks is fetched when its turn has come: it may be new."""
        async with self._turn(session) as place:
            place.was_lost |= has_run and place.session is None
            found = await self._session(place)
            note = _RESTARTED if place.was_lost else None
            result = await found.run(code, files, emit, note=note, fetch=fetch)
            place.was_lost = False  # it has been told
            return result

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        if session not in self._places:
            raise LookupError(name)
        async with self._turn(session) as place:
            if place.session is None:
                raise LookupError(name)
            return await place.session.read(name, into)

    async def close_session(self, session: SessionKey) -> None:
        place = self._places.pop(session, None)
        if place is not None:
            place.is_closed = True
            await self._end(place)

    async def close(self) -> None:
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        held = [place.session for place in self._places.values() if place.session is not None]
        await asyncio.gather(*(session.end() for session in [*held, *self._spares]))
        self._threads.shutdown(wait=False)
        self._slots.close()

    async def expire(self) -> None:
        """End the sessions that nobody used for long."""
        now = self._clock.monotonic()
        for place in list(self._places.values()):
            if not place.callers and now - place.used >= self.settings.idle_after:
                await self._lose(place)

    def pids(self, key: SessionKey) -> list[int]:
        """The processes of a thread's session."""
        place = self._places.get(key)
        return [] if place is None or place.session is None else place.session.pids

    @property
    def sessions(self) -> int:
        """How many threads have one."""
        return sum(place.session is not None for place in self._places.values())

    @property
    def spares(self) -> int:
        return len(self._spares)

    @contextlib.asynccontextmanager
    async def _turn(self, key: SessionKey) -> AsyncIterator[_Place]:
        """A thread's calls queue here."""
        place = self._places.setdefault(key, _Place())
        place.callers += 1
        try:
            async with place.lock:
                if place.is_closed:
                    raise SandboxUnavailable(_DELETED)
                yield place
        finally:
            place.callers -= 1
            place.used = self._clock.monotonic()
            if place.session is not None and place.session.is_over:
                await self._lose(place)
            if key in self._places:
                self._places.move_to_end(key)
            async with self._room:  # somebody may wait for a session that can be ended
                self._room.notify_all()

    async def _session(self, place: _Place) -> Session:
        """The place's own, or a new one. Raises SandboxUnavailable."""
        if place.session is not None and place.session.is_over:
            await self._lose(place)
        if place.session is None:
            async with self._room:
                await self._room.wait_for(self._can_have_room)
                self._starting += 1
            try:
                await self._make_room()
                place.session = await self._new_session()
            finally:
                self._starting -= 1
        if place.is_closed:
            await self._end(place)
            raise SandboxUnavailable(_DELETED)
        return place.session

    def _can_have_room(self) -> bool:
        return self._free > 0 or self._longest_unused() is not None

    @property
    def _free(self) -> int:
        return self.settings.sessions - self.sessions - self._starting

    async def _make_room(self) -> None:
        while self._free < 0 and (place := self._longest_unused()) is not None:
            await self._lose(place)

    def _longest_unused(self) -> _Place | None:
        held = (place for place in self._places.values() if place.session is not None)
        return next((place for place in held if not place.callers), None)

    async def _new_session(self) -> Session:
        """A spare one, if there is one. Raises SandboxUnavailable."""
        while self._spares:
            session = self._spares.pop(0)
            self._refill()
            if not session.is_over:
                return session
            await session.end()
        return await self._started()

    async def _started(self) -> Session:
        """Raises SandboxUnavailable."""
        try:
            process = await SandboxProcess.start(self._launch(), _START_PATIENCE)
        except (Lost, OSError) as error:
            raise SandboxUnavailable(f"No session could be started: {error}.") from error
        return Session(process, self.settings)

    def _launch(self) -> Launch:
        """Raises OSError."""
        slot = self._free_slots.pop() if self._free_slots else next(self._slots)
        try:
            launch = self.backend.launch(slot)
        except BaseException:
            self._free_slots.append(slot)
            raise
        return replace(launch, clear=partial(self._clear, launch.clear, slot))

    def _clear(self, clear: Callable[[], None], slot: int) -> None:
        """When nothing is left of a session."""
        clear()
        self._free_slots.append(slot)

    async def _lose(self, place: _Place) -> None:
        """End a place's session; its thread is told when it comes back."""
        place.was_lost = True
        await self._end(place)
        self._forget()

    async def _end(self, place: _Place) -> None:
        session, place.session = place.session, None
        if session is not None:
            self.kills += session.was_killed
            await session.end()

    def _forget(self) -> None:
        """Threads that have been without a session for longest, where there are very many."""
        gone = [k for k, p in self._places.items() if p.session is None and not p.callers]
        for key in gone[: max(0, len(gone) - _MOST_REMEMBERED)]:
            del self._places[key]

    def _refill(self) -> None:
        if self._is_closed or self._clock.monotonic() < self._refill_from:
            return
        while len(self._spares) + self._filling < self.settings.spare:
            self._filling += 1
            self._go(self._add_spare())

    async def _add_spare(self) -> None:
        try:
            session = await self._started()
            try:
                await session.warm_up()
            except BaseException:
                await session.end()
                raise
            self._spares.append(session)
        except (SandboxUnavailable, SandboxCrashed) as problem:  # whoever needs one is told
            log.warning("sandbox.no_spare", extra={"reason": str(problem)})
            self._refill_from = self._clock.monotonic() + _SPARE_AGAIN
        finally:
            self._filling -= 1

    async def _replace_spares(self) -> None:
        """Those that have died, or could not be had."""
        over = [session for session in self._spares if session.is_over]
        self._spares = [session for session in self._spares if session not in over]
        self._refill()
        for session in over:
            await session.end()

    async def _check(self, session: Session) -> None:
        """A session that cannot be looked at is ended; one that it takes long for waits longer."""
        self._looked_at.add(session)
        began = time.monotonic()
        try:
            await session.check(self._threads)
            await asyncio.sleep(_REST * (time.monotonic() - began))
        except Exception:
            log.exception("sandbox.check_failed")
            await session.end(Excess("unseen", "The session could not be looked after."))
        finally:
            self._looked_at.discard(session)

    async def _look_after(self) -> None:
        """The limits that only a look from outside finds, expiry, and spares that are missing."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_AT_BUSY)
            looks += 1
            everybody = looks % _LOOK_AT_ALL == 0
            held = [place.session for place in self._places.values() if place.session is not None]
            for session in held:
                if (session.is_at_work or everybody) and session not in self._looked_at:
                    self._go(self._check(session))
            if everybody:
                self._go(self.expire())
                self._go(self._replace_spares())

    def _go(self, work: Coroutine[None, None, None]) -> None:
        """In a context of its own: it is not for whoever happens to need it now."""
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
