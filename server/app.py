"""The application, composed in one place: services out of settings, routes over services, serving.

From the moment that the port is bound something answers: while the services start, that they do.
Shutdown is ours: on SIGTERM `/readyz` turns 503, running turns may finish, the rest is queued
again, the streams get their last events, and only then does the HTTP server stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Self

import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp, Receive, Scope, Send

from server import __version__, control, heap
from server.access.administration import verbs_of
from server.access.keys import Keys
from server.access.limits import Limits
from server.access.loopback import is_loopback
from server.api import (
    assistants,
    chat_completions,
    embeddings,
    files,
    health,
    messages,
    models,
    runs,
    steps,
    threads,
    uploads,
    vector_stores,
)
from server.api.azure import AzurePaths
from server.api.body import BodyLimits
from server.api.browsers import Browsers
from server.api.context import RequestContext
from server.api.deps import Services
from server.api.errors import handle_errors
from server.api.openapi import describe
from server.api.refusals import Refusals
from server.api.starting import Starting
from server.api.stuck import impatient
from server.catalog import (
    build_catalog,
    build_embedder,
    build_pool,
    build_reranker,
    cache_folder,
    embedding_model,
    open_endpoints,
    preload,
)
from server.clock import Clock, SystemClock
from server.config import (
    NGRAMS,
    LimitsSettings,
    ServerSettings,
    Settings,
    StreamsSettings,
    TracesSettings,
)
from server.db.database import Database
from server.db.folder import DataFolder
from server.db.kept_answers import KeptAnswers
from server.db.migrate import upgrade
from server.engine.cache_folder import CacheFolder
from server.engine.pool import ModelPool
from server.engine.protocol import Engine
from server.engine.stats import TEXTS
from server.files.blobs import BlobStore
from server.files.library import Library
from server.files.uploads import Uploads
from server.ids import IdSource, RandomIds
from server.metrics import Metrics
from server.runs.completions import Completions
from server.runs.events import EventBus
from server.runs.executor import ExecutorSettings, RunExecutor
from server.runs.observer import Observer
from server.sandbox.choice import open_sandbox
from server.sandbox.pool import SessionPool
from server.sandbox.values import Sandbox
from server.search.extraction import Extractor
from server.search.index import Indexes
from server.search.tokens import EstimatedTokens, PooledTokens, TokenCounter
from server.tools.code_interpreter import CodeInterpreter
from server.tools.file_search import FileSearch
from server.tools.toolbox import Toolbox
from server.traces import Traces, TracesUnavailable
from server.vector_stores.ingest import Ingestor, IngestSettings
from server.vector_stores.searching import Searcher

log = logging.getLogger(__name__)

ROUTERS = (
    assistants.router,
    runs.router,  # before threads: POST /threads/runs is not a thread
    threads.router,
    messages.router,
    steps.router,
    models.router,
    chat_completions.router,
    embeddings.router,
    files.router,
    uploads.router,
    vector_stores.router,
    health.router,
)


class OpenDoor(Exception):
    """Others can reach the address, and no key protects the server."""


def create_app(services: Services, settings: Settings) -> FastAPI:
    """The routes over running services."""
    app = FastAPI(
        title="Assistants Server",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it costs 9 % of a GET
    )
    app.state.services = services
    app.state.ready = True
    app.state.write_probe = health.WriteProbe()
    limits = settings.limits
    app.state.body_limits = BodyLimits(limits.body_bytes, limits.json_depth, limits.body_timeout)
    app.state.refusals = Refusals()
    app.state.allow_open = settings.server.allow_open
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # including it would match each URL twice
    describe(app)
    handle_errors(app)
    app.add_middleware(Browsers, keys=services.keys)
    app.add_middleware(RequestContext, metrics=services.metrics, traces=services.traces)
    app.add_middleware(AzurePaths)
    return app


@asynccontextmanager
async def running(
    settings: Settings,
    engines: Mapping[str, Engine],
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    sandbox: Sandbox | None = None,
    traces: Traces | None = None,
) -> AsyncIterator[Services]:
    """The services of one data folder, from its lock to its last write.

    The default model is loaded then; code runs in a sandbox of its own, and traces are as the
    settings have them, if none are given.
    Raises FolderInUse, WrongVersion, OpenDoor, ModelProblem, EngineUnavailable, TracesUnavailable,
    OSError.
    """
    clock, ids = clock or SystemClock(), ids or RandomIds()
    metrics, traces = Metrics(), traces or open_traces(settings.traces)
    endpoints = open_endpoints(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(traces.close)
        for endpoint in endpoints.values():
            stack.push_async_callback(endpoint.close)
        folder = DataFolder(settings.server.data_dir)
        stack.callback(folder.close)
        await asyncio.to_thread(upgrade, folder.database)
        db = Database(
            folder.database,
            clock,
            ids,
            busy_timeout=settings.database.busy_timeout,
            readers=settings.database.readers,
            metrics=metrics,
            most=most_of_project(settings.limits),
        )
        stack.push_async_callback(asyncio.to_thread, db.close)
        keys = Keys(db, clock, limits_of_keys(settings.limits))
        await keys.start()
        stack.push_async_callback(keys.stop)
        _refuse_open_door(settings.server, keys)
        await _listen_to_operator(stack, folder, verbs_of(keys))
        kept = KeptAnswers(
            db,
            lifetime=settings.limits.idempotency_lifetime,
            most=settings.limits.idempotency_keys,
        )
        kept.start()
        stack.push_async_callback(kept.stop)
        blobs = BlobStore(folder.blobs)
        stack.push_async_callback(asyncio.to_thread, blobs.close)
        library = Library(
            db,
            blobs,
            sweep_interval=settings.files.sweep_interval,
            project_bytes=settings.files.project_bytes,
        )
        await library.start()
        stack.push_async_callback(library.stop)
        cache = CacheFolder(cache_folder(settings))
        stack.push_async_callback(cache.close)
        # Before a model is loaded, so that none takes up what was deleted while nobody heard of it.
        await cache.keep_only(lambda owners: db.read(lambda tx: tx.threads.among(owners)))
        catalog = build_catalog(engines, endpoints, settings, clock.now())
        pool = build_pool(catalog, settings, clock.monotonic)
        stack.push_async_callback(pool.close)
        embedder = await build_embedder(engines, pool, settings)
        reranker = await build_reranker(engines, pool, settings)
        await preload(pool, catalog, settings)
        by = embedding_model(engines, settings) or NGRAMS
        told = {"model": by, "dimensions": embedder.dimensions}
        log.info("search.embedder", extra={**told, "reranker": settings.search.reranker})
        bus = EventBus(
            clock.monotonic,
            ring_bytes=settings.streams.ring_bytes,
            total_bytes=settings.streams.total_bytes,
            keep=settings.streams.keep,
            era=clock.now(),
        )
        pings = asyncio.create_task(bus.keep_alive(settings.streams.ping), name="pings")
        stack.callback(pings.cancel)
        indexes = Indexes(
            folder.indexes,
            embedder,
            settings.search,
            lost=lambda store_id: ingestor.suspect(store_id),
            reranker=reranker,
        )
        stack.push_async_callback(indexes.close)
        ingestor = Ingestor(
            db,
            blobs,
            Extractor(settings.extraction),
            token_counter(pool, catalog.default, engines),
            indexes,
            IngestSettings(**settings.vector_stores.model_dump()),
            metrics,
        )
        await ingestor.start()
        stack.push_async_callback(ingestor.stop)
        searcher = Searcher(db, indexes)
        sandbox = sandbox or await open_sandbox(settings.code_interpreter, clock)
        stack.push_async_callback(sandbox.close)
        code = CodeInterpreter(db, blobs, library, sandbox, metrics)
        stack.push_async_callback(code.stop)
        tools = Toolbox(FileSearch(db, searcher, ingestor), code)
        limits = ExecutorSettings(**settings.runs.model_dump())
        observer = Observer(metrics, traces)
        executor = RunExecutor(
            db, bus, catalog, pool, cache, clock, ids, limits, observer, tools, keys.charge
        )
        await executor.start()
        stack.push_async_callback(executor.stop, settings.server.shutdown_grace)
        cap = limits.completion_cap
        completions = Completions(catalog, pool, ids, observer, completion_cap=cap)
        stack.push_async_callback(completions.stop, 0.0)
        _watch(metrics, db, bus, executor, completions, ingestor)
        _watch_engines(metrics, pool, engines)
        if isinstance(sandbox, SessionPool):
            _watch_sessions(metrics, sandbox)
        yield Services(
            db,
            keys,
            bus,
            catalog,
            pool,
            executor,
            completions,
            library,
            Uploads(db, blobs, library, most_bytes=settings.files.max_upload_bytes),
            ingestor,
            searcher,
            sandbox,
            metrics,
            traces,
            clock,
            settings.streams,
            settings.files,
            folder.path,
            kept,
        )


def limits_of_keys(settings: LimitsSettings) -> Limits:
    """What holds for a key that has no limits of its own."""
    return Limits.model_validate(settings.model_dump(include=set(Limits.model_fields)))


def most_of_project(settings: LimitsSettings) -> Mapping[str, int]:
    """By the name of the table."""
    return {
        "assistant": settings.project_assistants,
        "thread": settings.project_threads,
        "file": settings.project_files,
        "vector_store": settings.project_vector_stores,
    }


async def _listen_to_operator(
    stack: contextlib.AsyncExitStack, folder: DataFolder, verbs: Mapping[str, control.Verb]
) -> None:
    """Not every file system has sockets; without one all else works."""
    try:
        await stack.enter_async_context(control.listening(control.socket_in(folder.path), verbs))
    except OSError as error:
        log.warning("control_unavailable", extra={"reason": str(error)})


def _refuse_open_door(where: ServerSettings, keys: Keys) -> None:
    if not (keys.required or where.allow_open or is_loopback(where.host)):
        raise OpenDoor(
            f"{where.host} can be reached from other machines, and no API key protects this "
            "server. Make one with `assistants keys create`, or set server.allow_open = true to "
            "serve everybody who can reach it."
        )


def open_traces(settings: TracesSettings) -> Traces:
    """Those that are sent, or none. Raises TracesUnavailable."""
    if not settings.enabled:
        return Traces()
    try:
        from server.trace_export import export
    except ImportError as lacking:
        raise TracesUnavailable(
            "traces.enabled needs packages that are not installed: "
            f"pip install 'assistants-server[traces]' (there is no {lacking.name})"
        ) from lacking
    return export()


def token_counter(pool: ModelPool, model_id: str, engines: Mapping[str, Engine]) -> TokenCounter:
    """The default model's tokens, if it is on this machine."""
    engine = engines.get(model_id)
    return EstimatedTokens() if engine is None else PooledTokens(pool, model_id, engine)


