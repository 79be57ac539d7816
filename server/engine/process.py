"""The parent's side of one worker process, from its start to its death.

Owned by the event loop that started it. Never restarted: the next worker is a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

from server.engine.machine import child_environment, physical_cores
from server.engine.messages import (
    Dropped,
    Embed,
    Embedded,
    End,
    Failure,
    FrameDecoder,
    Generate,
    Load,
    Loaded,
    Locate,
    Located,
    MalformedFrame,
    Message,
    Rank,
    Refused,
    Step,
    Stop,
    Tokenize,
    Tokenized,
    ToWorker,
    Unread,
    encode,
)
from server.engine.protocol import EngineUnavailable
from server.engine.settings import EngineSettings

logger = logging.getLogger(__name__)

# What a worker says once its model is loaded.
News = Step | Tokenized | Located | Embedded | Unread | Dropped

_STOP_PATIENCE = 15.0  # it writes snapshots of its threads before it ends
_STDERR_LINE_LIMIT = 1 << 20


class WorkerProcess(asyncio.Protocol):
    """One child and the socket to it. `receive` gets every message after the model is loaded."""

    def __init__(self, receive: Callable[[News], None]) -> None:
        loop = asyncio.get_running_loop()
        self.loaded: Loaded | None = None
        self._loop = loop
        self._receive = receive
        self._owed = set[int]()  # numbers asked for and not answered, whoever still waits for them
        self._heard = loop.time()  # when it last said something, or began to owe something
        self._frames = FrameDecoder()
        self._answer: asyncio.Future[Loaded | Refused] = loop.create_future()
        self._lost = asyncio.Event()
        self._errors: deque[str] = deque(maxlen=20)
        self._process: asyncio.subprocess.Process
        self._transport: asyncio.WriteTransport
        self._stderr: asyncio.Task[None]

    @classmethod
    async def start(cls, load: Load, receive: Callable[[News], None]) -> WorkerProcess:
        """Launch a worker and wait until its model is loaded; EngineUnavailable says why not."""
        worker = cls(receive)
        await worker._launch(load.settings)
        try:
            worker.send(load)
            worker.loaded = await worker._model(load)
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def silence(self) -> float:
        """For how many seconds it has owed an answer and said nothing."""
        return self._loop.time() - self._heard if self._owed else 0.0

    def send(self, message: ToWorker) -> None:
        """Raises Unsendable, and owes nothing then."""
        frame = encode(message)
        if isinstance(message, Generate | Tokenize | Locate | Embed | Rank):
            self._owe(message.number)
        if not self._transport.is_closing():  # uvloop's would raise
            self._transport.write(frame)

    async def died(self) -> str:
        """Wait for the end; returns what it died of, as the end of a sentence."""
        await self._lost.wait()
        await self.kill()
        return self._cause()

    async def stop(self) -> None:
        """Ask it to end, and see to it."""
        if not self._lost.is_set():
            self.send(Stop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lost.wait(), _STOP_PATIENCE)
        await self.kill()

    async def kill(self) -> None:
        """End it now. Returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None and not self._lost.is_set():
                self._process.kill()
        await self._gone()
        self._transport.close()
        await self._stderr

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            for message in self._frames.feed(data):
                self._deliver(message)
        except MalformedFrame:
            logger.exception("engine.malformed_frame")
            self._process.kill()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.set()

    def _owe(self, number: int) -> None:
        if not self._owed:
            self._heard = self._loop.time()
        self._owed.add(number)

    def _settle(self, message: News) -> None:
        """It owes less now."""
        if isinstance(message, Step):
            over: tuple[End | Failure, ...] = (*message.ends, *message.failures)
            for end in over:
                self._owed.discard(end.number)
        elif not isinstance(message, Embedded) or message.last:
            self._owed.discard(message.number)

    def _deliver(self, message: Message) -> None:
        if isinstance(message, News):
            self._settle(message)
            self._receive(message)
        elif isinstance(message, Loaded | Refused) and not self._answer.done():
            self._answer.set_result(message)

    async def _launch(self, settings: EngineSettings) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "server.engine.worker", str(theirs.fileno())),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    limit=_STDERR_LINE_LIMIT,
                    env=_environment(settings),
                )
        except BaseException:
            ours.close()
            raise
        self._stderr = asyncio.create_task(self._read_errors())
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    async def _model(self, load: Load) -> Loaded:
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait(
                (self._answer, lost),
                timeout=load.settings.load_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            lost.cancel()
        if not self._answer.done():
            raise EngineUnavailable(await self._silence(load))
        answer = self._answer.result()
        if isinstance(answer, Refused):
            raise EngineUnavailable(answer.reason)
        return answer

    async def _silence(self, load: Load) -> str:
        if not self._lost.is_set():
            return f"{load.path} was not loaded within {load.settings.load_timeout:g} seconds."
        await self.kill()
        return f"The worker died while it loaded {load.path}: {self._cause()}."

    async def _gone(self) -> None:
        """A worker that closed its socket is about to exit; one that hangs there is killed."""
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None, "it was started with a pipe"
        async for line in stderr:
            text = line.decode("utf-8", "replace").rstrip()
            # a refusal to load repeats what matters of it
            level = logging.WARNING if self.loaded else logging.DEBUG
            logger.log(level, "engine.stderr: %s", text)
            self._errors.append(text)

    def _cause(self) -> str:
        code = self._process.returncode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        said = next((line for line in self._errors if "GGML_ASSERT" in line), None)
        return f"{how} ({said})" if said else how


def _environment(settings: EngineSettings) -> dict[str, str]:
    """The child's environment: OpenMP reads its settings once, when the library is loaded."""
    environment = child_environment()
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(settings.spin))
    environment.setdefault("OMP_NUM_THREADS", str(settings.threads or physical_cores()))
    environment.setdefault("GGML_NO_BACKTRACE", "1")  # it would start a debugger if there is one
    return environment
