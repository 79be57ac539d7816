"""The host's side of one session's processes: its socket, its output, its end.

Believes nothing of what it reads, and holds little of it. Owned by the event loop that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from server.sandbox.frames import Forged, Frame, FrameReader, Head, encode
from server.sandbox.usage import children, processes

BOOT: Final = """
import sys, types
for name in ("server", "server.sandbox"):
    package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
    sys.modules[name] = package
from server.sandbox.driver import main
main(int(sys.argv[2]))
"""
_READ_SIZE: Final = 2**16
_MOST_UNREAD: Final = 2**20  # bytes that a pipe can hold
_LITTLE: Final = 2**12  # bytes: whoever writes less at a time is heard with pauses
_PAUSE: Final = 0.005  # seconds
_MOST_FRAMES: Final = 8  # that nobody has looked at
_PATIENCE: Final = 2.0  # seconds, for what is killed to be gone
_PATIENCE_FOR_FILES: Final = 30.0
_MOST_LAST_WORDS: Final = 2000  # bytes


class Lost(Exception):
    """The session's processes ended, or are no session any more; the text says how."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a session is started. Of `command` the socket's number is the missing end.

    `start` is what it is told first. Without a `folder` the command's child is the first process of
    a namespace, which ends with it, and the session is that one's child. With one, which is all
    that the session can write in, the command stays behind as the session's keeper, and ends it
    when it is told to. `clear` is called when nothing is left of it.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    start: Head
    folder: Path | None = None
    clear: Callable[[], None] = field(default=lambda: None)