def listen(host: str, port: int, send_buffer: int) -> socket.socket:
    """A listening socket whose connections have a small send buffer, so that a stuck reader shows.

    Raises OSError when the port is taken, or no address has that name.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends short writes at once only on sockets that name their protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    except (TypeError, ValueError) as error:  # a part of the name is too long, or it holds a zero
        listener.close()
        raise OSError(errno.EINVAL, "That is not the name of a host") from error
    return listener


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: when to stop is the caller's decision.

    Who takes nothing for `stuck_after` seconds is dropped, and who has not told within
    `head_within` seconds what he wants.

    It is told so, and does not look ten times a second, which costs more than it seems where every
    look finds its code gone from the caches.
    """

    def __init__(
        self, config: uvicorn.Config, stuck_after: float, head_within: float = 60.0
    ) -> None:
        config.http = impatient(stuck_after, head_within)
        super().__init__(config)
        self.accepting = asyncio.Event()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopped.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """`accepting` is set also where this fails, since nobody should wait for it then."""
        try:
            await super().startup(sockets)
        finally:
            self.accepting.set()

    async def main_loop(self) -> None:
        """Renew the answers' `date` each second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopped.wait()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's is a generator of None
        yield


class Entrance:
    """Answers on a listening socket: that the server starts, then as the application it is given.

    Both have the same connections, so that none is lost in between.
    """

    def __init__(
        self, listener: socket.socket, streams: StreamsSettings, limits: LimitsSettings
    ) -> None:
        # Streams end when their runs were drained.
        AppStatus.enable_automatic_graceful_drain = False
        starting = Starting()
        self._app: ASGIApp = AzurePaths(RequestContext(starting, Metrics(), Traces()))
        self._refusals = starting.refusals
        self._http = HttpServer(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
            ),
            streams.stuck_after,
            limits.body_timeout,
        )
        self._answering = asyncio.create_task(self._http.serve(sockets=[listener]))

    async def __aenter__(self) -> Self:
        await self._http.accepting.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def serve(self, app: FastAPI, stop: asyncio.Event, grace: float) -> None:
        """Answer as the application until `stop` is set, then stop in order."""
        app.state.refusals = self._refusals
        heap.settle()
        self._app = app
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({self._answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        app.state.ready = False
        services: Services = app.state.services
        await asyncio.gather(services.executor.stop(grace), services.completions.stop(grace))
        await self._close()

    async def _close(self) -> None:
        self._http.stop()
        await self._answering

    def _answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._app(scope, receive, send)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT; a second SIGINT ends the process at once."""
    loop = asyncio.get_running_loop()

    def ask() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)


