"""Claims queued runs and drives each in a task of its own; ends those whose time is over.

A run is claimed only when its model is loaded and has a permit: a turn that it can take at once.
It lends that to others while the server's tools work for it.
What queued runs wait for is loaded; if that fails, they fail. Deadlines run on the monotonic clock
while the process lives, so that a jump of the wall clock neither expires nor revives a run.
Everything here is owned by the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from server.clock import Clock
from server.config import BusyPolicy
from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull, Tx
from server.db.stores import Record
from server.db.sweep import ended, stops_within, sweep_forever
from server.engine.cache_folder import CacheFolder
from server.engine.pool import ModelPool
from server.ids import IdSource
from server.runs.announce import Announcer
from server.runs.context import ContextBuilder
from server.runs.events import EventBus
from server.runs.execution import SERVER_ERROR, Limits, RunExecution
from server.runs.lifecycle import Lifecycle
from server.runs.models import Catalog
from server.runs.observer import Observer
from server.runs.progress import Charge, Ending, Progress
from server.runs.replay import rebuilt
from server.runs.state import TERMINAL, Claim, RunMoved
from server.schemas import RunStatus
from server.tools.toolbox import Toolbox

log = logging.getLogger(__name__)

CLAIMED = ("in_progress", "cancelling")
CLAIMS_AT_ONCE = 32
RETRY_AFTER = 0.5
LAST_WRITES = 5.0


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Times in seconds.

    `restarts`: how often a run is queued again after the server died, or could not write.
    `project_queue` and `queue` runs may wait, of a project and of all.
    """

    expires_after: int = 600
    sweep_interval: float = 1.0
    completion_cap: int = 2048
    tool_rounds: int = 100
    worker_deaths: int = 2
    restarts: int = 5
    project_queue: int = 2000
    queue: int = 10_000
    busy_policy: BusyPolicy = "error"
    busy_waiting: int = 32