class SandboxProcess:
    """One session's processes. What they print goes to `heard`, frames to whoever awaits them."""

    def __init__(self, launch: Launch, process: asyncio.subprocess.Process) -> None:
        self._loop = asyncio.get_running_loop()
        self._launch = launch
        self.folder = launch.folder
        self._process = process
        self._reader = FrameReader()
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._is_full = False
        self._pauses = dict[int, asyncio.TimerHandle]()  # by what is not read meanwhile
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._killing: asyncio.Task[None] | None = None
        self._first_words = bytearray()
        self._session: int | None = None  # pidfd of the process that runs the code
        self._socket: socket.socket
        self._output: int
        self.root = process.pid  # whose descendants are the session's processes
        self.heard: Callable[[bytes], None] = self._keep_first_words

    @classmethod
    async def start(cls, launch: Launch, seconds: float) -> SandboxProcess:
        """Raises Lost, OSError."""
        with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as on_failure:
            on_failure.callback(launch.clear)
            ours, theirs = socket.socketpair()
            afterwards.callback(theirs.close)
            on_failure.callback(ours.close)
            read, write = os.pipe()
            afterwards.callback(os.close, write)
            on_failure.callback(os.close, read)
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                env=launch.environment,
                start_new_session=True,
                cwd="/",
            )
            on_failure.pop_all()
        started = cls(launch, process)
        started._open(ours, read)
        try:
            async with asyncio.timeout(seconds):
                await started.send(launch.start)
                await started.next()
            started._find_session()
        except TimeoutError:
            await started.kill(f"it did not start within {seconds:g} seconds")
            raise Lost(started.cause) from None
        except BaseException:
            await started.kill("it did not start")
            raise
        return started

    @property
    def is_over(self) -> bool:
        """Whether it has ended, heard of or not."""
        if self._over.done() or self._session is None:
            return self._over.done()
        looking = select.poll()
        looking.register(self._session, select.POLLIN)
        return bool(looking.poll(0))

    @property
    def cause(self) -> str:
        """What it ended of."""
        return self._over.result()

    async def send(self, head: Head, raw: bytes = b"") -> None:
        """Raises Lost."""
        sending = asyncio.ensure_future(self._loop.sock_sendall(self._socket, encode(head, raw)))
        try:
            await asyncio.wait((sending, self._over), return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                raise Lost(self.cause)
            sending.result()
        except OSError as error:
            raise Lost(await self._how_it_ended()) from error
        finally:
            sending.cancel()

    async def next(self) -> Frame:
        """Raises Lost."""
        if self._frames.empty():
            coming = asyncio.ensure_future(self._frames.get())
            try:
                await asyncio.wait((coming, self._over), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise Lost(self.cause)
                frame = coming.result()
            finally:
                coming.cancel()  # or it takes the frame that is the next caller's
        else:
            frame = self._frames.get_nowait()
        if self._is_full and self._frames.empty():
            self.listen()
        return frame

    def listen(self) -> None:
        """Take what comes. What came while nobody listened comes first."""
        self._is_full = False
        if not self._over.done():
            self._watch(self._socket.fileno(), self._read_frames)
            self._watch(self._output, self._read_output)

    def rest(self) -> None:
        """Take nothing: whoever goes on writing is stopped by it."""
        if not self._over.done():
            self._leave(self._socket.fileno())
            self._leave(self._output)

    def interrupt(self) -> None:
        """Ask the code to stop, as Ctrl-C does: it and whatever it has started."""
        if self._session is None or self.is_over:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._session, signal.SIGINT)
        _send(signal.SIGINT, *processes(self.root)[2:])  # os.system() waits deaf for its child

    def kill_children(self) -> None:
        """End whatever the code has started; the process that runs it stays."""
        if not self.is_over:
            _send(signal.SIGKILL, *processes(self.root)[2:])

    def pids(self) -> list[int]:
        return [] if self.is_over else processes(self.root)

    async def kill(self, cause: str) -> None:
        """End all of it. Returns when nothing is left, cancelled or not."""
        await asyncio.shield(self._kill_soon(cause))

    def _open(self, ours: socket.socket, output: int) -> None:
        self._socket, self._output = ours, output
        ours.setblocking(False)
        os.set_blocking(output, False)
        self.listen()

    def _find_session(self) -> None:
        """Raises Lost if it is gone already."""
        try:
            if self.folder is None:
                self.root = children(self.root)[0]
            self._session = os.pidfd_open(children(self.root)[0])
        except (IndexError, ProcessLookupError) as error:
            raise Lost("its process cannot be found") from error

    def _watch(self, file: int, read: Callable[[], None]) -> None:
        self._leave(file)
        self._loop.add_reader(file, read)

    def _leave(self, file: int) -> None:
        self._loop.remove_reader(file)
        if (pause := self._pauses.pop(file, None)) is not None:
            pause.cancel()

    def _pause(self, file: int, read: Callable[[], None]) -> None:
        """Or each byte that somebody writes would be a turn of the loop."""
        self._leave(file)
        self._pauses[file] = self._loop.call_later(_PAUSE, self._watch, file, read)

    def _read_frames(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(self._socket.fileno())
            self._frames_end()
            return
        if len(data) < _LITTLE:
            self._pause(self._socket.fileno(), self._read_frames)
        self._read_all_output()
        try:
            for frame in self._reader.feed(data):
                self._frames.put_nowait(frame)
            self._is_full = self._frames.qsize() >= _MOST_FRAMES
            if self._is_full:
                self._leave(self._socket.fileno())
        except Forged as error:
            self._leave(self._socket.fileno())
            self._kill_soon(f"it broke the protocol: {error}")

    def _frames_end(self) -> None:
        self._read_all_output()
        self._kill_soon(None)

    def _kill_soon(self, cause: str | None) -> asyncio.Task[None]:
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill(cause))
        return self._killing

    def _read_output(self) -> None:
        """Some of what was printed; nothing more is to come when it ends."""
        try:
            data = os.read(self._output, _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._leave(self._output)
            return
        if len(data) < _LITTLE:
            self._pause(self._output, self._read_output)
        self.heard(data)

    def _read_all_output(self) -> None:
        """What was printed before a frame was written, and no more than a pipe can hold."""
        size = 0
        while size < _MOST_UNREAD:
            try:
                data = os.read(self._output, _READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                return
            size += len(data)
            self.heard(data)

    def _keep_first_words(self, data: bytes) -> None:
        """Of who never says that it is ready: they tell why."""
        self._first_words += data[: _MOST_LAST_WORDS - len(self._first_words)]

    async def _kill(self, cause: str | None) -> None:
        if cause is None:  # it closed its socket, so it is about to end by itself
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _PATIENCE / 4)
        await self._end()
        self._read_all_output()
        self.rest()
        self._over.set_result(cause or self._told())
        self._socket.close()
        os.close(self._output)
        if self._session is not None:
            os.close(self._session)
        self._launch.clear()

    async def _end(self) -> None:
        if self._process.returncode is not None:
            return
        if self.folder is None:
            # A namespace ends with its first process, and bubblewrap when all that is over.
            if first := children(self._process.pid)[:1]:
                _send(signal.SIGKILL, *first)
            else:  # a child that is just being made is of its group
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        else:
            _send(signal.SIGTERM, self._process.pid)
        for patience in (_PATIENCE, _PATIENCE_FOR_FILES):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), patience)
                return
            if len(processes(self._process.pid)) > 1:  # one that is alone still removes files
                break
        _send(signal.SIGKILL, *processes(self._process.pid))
        await self._process.wait()

    async def _how_it_ended(self) -> str:
        self._kill_soon(None)
        return await asyncio.shield(self._over)

    def _told(self) -> str:
        lines = bytes(self._first_words).decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else f"its process ended with status {self._process.returncode}"


def _send(number: int, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