def _watch(
    metrics: Metrics,
    db: Database,
    bus: EventBus,
    executor: RunExecutor,
    completions: Completions,
    ingestor: Ingestor,
) -> None:
    watch = metrics.watch
    watch("database_waiting_writes", "Units of work that wait for the writer.", lambda: db.waiting)
    watch("open_streams", "Streams being read.", lambda: bus.open_streams)
    watch("running_runs", "Runs being executed.", lambda: executor.running)
    watch("open_completions", "Chat completions being written.", lambda: completions.open)
    watch("ingesting_files", "Files being taken into vector stores.", lambda: ingestor.running)


def _watch_engines(metrics: Metrics, pool: ModelPool, engines: Mapping[str, Engine]) -> None:
    texts = {
        **TEXTS,
        "ready": "Whether the model is in memory and can be used at once.",
        "memory_bytes": "What of the memory for all models it has.",
        "cell_capacity": "Cells of its context.",
    }

    def values(name: str, engine: Engine) -> dict[str, float]:
        standing = pool.standing(name)
        place = {
            "ready": standing.state == "ready",
            "memory_bytes": standing.bytes,
            "cell_capacity": standing.cells,
        }
        return {**engine.stats.by_name(), **place}

    metrics.watch_models(lambda: {name: values(name, e) for name, e in engines.items()}, texts)


def _watch_sessions(metrics: Metrics, sessions: SessionPool) -> None:
    metrics.watch("sandbox_sessions", "Threads with a session.", lambda: sessions.sessions)
    metrics.watch("sandbox_spares", "Sessions that wait for a thread.", lambda: sessions.spares)
    metrics.watch_count(
        "sandbox_kills", "Sessions that were ended at a limit.", lambda: sessions.kills
    )