class RunExecutor:
    """The background half of the server; its `lifecycle` are the verbs that feed it."""

    def __init__(
        self,
        db: Database,
        bus: EventBus,
        catalog: Catalog,
        pool: ModelPool,
        cache: CacheFolder,
        clock: Clock,
        ids: IdSource,
        settings: ExecutorSettings,
        observer: Observer,
        tools: Toolbox,
        charge: Charge,
    ) -> None:
        self.lifecycle = Lifecycle(
            bus,
            catalog,
            self,
            expires_after=settings.expires_after,
            project_queue=settings.project_queue,
            queue=settings.queue,
            busy_policy=settings.busy_policy,
            busy_waiting=settings.busy_waiting,
        )
        self._db = db
        self._bus = bus
        self._catalog = catalog
        self._pool = pool
        self._cache = cache
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._observer = observer
        self._tools = tools
        self._progress = Progress(Announcer(bus), self.lifecycle, charge)
        self._context = ContextBuilder(
            db, completion_cap=settings.completion_cap, tool_rounds=settings.tool_rounds
        )
        self._permits = Counter({m.id: m.chat.slots for m in catalog.models.values()})
        self._turns: dict[str, int] = {}  # by project, greater the later it had its last one
        self._running: dict[str, RunExecution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._deadlines: dict[str, float] = {}
        self._left: list[str] = []  # runs of an earlier process that were not taken over yet
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        pool.listen(self._wake.set)

    async def start(self) -> None:
        """Take over what an earlier process left, then begin to claim.

        What of it cannot be written now is written before the first claim.
        """
        await self._find_left()
        try:
            await self._recover()
        except (DatabaseBusy, DatabaseFull):
            log.warning("recovery_delayed", extra={"runs": len(self._left)})
        interval = self._settings.sweep_interval
        sweeping = sweep_forever(self.sweep, "sweep", interval, self._stopping)
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="claims"),
            asyncio.create_task(sweeping, name="sweep"),
        ]
        self._wake.set()

    async def stop(self, grace: float) -> None:
        """Claim no more; let turns finish for `grace` seconds, then queue the rest again.

        Only the first call does anything: who serves stops it, and who composed it makes sure.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.set()
        await asyncio.gather(*self._loops)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for execution in self._running.values():
            execution.interrupt("queued")
        if self._tasks:  # longer only where the disk is full: recovery ends those
            await asyncio.wait(self._tasks, timeout=LAST_WRITES)
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
        self._wake.set()  # it may have been the last that its model was loaded for

    def forget(self, project: str, thread_id: str) -> None:
        self._tools.forget(project, thread_id)
        for model in self._catalog.models.values():
            model.chat.forget(thread_id)
        self._cache.forget(thread_id)

    @property
    def problem(self) -> str | None:
        """Why nothing is claimed or swept any more; None: all works."""
        return ended(self._loops, self._stopping)

    @property
    def running(self) -> int:
        """How many runs are being executed."""
        return len(self._running)

    async def _claim_forever(self) -> None:
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._recover()
                await self._fail_hopeless()
                while not self._stopping.is_set() and await self._claim_some() == CLAIMS_AT_ONCE:
                    pass  # there may be more
                await self._call_for_models()
                continue
            except (DatabaseBusy, DatabaseFull):
                log.warning("claim_delayed")
            except Exception:  # the edge: without this loop no run would ever begin
                log.exception("claim_failed")
            await stops_within(self._stopping, RETRY_AFTER)
            self._wake.set()

    async def _fail_hopeless(self) -> None:
        """Fail what waits for models that could not be loaded."""
        for model_id, reason in self._pool.failures().items():
            log.error("model.load_failed model=%s reason=%s", model_id, reason)
            fail = partial(self.lifecycle.fail_waiting, model_id=model_id, reason=reason)
            while await self._db.write(fail):
                pass
            self._pool.forgive(model_id)

    async def _call_for_models(self) -> None:
        """Have the models loaded, and kept, that queued runs need."""
        if not self._pool.alone and not self._stopping.is_set():
            self._pool.want(await self._db.read(lambda tx: tx.runs.models_waited_for()))

    async def _claim_some(self) -> int:
        """Claim and start runs while there are permits, in one transaction; how many, at most."""
        with self._pool.held():
            free = Counter({i: n for i, n in self._permits.items() if n > 0 and self._pool.open(i)})
            return await self._db.write(lambda tx: self._claims(tx, +free)) if free else 0

    def _claims(self, tx: Tx, free: Counter[str]) -> int:
        """How many were claimed. They begin as the claim commits, so that no cancel misses them."""
        turns = dict(self._turns)
        for count in range(CLAIMS_AT_ONCE):
            ids = list(+free)
            claimed = self.lifecycle.claim(tx, ids, turns) if ids else None
            if claimed is None:
                return count
            run, claim = claimed
            free[run.model_id] -= 1
            turns[run.project_id] = max(turns.values(), default=0) + 1
            tx.after_commit(partial(self._begin, run, claim))
        return CLAIMS_AT_ONCE

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
            tools=self._tools,
            observer=self._observer,
            at_rest=partial(self._at_rest, run.model_id),
            limits=Limits(self._settings.worker_deaths, self._settings.restarts),
        )
        self._permits[run.model_id] -= 1
        self._turns[run.project_id] = max(self._turns.values(), default=0) + 1
        self._pool.enter(run.model_id)
        self._running[run.id] = execution
        task = asyncio.create_task(self._drive(execution, run), name=run.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextmanager
    def _at_rest(self, model_id: str) -> Iterator[None]:
        """While a run's tools work, its model can take another's turn; two may wait for it then."""
        self._permits[model_id] += 1
        self._wake.set()
        try:
            yield
        finally:
            self._permits[model_id] -= 1

    async def _drive(self, execution: RunExecution, run: Record) -> None:
        try:
            with self._observer.claim(run) as claim:
                claim.to = await self._driven(execution)
        finally:
            if self._running.get(run.id) is execution:  # else it was claimed again with that
                del self._running[run.id]
            self._permits[run.model_id] += 1
            self._pool.leave(run.model_id)
            self._wake.set()

    async def _driven(self, execution: RunExecution) -> RunStatus | None:
        try:
            status = await execution.drive()
            if status in TERMINAL:
                self.over(execution.run_id)
            return status
        except DatabaseClosed:
            log.warning("run_left_to_recovery")
        except Exception:  # the edge: the sweep ends the run when its time is over
            log.exception("run_left_open")
        return None

    async def sweep(self) -> None:
        """Expire what is due, forget old events, unload what nobody uses."""
        now = self._clock.monotonic()
        for run_id in [run_id for run_id, due in self._deadlines.items() if due <= now]:
            await self._expire(run_id)
        self._bus.forget_old()
        self._pool.sweep()

    async def _expire(self, run_id: str) -> None:
        execution = self._running.get(run_id)
        if execution is not None:
            return execution.interrupt("expired")
        try:
            await self._db.write(lambda tx: self._expire_unheld(tx, run_id))
        except RunMoved:
            self.over(run_id)
        return None

    def _expire_unheld(self, tx: Tx, run_id: str) -> None:
        """Expire a run that has no execution, or whose execution begins only now."""
        run = tx.runs.by_id(run_id)
        if run is not None and run.status in CLAIMED:
            self._progress.end(tx, Claim(run_id, run.fence), Ending("expired", None))
        else:
            self.lifecycle.expire(tx, run_id)

    async def _find_left(self) -> None:
        """Let the active runs of a dead process have streams again, and set their clocks."""
        found = await self._db.read(
            lambda tx: [(run, rebuilt(tx, run)) for run in tx.runs.active()]
        )
        for run, events in found:
            self._bus.seed(run.id, events)
            if run.expires_at is not None:
                left = min(max(run.expires_at - self._clock.now(), 0), self._settings.expires_after)
                self._deadlines[run.id] = self._clock.monotonic() + left
        self._left = [run.id for run, _ in reversed(found)]

    async def _recover(self) -> None:
        """Queue again what a dead process executed. Raises DatabaseBusy, DatabaseFull."""
        runs = len(self._left)
        while self._left:
            run_id = self._left[-1]
            self._observer.recovered(await self._db.write(partial(self._recovered, run_id=run_id)))
            self._left.pop()
        if runs:
            log.info("recovered", extra={"runs": runs})

    def _recovered(self, tx: Tx, run_id: str) -> bool:
        """Decide about one run that was active; whether it was claimed. No other is, as yet."""
        run = tx.runs.by_id(run_id)
        was_claimed = run is not None and run.status in CLAIMED
        if run is not None and was_claimed:
            ending = self._after_death(run)
            self._progress.end(tx, Claim(run_id, run.fence), ending)
            if ending.to in TERMINAL:
                tx.after_commit(partial(self.over, run_id))
        self.lifecycle.settle_model(tx, run_id)
        return was_claimed

    def _after_death(self, run: Record) -> Ending:
        if run.status == "cancelling":
            return Ending("cancelled", None)
        if run.restarts >= self._settings.restarts:
            return Ending("failed", None, error=SERVER_ERROR)
        return Ending("queued", None, error=SERVER_ERROR, restarts=1)
