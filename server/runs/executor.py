"""Claims queued runs and drives each in a task of its own; ends those whose time is over.

A run is claimed only with a permit of its model, a free sequence of the engine. Deadlines run on
the monotonic clock while the process lives, so that a jump of the wall clock neither expires nor
revives a run. Everything here is owned by the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from server.clock import Clock
from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull, Tx
from server.db.stores import Record
from server.ids import IdSource
from server.metrics import Metrics
from server.runs.announce import Announcer
from server.runs.context import ContextBuilder
from server.runs.events import EventBus
from server.runs.execution import SERVER_ERROR, Limits, RunExecution
from server.runs.lifecycle import Lifecycle
from server.runs.models import Catalog
from server.runs.progress import Ending, Progress
from server.runs.replay import Marked, rebuilt
from server.runs.state import TERMINAL, Claim, RunMoved

log = logging.getLogger(__name__)

CLAIMS_AT_ONCE = 32
RETRY_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Times in seconds. `restarts`: how often a run is queued again after the server died."""

    expires_after: int = 600
    sweep_interval: float = 1.0
    completion_cap: int = 2048
    worker_deaths: int = 2
    restarts: int = 5


class RunExecutor:
    """The background half of the server; its `lifecycle` are the verbs that feed it."""

    def __init__(
        self,
        db: Database,
        bus: EventBus,
        catalog: Catalog,
        clock: Clock,
        ids: IdSource,
        settings: ExecutorSettings,
        metrics: Metrics,
    ) -> None:
        self.lifecycle = Lifecycle(bus, catalog, self, expires_after=settings.expires_after)
        self._db = db
        self._bus = bus
        self._catalog = catalog
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._metrics = metrics
        self._progress = Progress(Announcer(bus))
        self._context = ContextBuilder(db, completion_cap=settings.completion_cap)
        self._permits = Counter({m.id: m.engine.slots for m in catalog.models.values()})
        self._running: dict[str, RunExecution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._deadlines: dict[str, float] = {}
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Take over what an earlier process left, then begin to claim."""
        await self._recover()
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="claims"),
            asyncio.create_task(self._sweep_forever(), name="sweep"),
        ]
        self._wake.set()

    async def stop(self, grace: float) -> None:
        """Claim no more; let turns finish for `grace` seconds, then queue the rest again."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for execution in self._running.values():
            execution.interrupt("queued")
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._bus.stop("The server is shutting down; the run goes on when it is back.")

    def queued(self, run_id: str, seconds_left: float) -> None:
        self._deadlines.setdefault(run_id, self._clock.monotonic() + seconds_left)
        self._wake.set()

    def cancel(self, run_id: str) -> None:
        execution = self._running.get(run_id)
        if execution is not None:
            execution.interrupt("cancelled")

    def over(self, run_id: str) -> None:
        self._deadlines.pop(run_id, None)

    @property
    def running(self) -> int:
        """How many runs are being executed."""
        return len(self._running)

    async def _claim_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._claim_some():
                    pass
            except (DatabaseBusy, DatabaseFull):
                log.warning("claim_delayed")
                await asyncio.sleep(RETRY_AFTER)
                self._wake.set()

    async def _claim_some(self) -> bool:
        """Claim and start runs while there are permits, in one transaction; False if none waits."""
        free = +self._permits
        if not free:
            return False
        claims = await self._db.write(lambda tx: self._claims(tx, Counter(free)))
        for run, claim in claims:
            self._begin(run, claim)
        return bool(claims)

    def _claims(self, tx: Tx, free: Counter[str]) -> list[tuple[Record, Claim]]:
        claims: list[tuple[Record, Claim]] = []
        while len(claims) < CLAIMS_AT_ONCE and (ids := list(+free)):
            claimed = self.lifecycle.claim(tx, ids)
            if claimed is None:
                break
            free[claimed[0].model_id] -= 1
            claims.append(claimed)
        return claims

    def _begin(self, run: Record, claim: Claim) -> None:
        execution = RunExecution(
            run,
            claim,
            self._catalog.models[run.model_id],
            db=self._db,
            bus=self._bus,
            ids=self._ids,
            progress=self._progress,
            context=self._context,
            limits=Limits(self._settings.worker_deaths),
        )
        self._permits[run.model_id] -= 1
        self._running[run.id] = execution
        task = asyncio.create_task(self._drive(execution, run), name=run.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, execution: RunExecution, run: Record) -> None:
        begun = self._clock.monotonic()
        try:
            if await execution.drive() in TERMINAL:
                self.over(run.id)
        except DatabaseClosed:
            log.warning("run_left_to_recovery", extra={"run_id": run.id})
        finally:
            del self._running[run.id]
            self._permits[run.model_id] += 1
            self._metrics.turn_seconds.observe(self._clock.monotonic() - begun)
            self._wake.set()

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_interval)
            try:
                await self.sweep()
            except (DatabaseBusy, DatabaseFull):
                log.warning("sweep_delayed")

    async def sweep(self) -> None:
        """Expire what is due, and forget old events."""
        now = self._clock.monotonic()
        for run_id in [run_id for run_id, due in self._deadlines.items() if due <= now]:
            await self._expire(run_id)
        self._bus.forget_old()

    async def _expire(self, run_id: str) -> None:
        execution = self._running.get(run_id)
        if execution is not None:
            return execution.interrupt("expired")
        try:
            await self._db.write(lambda tx: self.lifecycle.expire(tx, run_id))
        except RunMoved:
            self.over(run_id)
        return None

    async def _recover(self) -> None:
        """Queue again what a dead process executed, and set the clocks of all active runs."""
        active = await self._db.read(lambda tx: tx.runs.active())
        for run in active:
            row, events = await self._db.write(partial(self._recovered, run=run))
            self._bus.seed(row.id, events)
            if row.expires_at is not None:
                left = min(max(row.expires_at - self._clock.now(), 0), self._settings.expires_after)
                self._deadlines[row.id] = self._clock.monotonic() + left
        if active:
            log.info("recovered", extra={"runs": len(active)})

    def _recovered(self, tx: Tx, run: Record) -> tuple[Record, Sequence[Marked]]:
        """Decide about one active run. Its log is rebuilt, so this unit's events are dropped."""
        if run.status in ("in_progress", "cancelling"):
            self._progress.end(tx, Claim(run.id, run.fence), self._after_death(run))
        elif run.status == "queued" and run.model_id not in self._catalog.models:
            self._resolve_again(tx, run)
        tx.hooks.clear()
        row = tx.runs.by_id(run.id)
        assert row is not None, "nothing else writes yet"
        return row, rebuilt(tx, row)

    def _after_death(self, run: Record) -> Ending:
        if run.status == "cancelling":
            return Ending("cancelled", None)
        if run.restarts >= self._settings.restarts:
            return Ending("failed", None, error=SERVER_ERROR)
        return Ending("queued", None, error=SERVER_ERROR, restarts=1)

    def _resolve_again(self, tx: Tx, run: Record) -> None:
        """The configuration has changed since the run was queued."""
        model = self._catalog.resolve(run.model)
        if model is not None:
            tx.runs.update(run.seq, {"model_id": model.id})
            return
        message = f"The model '{run.model}' is not configured on this server any more."
        self.lifecycle.fail_queued(tx, run.id, "server_error", message)
