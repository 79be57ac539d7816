"""Which models are in memory: loaded when somebody wants them, unloaded to make room or when idle.

Knows models as things that take memory while they are loaded, and nothing of what they are asked.
Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Literal, Protocol

from server.engine.protocol import EngineUnavailable
from server.engine.sizing import CannotFit, Demand, Fit

log = logging.getLogger(__name__)

TURN = 30.0  # seconds that a model waits for others' work to end before they have to let it in

State = Literal["unloaded", "loading", "ready", "failed"]


class Loadable(Protocol):
    """A model that can be loaded and unloaded, any number of times, but one after the other."""

    @property
    def trouble(self) -> str | None:
        """Why it is being loaded anew, where it is by itself; None if it can be used at once."""
        ...

    async def measure(self) -> Demand:
        """What it would take. Raises EngineUnavailable if its file is of no use."""
        ...

    async def load(self, fit: Fit | None) -> None:
        """Raises EngineUnavailable, and is unloaded then. Without a fit it takes what it likes."""
        ...

    async def unload(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stay:
    """How long a model stays: `pin` is for ever, `idle_after` seconds without use otherwise."""

    pin: bool = False
    idle_after: float = math.inf


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model stands, for whoever asks. `context` is None while it is not known."""

    state: State
    context: int | None = None
    reason: str | None = None  # why it failed, or is being loaded anew
    bytes: int = 0
    cells: int = 0  # 0 where it takes what it likes


@dataclass(slots=True, eq=False)
class _Place:
    """One model and its place in memory, or outside it."""

    id: str
    model: Loadable
    stay: Stay
    state: State = "unloaded"
    reason: str | None = None
    demand: Demand | None = None
    fit: Fit | None = None
    bytes: int = 0  # of the memory for all; its own from before it is loaded until it is gone
    failed_loads: int = 0
    users: int = 0
    waiting: int = 0  # for it to be open
    idle_since: float = 0.0
    waits_since: float | None = None  # for a place in memory
    moving: asyncio.Task[None] | None = None  # into memory, or out of it


