"""Takes files into vector stores: extract, count tokens, cut, index, and only then say so.

The rows in progress are the queue, so whatever ends the server, the work is still to be done when
it starts again. Indexes are kept in step with rows between two claims, when it is known what is
being put where. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from server import failpoints, logs
from server.db.database import Database, DatabaseBusy, DatabaseFull
from server.db.stores import INGESTION, VALUES_AT_ONCE
from server.db.sweep import ended, stops_within, sweep_forever
from server.files.blobs import BlobStore
from server.metrics import Metrics
from server.search.chunks import split
from server.search.extraction import Extractor, NotExtracted
from server.search.index import Indexes
from server.search.tokens import TokenCounter
from server.vector_stores.queue import (
    TRIED_TOO_OFTEN,
    Job,
    claim,
    claim_among,
    complete,
    fail,
    give_back,
    release,
)
from server.vector_stores.rows import expire_some
from server.vector_stores.upkeep import Upkeep

log = logging.getLogger(__name__)

PAUSE = 1.0
BEGINNINGS = 3  # of a file, for each attempt that may fail: servers die of other things, too


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """`retry_after` is the first pause before a file is tried again, in seconds; later ones grow.

    A file fails when so many `attempts` have, or when it was begun `BEGINNINGS` times as often
    and the server died. A file of more than `max_tokens` is refused.
    """

    parallel: int = 2
    attempts: int = 3
    retry_after: float = 2.0
    max_tokens: int = 5_000_000
    sweep_interval: float = 10.0


class Ingestor:
    """The background half of vector stores."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        extractor: Extractor,
        counter: TokenCounter,
        indexes: Indexes,
        settings: IngestSettings,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._extractor = extractor
        self._counter = counter
        self._indexes = indexes
        self._upkeep = Upkeep(db, indexes)
        self._settings = settings
        self._metrics = metrics
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._turns: dict[str, int] = {}  # of projects: the greater, the later
        self._numbers = itertools.count(1)
        self._suspects = set[int]()  # in progress when the server died: each is taken in alone
        self._failures = Counter[int]()  # attempts of this process, by `seq`
        self._due: list[tuple[float, int]] = []  # when files that failed may be claimed again
        self._locks = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._pulse = asyncio.Event()  # set, and made anew, whenever something may be ready

    @property
    def problem(self) -> str | None:
        """Why nothing is claimed or swept any more; None: all works."""
        return ended(self._loops, self._stopping)

    @property
    def running(self) -> int:
        """How many files are being taken in."""
        return len(self._jobs)

    async def start(self) -> None:
        """Take over what an earlier process left, then begin to claim.

        Holding the data folder's lock, we know that every claim is dead.
        """
        self._suspects |= {*await self._db.write(lambda tx: tx.vector_store_files.release_all())}
        await self._upkeep.start()
        self._db.listen(INGESTION, self._woken)
        interval = self._settings.sweep_interval
        sweeping = sweep_forever(self.sweep, "vector_store_sweep", interval, self._stopping)
        self._loops = [
            asyncio.create_task(self._work_forever(), name="ingestion"),
            asyncio.create_task(sweeping, name="vector store sweep"),
        ]
        self._wake.set()

    async def stop(self) -> None:
        """Leave what is being taken in for the next start; it loses no attempt by that."""
        self._stopping.set()
        self._wake.set()
        await asyncio.gather(*self._loops)
        left = dict(self._jobs)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with contextlib.suppress(DatabaseBusy, DatabaseFull):
            await self._db.write(lambda tx: give_back(tx, left.values()))

    def suspect(self, store_id: str) -> None:
        """Look whether the index of a store lacks something, and take that in anew."""
        self._upkeep.suspect(store_id)
        self._wake.set()

    async def wait_ready(self, store_id: str, timeout: float) -> bool:
        """Whether all files of a store have been taken in, or refused, within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    pulse = self._pulse
                    if not await self._db.read(lambda tx: tx.vector_stores.is_busy(store_id)):
                        return True
                    await pulse.wait()
        return False

    async def sweep(self) -> None:
        """Expire what is due, and see to it that what could not be removed or read is."""
        while await self._db.write(expire_some):
            pass
        await self._forget_failures()
        self._upkeep.try_again()
        self._wake.set()

    async def _forget_failures(self) -> None:
        """Those of files that left their store, or were refused, before they were tried again."""
        if failed := [*self._failures][:VALUES_AT_ONCE]:
            left = await self._db.read(lambda tx: tx.vector_store_files.in_progress_among(failed))
            for seq in {*failed} - left:
                self._failures.pop(seq, None)

    def _woken(self) -> None:
        self._wake.set()
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def _work_forever(self) -> None:
        while not self._stopping.is_set():
            await self._until_woken()
            try:
                await self._release_due()
                while len(self._jobs) < self._settings.parallel and await self._claim():
                    pass
                removed = await self._upkeep.remove_some(self._is_at_work)
                if await self._upkeep.look_at_one() or removed:
                    self._wake.set()
                continue
            except (DatabaseBusy, DatabaseFull):
                log.warning("ingestion_delayed")
            except Exception:  # the edge: without this loop no file would ever be taken in
                log.exception("ingestion_broken")
            await stops_within(self._stopping, PAUSE)
            self._wake.set()

    async def _until_woken(self) -> None:
        """Or until a file may be tried again."""
        pause = None
        if self._due:
            pause = max(self._due[0][0] - asyncio.get_running_loop().time(), 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        self._wake.clear()

    async def _release_due(self) -> None:
        now = asyncio.get_running_loop().time()
        seqs = [seq for due, seq in self._due if due <= now]
        if seqs:
            await self._db.write(lambda tx: release(tx, seqs))
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)

    async def _claim(self) -> bool:
        """Claim a file and begin with it; False if none waits."""
        if self._stopping.is_set():
            return False
        most = BEGINNINGS * self._settings.attempts
        if self._suspects:
            job = await self._claim_suspect(most)
        else:
            job = await self._db.write(lambda tx: claim(tx, self._turns, most))
        if job is None:
            return False
        self._turns[job.project] = next(self._numbers)
        failpoints.hit("ingest.claimed")
        task = asyncio.create_task(self._ingest(job), name=f"{job.store_id} {job.file_id}")
        self._jobs[task] = job
        task.add_done_callback(self._done)
        return True

    async def _claim_suspect(self, most: int) -> Job | None:
        """One at a time, so that no file is taken for what another one does."""
        if self._jobs:
            return None
        suspects = self._suspects
        job = await self._db.write(lambda tx: claim_among(tx, suspects, most))
        if job is None:
            suspects.clear()
            self._wake.set()
        return job

    def _done(self, task: asyncio.Task[None]) -> None:
        self._suspects.discard(self._jobs.pop(task).seq)
        self._wake.set()

    async def _ingest(self, job: Job) -> None:
        with logs.about(vector_store_id=job.store_id, file_id=job.file_id):
            await self._ingested(job)

    async def _ingested(self, job: Job) -> None:
        facts = {"attempt": job.attempt}
        try:
            async with self._lock(job.store_id, job.file_id):
                with self._metrics.ingestion_seconds.time():
                    await self._take_in(job)
            self._metrics.ingested.labels("completed").inc()
        except NotExtracted as refused:
            self._metrics.ingested.labels(refused.code).inc()
            log.info("file_refused", extra={**facts, "code": refused.code})
            if refused.code == "server_error":
                await self._try_again(job, refused.message)
            else:
                await self._settle(job, partial(fail, code=refused.code, message=refused.message))
        except Exception:  # the edge: it may be the file's fault, the model's, or the disk's
            self._metrics.ingested.labels("server_error").inc()
            log.exception("file_not_ingested", extra=facts)
            await self._try_again(job, TRIED_TOO_OFTEN)

    async def _take_in(self, job: Job) -> None:
        document = await self._extractor.extract(self._blobs.path(job.sha256), job.filename)
        failpoints.hit("ingest.extracted")
        ends = await self._counter.token_ends(document.text)
        if len(ends) > self._settings.max_tokens:
            most = self._settings.max_tokens
            raise NotExtracted("invalid_file", f"The file has more than {most} tokens.")
        chunks = await asyncio.to_thread(split, document, ends, job.chunk_size, job.overlap)
        size = await self._indexes.put(
            job.store_id, job.file_id, document.text, chunks, project=job.project
        )
        failpoints.hit("ingest.indexed")
        await self._db.write(lambda tx: complete(tx, job.seq, size))
        self._failures.pop(job.seq, None)
        failpoints.hit("ingest.completed")

    async def _try_again(self, job: Job, message: str) -> None:
        self._failures[job.seq] += 1
        failures = self._failures[job.seq]
        if failures < self._settings.attempts:
            self._later(job, self._settings.retry_after * 4 ** (failures - 1))
        else:
            del self._failures[job.seq]
            await self._settle(job, partial(fail, code="server_error", message=message))

    async def _settle(self, job: Job, end: Callable[..., None]) -> None:
        """Write how it ended; if that cannot be written now, all of it is done again."""
        try:
            await self._db.write(lambda tx: end(tx, job.seq))
        except Exception:  # the edge: a claim that nobody ends would stay until the next start
            log.exception("ingestion_unsettled")
            self._later(job, self._settings.retry_after)

    def _later(self, job: Job, seconds: float) -> None:
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + seconds, job.seq))

    def _lock(self, store_id: str, file_id: str) -> asyncio.Lock:
        """Lives for as long as somebody holds it or waits for it.

        A file that was added anew is not put into the index before its older self has been.
        """
        return self._locks.setdefault((store_id, file_id), asyncio.Lock())

    def _is_at_work(self, store_id: str, file_id: str | None) -> bool:
        return any(
            job.store_id == store_id and file_id in (None, job.file_id)
            for job in self._jobs.values()
        )
