"""The engine as the rest of the server sees it: one model behind one worker process.

A worker that dies fails what it was decoding and is started again; what is asked meanwhile waits
for it. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from server.engine.archive import forget_files
from server.engine.generation import WorkerGeneration
from server.engine.gguf import NotGGUF, parts_of, read_gguf, sample_of
from server.engine.messages import (
    Cancel,
    Dropped,
    Embedded,
    End,
    Failure,
    FailureKind,
    Forget,
    Generate,
    Load,
    Loaded,
    Step,
    Unsendable,
)
from server.engine.process import News, WorkerProcess
from server.engine.protocol import (
    Embeddings,
    EngineCrashed,
    EngineError,
    EngineUnavailable,
    Finished,
    GrammarRefused,
    InvalidRequest,
    ModelInfo,
    PromptTooLong,
    Request,
    Span,
)
from server.engine.questions import Embedding, Locating, Question, Tokenizing
from server.engine.settings import EngineSettings
from server.engine.sizing import Demand, Fit, demand
from server.engine.stats import EngineStats

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 10.0
STEADY_LIFE: Final = 60.0  # a worker that lived this long is not in a crash loop
QUESTION_TRIES: Final = 2  # it may be what killed the worker
HANG_STEPS: Final = 20  # a step this many times longer than the last one is a hang
# An embedding model reads a text in one step, and a long one slower: its tokens attend to more.
HANG_TEXTS: Final = 8


class WorkerEngine:
    """Implements Engine over a worker process."""

    def __init__(
        self,
        model_path: Path | str,
        *,
        name: str,
        description: str = "",
        settings: EngineSettings | None = None,
        cache: Path | None = None,
        counts_gpu: bool = False,
    ) -> None:
        self._settings = settings or EngineSettings()
        self.patience = _longest_recovery(self._settings)  # of a call that waits for a worker
        self._cache = cache
        self._counts_gpu = counts_gpu  # whether models share the GPUs' memory, or the machine's
        folder = str(cache) if cache is not None else None
        self._load = Load(str(model_path), name, description, self._settings, folder)
        self._worker: WorkerProcess | None = None
        self._loaded: Loaded | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._generations: dict[int, WorkerGeneration] = {}
        self._questions: dict[int, Tokenizing | Locating | Embedding] = {}
        self._answers = 0  # to questions, or parts of answers
        self._coming = False  # the first worker
        self._forgotten: set[str] = set()  # owners, while a worker comes or goes
        self._stats = EngineStats()
        self._pace = 0.0  # seconds that an embedding model takes for a token
        self._trouble: str | None = None  # of the last worker, or of its successor

    @property
    def slots(self) -> int:
        return self._settings.slots

    @property
    def info(self) -> ModelInfo:
        if self._loaded is None:
            raise EngineUnavailable("The model is not loaded.")
        return self._loaded.info

    @property
    def stats(self) -> EngineStats:
        return replace(self._stats)

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def pid(self) -> int | None:
        """Of the worker; None while there is none."""
        return self._worker.pid if self._worker else None

    async def measure(self) -> Demand:
        path = Path(self._load.path)
        try:
            file = await asyncio.to_thread(read_gguf, path)
            return demand(file, self._settings, of_gpu=self._counts_gpu)
        except NotGGUF as problem:
            raise EngineUnavailable(str(problem)) from None

    async def identify(self) -> str:
        return await asyncio.to_thread(self._digest)

    def _digest(self) -> str:
        """Of samples of the files and, as they change what is computed, of the adapters' scales."""
        lora = self._settings.lora
        digest = hashlib.sha256(repr(list(lora.values())).encode())
        for path in (*parts_of(Path(self._load.path)), *map(Path, lora)):
            try:
                digest.update(sample_of(path))
            except OSError as error:
                raise EngineUnavailable(f"{path} cannot be read: {error.strerror}.") from None
        return digest.hexdigest()[:32]

    async def start(self, fit: Fit | None = None) -> None:
        check_model_file(Path(self._load.path))
        if fit is not None:
            fitted = replace(self._settings, context=fit.context, kv_cells=fit.cells)
            if not self._counts_gpu:  # else the worker looks at what memory there is
                fitted = replace(fitted, cache_ram_bytes=fit.snapshots)
            self._load = replace(self._load, settings=fitted)
        self._coming = True
        try:
            worker = await WorkerProcess.start(self._load, self._receive)
        finally:
            self._coming = False
        self._welcome(worker)
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        try:
            await self._dismiss_keeper()
        finally:
            self._trouble = None
            self._fail_calls(EngineUnavailable("The engine was stopped."))
            await self._dismiss_worker()

    async def tokenize(self, spans: Sequence[Span]) -> list[int]:
        question = Tokenizing(next(self._numbers), spans)
        with self._asked(question):
            return await self._answer(question)

    async def token_ends(self, text: str) -> list[int]:
        question = Locating(next(self._numbers), text)
        with self._asked(question):
            return await self._answer(question)

    async def embed(
        self,
        texts: Sequence[str | list[int]],
        *,
        cut: bool = False,
        most: int | None = None,
        charge: Callable[[int], None] | None = None,
        project: str = "",
    ) -> Embeddings:
        number = next(self._numbers)
        question = Embedding.of(number, texts, project, cut=cut, most=most, charge=charge)
        with self._asked(question):
            return await self._answer(question)

    async def rank(self, query: str, texts: Sequence[str], *, project: str = "") -> list[float]:
        question = Embedding.ranking(next(self._numbers), query, texts, project)
        with self._asked(question):
            return [float(vector[0]) for vector in (await self._answer(question)).vectors]

    def generate(self, request: Request) -> WorkerGeneration:
        return WorkerGeneration(self, next(self._numbers), request, self.patience)

    def forget(self, owner: str) -> None:
        if self._worker is not None:
            self._worker.send(Forget(owner))
        if self._changes:
            self._forgotten.add(owner)

    def join(self, generation: WorkerGeneration) -> None:
        self._require_running()
        self._generations[generation.number] = generation
        if self._worker is not None:
            self._send(self._worker, generation)

    def leave(self, generation: WorkerGeneration) -> None:
        if self._generations.pop(generation.number, None) is not None:
            self.cancel(generation)

    def cancel(self, generation: WorkerGeneration) -> None:
        if self._worker is not None and generation.sent:
            self._worker.send(Cancel(generation.number))

    @contextlib.contextmanager
    def _asked(self, question: Tokenizing | Locating | Embedding) -> Iterator[None]:
        """Meanwhile it is asked of this worker, and of the next one."""
        self._require_running()
        number = question.message.number
        self._questions[number] = question
        try:
            if self._worker is not None:
                question.ask(self._worker)
            yield
        finally:
            del self._questions[number]
            if self._worker is not None:
                question.leave(self._worker)

    async def _answer(self, question: Question[T]) -> T:
        """Wait for as long as anybody's is answered, or a new worker may still come."""
        heard = -1
        while not question.answer.done():
            if self._answers == heard:
                raise EngineUnavailable("The model's worker does not answer.")
            heard = self._answers
            patience = max(self.patience, self._longest_text)
            await asyncio.wait((question.answer,), timeout=patience)
        return question.answer.result()

    @property
    def _changes(self) -> bool:
        """One worker may have read its files and not listen yet, or another still write its own."""
        return self._coming or (self._worker is None) != (self._keeper is None)

    def _require_running(self) -> None:
        if self._keeper is None:
            raise EngineUnavailable("The engine is not running.")

    def _send(self, worker: WorkerProcess, generation: WorkerGeneration) -> None:
        request = replace(generation.request, prompt=list(generation.request.prompt))
        try:
            worker.send(Generate(generation.number, request))
        except Unsendable as error:
            generation.end(error)
        else:
            generation.mark_sent()

    async def _keep(self) -> None:
        """Have a worker, always."""
        backoff = FIRST_BACKOFF
        while self._worker is not None:
            cause, lived = await self._outlive(self._worker)
            self._worker = None
            logger.error("engine.worker_died model=%s cause=%s", self._load.name, cause)
            self._trouble = f"The model's worker died: {cause}."
            self._mourn(EngineCrashed(self._trouble))
            backoff = FIRST_BACKOFF if lived > STEADY_LIFE else backoff
            worker, backoff = await self._restart(backoff)
            self._stats.restarts += 1
            self._welcome(worker)

    async def _dismiss_keeper(self) -> None:
        """Whatever became of it: a fault of its own is logged."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.cancel()
        await asyncio.wait((keeper,))
        if not keeper.cancelled() and (fault := keeper.exception()):
            logger.error("engine.keeper_died model=%s", self._load.name, exc_info=fault)

    async def _dismiss_worker(self) -> None:
        """It writes its threads to the end, some of which may be forgotten meanwhile."""
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None
            self._stats.lose_process()
        forgotten, self._forgotten = self._forgotten, set()
        if forgotten and self._cache is not None and self._loaded is not None:
            own = self._cache / self._loaded.info.fingerprint
            await asyncio.to_thread(forget_files, (own,), forgotten)

    async def _outlive(self, worker: WorkerProcess) -> tuple[str, float]:
        """Wait until the worker is dead, if need be by killing it: what of, and how old."""
        loop = asyncio.get_running_loop()
        born = loop.time()
        death = asyncio.create_task(worker.died())
        try:
            while not death.done():
                await asyncio.wait((death,), timeout=self._settings.hang_timeout / 4)
                if not death.done() and self._hangs(worker):
                    await worker.kill()
                    return "it hung and was killed", loop.time() - born
        finally:
            death.cancel()
        return death.result(), loop.time() - born

    def _hangs(self, worker: WorkerProcess) -> bool:
        step = HANG_STEPS * self._stats.last_step_seconds
        return worker.silence > max(self._settings.hang_timeout, step, self._longest_text)

    @property
    def _longest_text(self) -> float:
        """For how long an embedding model may say nothing: generously, so long as one takes."""
        return HANG_TEXTS * self._pace * max(self.info.context, self._settings.batch)

    async def _restart(self, backoff: float) -> tuple[WorkerProcess, float]:
        """A new worker, and how long to wait before the next one."""
        while True:
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)
            try:
                check_model_file(Path(self._load.path))
                return await WorkerProcess.start(self._load, self._receive), backoff
            except (EngineUnavailable, OSError) as error:  # the machine may have no more processes
                self._trouble = str(error)
                logger.error("engine.restart_failed model=%s cause=%s", self._load.name, error)

    def _welcome(self, worker: WorkerProcess) -> None:
        """Give a new worker all that waits for one."""
        self._worker, self._loaded, self._trouble = worker, worker.loaded, None
        self._pace = worker.loaded.pace if worker.loaded else 0.0
        while self._forgotten:
            worker.send(Forget(self._forgotten.pop()))
        for generation in self._generations.values():
            self._send(worker, generation)
        for question in self._questions.values():
            question.ask(worker)

    def _mourn(self, error: EngineCrashed) -> None:
        """Fail what the dead worker was decoding; questions fail when they were asked twice."""
        self._stats.lose_process()
        for number, generation in list(self._generations.items()):
            if generation.sent:
                del self._generations[number]
                generation.end(error)
        for question in self._questions.values():
            if question.times_asked >= QUESTION_TRIES:
                question.fail(error)

    def _fail_calls(self, error: EngineError) -> None:
        for generation in self._generations.values():
            generation.end(error)
        self._generations.clear()
        for question in self._questions.values():
            question.fail(error)

    def _receive(self, message: News) -> None:
        if isinstance(message, Step):
            self._apply(message)
            return
        self._answers += 1
        if isinstance(message, Embedded):
            self._pace = message.pace
            self._stats.prompt_tokens += message.tokens
        if isinstance(message, Dropped):
            return
        if question := self._questions.get(message.number):
            question.hear(message)

    def _apply(self, step: Step) -> None:
        for token in step.tokens:
            if generation := self._generations.get(token.number):
                generation.add(token.id, token.text.encode("latin-1"))
        for end in step.ends:
            if generation := self._generations.pop(end.number, None):
                generation.end(_finished(end))
        for failure in step.failures:
            if generation := self._generations.pop(failure.number, None):
                generation.end(_error(failure))
        self._count(step)

    def _count(self, step: Step) -> None:
        stats = self._stats
        stats.live = step.live
        stats.waiting = step.waiting
        stats.cells = step.cells
        stats.saved_bytes = step.saved_bytes
        stats.stored_bytes = step.stored_bytes
        if step.seconds:
            stats.last_step_seconds = step.seconds
            stats.steps += 1
        stats.generated_tokens += len(step.tokens)
        for end in step.ends:
            stats.prompt_tokens += end.prompt_tokens
            stats.cached_tokens += end.cached_tokens
        stats.refused_grammars += sum(failure.kind == "grammar" for failure in step.failures)


def check_model_file(path: Path) -> None:
    """Refuse what is plainly no model, in words that llama.cpp does not find."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise EngineUnavailable(f"There is no file {path}.") from None
    except OSError as error:
        raise EngineUnavailable(f"{path} cannot be read: {error.strerror}.") from None
    if magic != b"GGUF":
        raise EngineUnavailable(f"{path} is not a GGUF file.")


def _longest_recovery(settings: EngineSettings) -> float:
    """A worker hangs, is missed for a while, and its successor loads."""
    return settings.hang_timeout + LONGEST_BACKOFF + settings.load_timeout


def _finished(end: End) -> Finished:
    return Finished(end.reason, end.prompt_tokens, end.completion_tokens, end.cached_tokens)


def _error(failure: Failure) -> EngineError:
    kinds: dict[FailureKind, type[EngineError]] = {
        "too_long": PromptTooLong,
        "invalid": InvalidRequest,
        "grammar": GrammarRefused,
    }
    return kinds[failure.kind](failure.reason)
