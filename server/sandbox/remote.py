"""A sandbox in another process, which may be in another container: both ends of a socket to it.

One request a connection. To hang up cancels the request; the other end hangs up when nothing of it
runs any more, and until then says each second that it is there: how long a call may take it decides
by itself, but not how long it may be silent. Whoever can connect is trusted; what he is told of is
not, since it may be code's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from server.sandbox.frames import (
    CHUNK,
    LENGTH_BYTES,
    MOST_HEAD,
    Forged,
    Frame,
    Head,
    encode,
    parse,
    raw_length,
)
from server.sandbox.pool import SessionPool
from server.sandbox.session import add, to_its_end
from server.sandbox.values import (
    FileIn,
    Image,
    Logs,
    Output,
    Result,
    SandboxCrashed,
    SandboxUnavailable,
    SessionKey,
    Written,
)

log = logging.getLogger(__name__)

_BEAT: Final = 1.0  # seconds between two words of an end that is there
_SILENCE: Final = 4.0  # seconds without any, or to take what it is told: then it is not
_AGAIN: Final = 1.0  # seconds until it is looked for again
_PATIENCE: Final = 5.0  # seconds for the end of a request that was given up
_LOST: Final = "The sandbox's process is gone."
_DUMB: Final = "The sandbox's process does not answer."


class RemoteSandbox:
    """A Sandbox at the other end of a socket, which comes and goes."""

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self._path = path
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look whether it is there, and go on looking."""
        known = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(known))
        await known.wait()

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> Result:
        if self.problem is not None:
            raise SandboxUnavailable(self.problem)
        outputs: list[Output] = []
        by_name = {file.name: file for file in files}
        asked = {
            "do": "run",
            "session": session,
            "files": [[f.name, f.key] for f in files],
            "has_run": has_run,
        }
        async with self._asked(asked, code.encode("utf-8", "surrogatepass")) as wire:
            while True:
                head, raw = await wire.read()
                match head.get("is"):
                    case "wanted":
                        await wire.send_file(by_name[head["name"]].path)
                    case "logs" | "image":
                        output = _output(head["is"], raw)
                        emit(output)
                        add(outputs, output)
                    case _:
                        written = [Written(name, size) for name, size in head["written"]]
                        return Result(outputs, written, head["problem"], head["limit"])

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        try:
            async with self._asked({"do": "read", "session": session, "name": name}) as wire:
                return await _kept(into, wire.chunk)
        except SandboxUnavailable as problem:
            raise SandboxCrashed(str(problem)) from problem

    async def close_session(self, session: SessionKey) -> None:
        with contextlib.suppress(SandboxUnavailable, SandboxCrashed):  # then there is none
            async with self._asked({"do": "close", "session": session}) as wire:
                await wire.read()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    async def _watch(self, known: asyncio.Event) -> None:
        """Keep a connection only to hear whether the other end is there."""
        while True:
            try:
                async with self._asked({"do": "look"}) as wire:
                    while True:
                        await wire.hear()
                        self.problem = None
                        known.set()
            except (SandboxUnavailable, SandboxCrashed) as problem:
                self.problem = str(problem)
                known.set()
            await asyncio.sleep(_AGAIN)

    @contextlib.asynccontextmanager
    async def _asked(self, head: Head, raw: bytes = b"") -> AsyncIterator[_Wire]:
        """A request's connection. Returns when the other end has done with it, cancelled or not.

        Raises SandboxUnavailable if there is none, SandboxCrashed if it breaks, or nothing comes.
        """
        try:
            async with asyncio.timeout(_SILENCE):
                ends = await asyncio.open_unix_connection(self._path)
        except TimeoutError as error:
            raise SandboxUnavailable(_DUMB) from error
        except OSError as error:
            raise SandboxUnavailable(f"{self._path}: {error.strerror}.") from error
        wire = _Wire(*ends, patience=_SILENCE)
        try:
            await wire.write(head, raw)
            yield wire
        except TimeoutError as error:
            wire.abort()
            raise SandboxCrashed(_DUMB) from error
        except (OSError, EOFError, Forged) as error:
            raise SandboxCrashed(_LOST) from error
        finally:
            await to_its_end(wire.hang_up())