class ModelPool:
    """All models that can be loaded. `memory` is for all together; None: each takes what it likes.

    A model is used between `enter` and `leave`, or within `using`, and not unloaded meanwhile.
    """

    def __init__(
        self,
        models: Mapping[str, Loadable],
        stays: Mapping[str, Stay],
        *,
        memory: int | None,
        now: Callable[[], float],
    ) -> None:
        self._places = {i: _Place(i, model, stays.get(i, Stay())) for i, model in models.items()}
        self._memory = memory
        self._now = now
        self._wanted = frozenset[str]()
        self._holds = 0  # while there are any, nothing is unloaded
        self._news = asyncio.Event()
        self._failures: dict[str, str] = {}
        self._listener: Callable[[], None] = _ignore

    def listen(self, changed: Callable[[], None]) -> None:
        """Have this called whenever a model became ready, failed, or is gone."""
        self._listener = changed

    @property
    def alone(self) -> bool:
        """Whether there is at most one model, and it is ready: none can want another's place."""
        return len(self._places) <= 1 and all(map(self.ready, self._places))

    def ready(self, model_id: str) -> bool:
        """Whether it is in memory. What is not in the pool needs none here."""
        place = self._places.get(model_id)
        return place is None or place.state == "ready"

    def open(self, model_id: str) -> bool:
        """Whether new work may begin on it: not if it has to go, for one that waited too long."""
        place = self._places.get(model_id)
        return self.ready(model_id) and (place is None or place is not self._yielding)

    def standing(self, model_id: str) -> Standing:
        place = self._places.get(model_id)
        if place is None:
            return Standing("ready")
        state, reason = place.state, place.reason
        if state == "ready" and (trouble := place.model.trouble):
            state, reason = "loading", trouble  # what uses it waits, and keeps its place
        cells = place.fit.cells if place.fit is not None else 0
        return Standing(state, self._context(place), reason, place.bytes, cells)

    async def survey(self) -> None:
        """Look at all files, so that what can be known of a model is known before it is loaded."""
        for place in self._places.values():
            try:
                place.demand = await place.model.measure()
            except EngineUnavailable as error:
                log.warning("model.unusable model=%s reason=%s", place.id, error)
                self._condemn(place, str(error))
            except Exception:  # the edge: one file must not keep the others from being served
                log.exception("model.unusable", extra={"model": place.id})
                self._condemn(place, "What the model takes could not be found out.")

    def _condemn(self, place: _Place, reason: str) -> None:
        """It is of no use, as far as can be seen; what is loaded, or is about to be, knows best."""
        if place.state == "unloaded":
            place.state, place.reason = "failed", reason

    def preload(self, model_ids: Iterable[str]) -> None:
        """Begin to load these, as far as there is room for them."""
        for model_id in model_ids:
            if place := self._places.get(model_id):
                self._bring(place)

    def want(self, model_ids: Iterable[str]) -> None:
        """These models, and no others, have work that waits: they are loaded, and stay for it."""
        self._wanted = frozenset(model_ids) & self._places.keys()
        for model_id in self._wanted:
            self._bring(self._places[model_id])
        self._tell()

    def failures(self) -> dict[str, str]:
        """Why models could not be loaded, by id, since they were last asked to be `forgiven`."""
        return dict(self._failures)

    def forgive(self, model_id: str) -> None:
        """All who waited for it were told; for the next who wants it, it is tried again."""
        self._failures.pop(model_id, None)
        self._tell()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is unloaded meanwhile: what is ready stays so."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._tell()

    @contextlib.asynccontextmanager
    async def using(self, model_id: str, patience: float | None = None) -> AsyncIterator[None]:
        """Use a model, which is loaded first if need be, and when others had their turn.

        Raises EngineUnavailable, also if that takes longer than `patience` seconds.
        """
        if not self.open(model_id):
            await self._admitted_within(patience, self._places[model_id])
        self.enter(model_id)
        try:
            yield
        finally:
            self.leave(model_id)

    def enter(self, model_id: str) -> None:
        if place := self._places.get(model_id):
            place.users += 1

    def leave(self, model_id: str) -> None:
        if place := self._places.get(model_id):
            place.users -= 1
            place.idle_since = self._now()
            self._tell()

    def sweep(self) -> None:
        """Unload what nobody has used for its time; let those look who have waited for theirs."""
        for place in self._places.values():
            if self._now() - place.idle_since >= place.stay.idle_after and self._may_go(place):
                self._send_away(place)
        self._tell()

    async def close(self) -> None:
        """Unload everything."""
        await asyncio.gather(*map(self._close, self._places.values()))

    async def _close(self, place: _Place) -> None:
        if place.moving is not None:
            if place.state == "loading":
                place.moving.cancel()
            await asyncio.wait({place.moving})
        if place.state == "ready":
            place.state = "unloaded"
            await place.model.unload()

    async def _admitted_within(self, patience: float | None, place: _Place) -> None:
        place.waiting += 1
        try:
            async with asyncio.timeout(patience):
                await self._admitted(place)
        except TimeoutError as late:
            raise EngineUnavailable("Other models are using the memory that it needs.") from late
        finally:
            place.waiting -= 1
            self._tell()

    async def _admitted(self, place: _Place) -> None:
        """Return once it is open. A failure from before does not count; it is tried again."""
        before = place.failed_loads
        while not self.open(place.id):
            self._bring(place)
            await self._news.wait()
            if place.failed_loads > before:
                raise EngineUnavailable(place.reason or "The model could not be loaded.")

    def _bring(self, place: _Place) -> None:
        """Begin to load it, unless it is there or on its way; for all, whoever was the first."""
        if place.moving is None and place.state != "ready" and place.id not in self._failures:
            place.state, place.reason = "loading", None
            load = self._load(place)
            place.moving = asyncio.create_task(load, name=f"load {place.id}", context=Context())

    async def _load(self, place: _Place) -> None:
        try:
            place.demand = await place.model.measure()
            if await self._settle(place, place.demand):
                await place.model.load(place.fit)
                place.state, place.idle_since = "ready", self._now()
                log.info("model.loaded", extra={"model": place.id, "bytes": place.bytes})
        except (EngineUnavailable, CannotFit) as error:
            self._fail(place, str(error))
        except Exception:  # the edge: whoever waits for the model must hear of it
            log.exception("model.load_failed", extra={"model": place.id})
            self._fail(place, "The model could not be loaded.")
        finally:
            place.moving = place.waits_since = None
            self._tell()
            self._listener()

    def _fail(self, place: _Place, reason: str) -> None:
        place.state, place.reason, place.fit, place.bytes = "failed", reason, None, 0
        place.failed_loads += 1
        self._failures[place.id] = reason

    async def _settle(self, place: _Place, demand: Demand) -> bool:
        """Give it a part of the memory, as soon as there is one; False if nobody wants it then."""
        if self._memory is None:
            return True
        while True:
            most = self._memory - sum(p.bytes for p in self._places.values() if p.stay.pin)
            least = demand.smallest(most)
            if least.bytes <= self._free and self._is_next(place):
                place.fit = demand.best(most, self._free)
                place.bytes, place.waits_since = place.fit.bytes, None
                return True
            if not self._is_wanted(place):
                place.state = "unloaded"
                return False
            if least.bytes > self._free + self._leaving and (other := self._longest_idle()):
                self._send_away(other)
            else:
                place.waits_since = place.waits_since or self._now()
                await self._news.wait()

    @property
    def _free(self) -> int:
        assert self._memory is not None, "otherwise nobody counts"
        return self._memory - sum(place.bytes for place in self._places.values())

    @property
    def _leaving(self) -> int:
        """What will be free in a moment."""
        return sum(p.bytes for p in self._places.values() if p.moving and p.state == "unloaded")

    def _is_next(self, place: _Place) -> bool:
        """Whether nobody else has waited for its turn, and longer: a large one needs all places."""
        own = place.waits_since or math.inf
        waits = (p.waits_since for p in self._places.values() if p.waits_since is not None)
        since = min(waits, default=math.inf)
        return own <= since or self._now() - since < TURN

    def _is_wanted(self, place: _Place) -> bool:
        return place.users > 0 or place.waiting > 0 or place.id in self._wanted

    def _may_go(self, place: _Place) -> bool:
        done = not self._is_wanted(place) or (place is self._yielding and place.users == 0)
        return place.state == "ready" and done and not place.stay.pin and not self._holds

    @property
    def _yielding(self) -> _Place | None:
        """The largest model that may go, if another has waited for its turn: it begins no work."""
        since = (p.waits_since for p in self._places.values() if p.waits_since is not None)
        if self._now() - min(since, default=math.inf) < TURN:
            return None
        ready = (p for p in self._places.values() if p.state == "ready" and not p.stay.pin)
        return max(ready, key=lambda place: place.bytes, default=None)

    def _longest_idle(self) -> _Place | None:
        idle = filter(self._may_go, self._places.values())
        return min(idle, key=lambda place: place.idle_since, default=None)

    def _send_away(self, place: _Place) -> None:
        log.info("model.unloading", extra={"model": place.id})
        place.state = "unloaded"
        place.moving = asyncio.create_task(self._unload(place), name=f"unload {place.id}")

    async def _unload(self, place: _Place) -> None:
        try:
            await place.model.unload()
        except Exception:  # the edge: whatever it is, its place must not stay taken
            log.exception("model.unload_failed", extra={"model": place.id})
        finally:
            place.moving, place.fit, place.bytes = None, None, 0
            self._tell()
            self._listener()

    def _context(self, place: _Place) -> int | None:
        """What it has, or will have when all memory that it can get is given to it."""
        if place.fit is not None:
            return place.fit.context
        if place.demand is None:
            return None
        if self._memory is None:
            return place.demand.context
        with contextlib.suppress(CannotFit):
            return place.demand.smallest(self._memory).context
        return None

    def _tell(self) -> None:
        """Let everybody here who waits look again."""
        self._news.set()
        self._news = asyncio.Event()


def _ignore() -> None:
    """Nobody listens yet."""