class _Wire:
    """Frames over one connection. Its patience, in seconds, is for an end that beats."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        patience: float | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience

    async def read(self) -> Frame:
        """What is said next, beats left out. Raises as `hear` does."""
        while (frame := await self.hear())[0].get("is") == "here":
            continue
        return frame

    async def chunk(self) -> bytes | None:
        """A piece of a file; None if there is no such file."""
        head, raw = await self.read()
        return None if head.get("is") == "gone" else raw

    async def hear(self) -> Frame:
        """Whatever is said next. Raises what the other end has raised.

        And EOFError when it is gone, TimeoutError when it is silent, Forged.
        """
        async with asyncio.timeout(self._patience):
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            if length > MOST_HEAD:
                raise Forged("a frame is too long")
            head = parse(await self._reader.readexactly(length))
            raw = await self._reader.readexactly(raw_length(head))
        if (raised := _RAISED.get(head.get("raises", ""))) is not None:
            raise raised(head["text"])
        return head, raw

    async def beat(self) -> None:
        """Say that somebody is here, as long as there is a connection."""
        while not self._writer.is_closing():
            self.write_soon({"is": "here"})
            await asyncio.sleep(_BEAT)

    async def write(self, head: Head, raw: bytes = b"") -> None:
        """Raises TimeoutError if it is not taken, OSError."""
        self.write_soon(head, raw)
        async with asyncio.timeout(self._patience):
            await self._writer.drain()

    def write_soon(self, head: Head, raw: bytes = b"") -> None:
        if not self._writer.is_closing():  # uvloop's would raise, whoever it is that speaks
            self._writer.write(encode(head, raw))

    async def send_file(self, path: Path) -> None:
        """In pieces, the last of which is empty; or that it is gone."""
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            return await self.write({"is": "gone"})
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                await self.write({"is": "chunk"}, chunk)
        return await self.write({"is": "chunk"})

    async def pass_on(self, chunks: asyncio.Queue[bytes | None]) -> None:
        """Until the other end says no more: all that it says is pieces of files."""
        with contextlib.suppress(OSError, EOFError, Forged):
            while True:
                await chunks.put(await self.chunk())

    async def hung_up(self) -> None:
        """Wait until the other end says no more."""
        with contextlib.suppress(OSError):
            while await self._reader.read(CHUNK):
                continue

    async def hang_up(self) -> None:
        """Say no more, and wait for the other end to do the same, unless that is of no use."""
        with contextlib.suppress(OSError):
            if not self._writer.is_closing():
                self._writer.write_eof()
                async with asyncio.timeout(_PATIENCE):
                    await self.hung_up()
        self._writer.close()

    def abort(self) -> None:
        """Wait for nobody, and let nobody wait."""
        self._writer.transport.abort()


_RAISED: Final[dict[str, type[Exception]]] = {
    each.__name__: each for each in (SandboxUnavailable, SandboxCrashed, LookupError)
}


class SandboxServer:
    """The other end: a pool's sessions for whoever connects."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._watchers = set[_Wire]()

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Raises OSError."""
        server = await asyncio.start_unix_server(self._answer, sock=_bound(path))
        try:
            yield
        finally:
            server.close()
            for wire in self._watchers:
                wire.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(reader, writer)
        beating = asyncio.create_task(wire.beat())
        try:
            head, raw = await wire.read()
            answer = getattr(self, f"_{head['do']}")
            await answer(wire, head, raw)
        except tuple(_RAISED.values()) as error:
            name = next(name for name, kind in _RAISED.items() if isinstance(error, kind))
            wire.write_soon({"raises": name, "text": str(error)})
        except (OSError, EOFError, Forged) as error:
            log.warning("sandbox.connection_lost", extra={"reason": str(error)})
        finally:
            beating.cancel()
            writer.close()

    async def _look(self, wire: _Wire, _: Head, __: bytes) -> None:
        self._watchers.add(wire)
        await wire.hung_up()
        self._watchers.discard(wire)

    async def _close(self, wire: _Wire, head: Head, _: bytes) -> None:
        await self._pool.close_session(_key(head))
        await wire.write({"is": "done"})

    async def _read(self, wire: _Wire, head: Head, _: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            into = Path(folder) / "file"
            await self._pool.read(_key(head), head["name"], into)
            await wire.send_file(into)

    async def _run(self, wire: _Wire, head: Head, code: bytes) -> None:
        def emit(output: Output) -> None:
            if isinstance(output, Logs):
                wire.write_soon({"is": "logs"}, output.text.encode("utf-8", "replace"))
            else:
                wire.write_soon({"is": "image"}, output.data)

        chunks = asyncio.Queue[bytes | None](1)
        enough = self._pool.settings.file_bytes + 1  # to be too large

        @contextlib.asynccontextmanager
        async def fetch(file: FileIn) -> AsyncIterator[None]:
            await wire.write({"is": "wanted", "name": file.name})
            try:
                await _kept(file.path, chunks.get, enough)
                yield
            finally:
                await to_its_end(asyncio.to_thread(file.path.unlink, missing_ok=True))

        with tempfile.TemporaryDirectory() as folder:
            files = [
                FileIn(name, Path(folder, str(number)), key)
                for number, (name, key) in enumerate(head["files"])
            ]
            text = code.decode("utf-8", "surrogatepass")
            session, has_run = _key(head), head["has_run"]
            work = self._pool.run(session, text, files, emit, has_run=has_run, fetch=fetch)
            running = asyncio.ensure_future(work)
            hung_up = asyncio.ensure_future(wire.pass_on(chunks))
            try:
                await asyncio.wait((running, hung_up), return_when=asyncio.FIRST_COMPLETED)
            finally:
                hung_up.cancel()
                if not running.done():
                    running.cancel()
                    await asyncio.wait((running,))
        if not running.cancelled():
            result = running.result()
            written = [[each.name, each.size] for each in result.written]
            left = {"written": written, "problem": result.problem, "limit": result.limit}
            await wire.write({"is": "result", **left})


async def _kept(
    into: Path, chunk: Callable[[], Awaitable[bytes | None]], most: int = sys.maxsize
) -> int:
    """Write a file of the pieces that come, up to the empty one; returns its size in bytes.

    Bytes beyond `most` are dropped. Raises OSError if there is no such file, or no room for it,
    but only when no more pieces come.
    """
    size, problem = 0, await _problem_of(into.write_bytes, b"")
    while data := await chunk():
        if problem is None and size < most:
            kept = data[: most - size]
            size, problem = size + len(kept), await _problem_of(_append, into, kept)
    if data is None:
        problem = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if problem is not None:
        raise problem
    return size


async def _problem_of(write: Callable[..., object], *given: object) -> OSError | None:
    """Why it could not be done."""
    try:
        await to_its_end(asyncio.to_thread(write, *given))
    except OSError as error:
        return error
    return None


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _bound(path: Path) -> socket.socket:
    """A socket that its group may use; one that a dead process has left is replaced."""
    if path.is_socket() and not _is_heard(path):
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener


def _is_heard(path: Path) -> bool:
    """Whether a process listens there, be it a busy one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return True


def _key(head: Head) -> SessionKey:
    project, thread = head["session"]
    return str(project), str(thread)


def _output(kind: str, raw: bytes) -> Output:
    return Logs(raw.decode("utf-8", "replace")) if kind == "logs" else Image(raw, "png")
