"""A sandbox in another process, which may be in another container: both ends of a socket to it.

One request a connection. To hang up cancels the request; the other end hangs up when nothing of it
runs any more. Whoever can connect is trusted; what he is told of is not, since it may be code's.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

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

_LOOK: Final = 5.0  # seconds between looks at whether the other end is there
_PATIENCE: Final = 5.0  # seconds for a look, and for the end of a request that was given up
_LOST: Final = "The sandbox's process is gone."
_DUMB: Final = "The sandbox's process does not answer."


class RemoteSandbox:
    """A Sandbox at the other end of a socket, which comes and goes."""

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self._path = path
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look whether it is there, and go on looking."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> Result:
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
                        return Result(outputs, written, head["problem"])

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        try:
            async with self._asked({"do": "read", "session": session, "name": name}) as wire:
                return await wire.read_file(into)
        except SandboxUnavailable as problem:
            raise SandboxCrashed(str(problem)) from problem

    async def close_session(self, session: SessionKey) -> None:
        with contextlib.suppress(SandboxUnavailable, SandboxCrashed):  # then there is none
            async with self._asked({"do": "close", "session": session}) as wire:
                await wire.read()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE), self._asked({"do": "look"}) as wire:
                await wire.read()
        except TimeoutError:
            self.problem = _DUMB
        except (SandboxUnavailable, SandboxCrashed) as problem:
            self.problem = str(problem)
        else:
            self.problem = None

    @contextlib.asynccontextmanager
    async def _asked(self, head: Head, raw: bytes = b"") -> AsyncIterator[_Wire]:
        """A request's connection. Returns when the other end has done with it, cancelled or not."""
        try:
            wire = _Wire(*await asyncio.open_unix_connection(self._path))
        except OSError as error:
            raise SandboxUnavailable(f"{self._path}: {error.strerror}.") from error
        try:
            await wire.write(head, raw)
            yield wire
        except (OSError, EOFError, Forged) as error:
            raise SandboxCrashed(_LOST) from error
        finally:
            await to_its_end(wire.hang_up())


class _Wire:
    """Frames over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> Frame:
        """Raises what the other end has raised; EOFError when it is gone, Forged."""
        length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
        if length > MOST_HEAD:
            raise Forged("a frame is too long")
        head = parse(await self._reader.readexactly(length))
        raw = await self._reader.readexactly(raw_length(head))
        if (raised := _RAISED.get(head.get("raises", ""))) is not None:
            raise raised(head["text"])
        return head, raw

    async def write(self, head: Head, raw: bytes = b"") -> None:
        self.write_soon(head, raw)
        await self._writer.drain()

    def write_soon(self, head: Head, raw: bytes = b"") -> None:
        self._writer.write(encode(head, raw))

    async def send_file(self, path: Path) -> None:
        """In pieces, the last of which is empty; of a file that is gone it is the only one."""
        file: BinaryIO = await asyncio.to_thread(_opened, path)
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                await self.write({"is": "chunk"}, chunk)
        await self.write({"is": "chunk"})

    async def read_file(self, into: Path) -> int:
        size = 0
        with await asyncio.to_thread(into.open, "wb") as file:
            while chunk := (await self.read())[1]:
                size += await asyncio.to_thread(file.write, chunk)
        return size

    async def hung_up(self) -> None:
        """Wait until the other end says no more."""
        with contextlib.suppress(OSError):
            while await self._reader.read(CHUNK):
                continue

    async def hang_up(self) -> None:
        """Say no more, and wait for the other end to do the same."""
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_PATIENCE):
                await self.hung_up()
        self._writer.close()


_RAISED: Final[dict[str, type[Exception]]] = {
    each.__name__: each for each in (SandboxUnavailable, SandboxCrashed, LookupError)
}


class SandboxServer:
    """The other end: a pool's sessions for whoever connects."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Raises OSError."""
        server = await asyncio.start_unix_server(self._answer, sock=_bound(path))
        try:
            yield
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(reader, writer)
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
            writer.close()

    async def _look(self, wire: _Wire, _: Head, __: bytes) -> None:
        await wire.write({"is": "done"})

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

        with tempfile.TemporaryDirectory() as folder:
            files = await self._fetched(wire, head, Path(folder))
            text = code.decode("utf-8", "surrogatepass")
            work = self._pool.run(_key(head), text, files, emit, has_run=head["has_run"])
            running = asyncio.ensure_future(work)
            hung_up = asyncio.ensure_future(wire.hung_up())
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
            await wire.write({"is": "result", "written": written, "problem": result.problem})

    async def _fetched(self, wire: _Wire, head: Head, folder: Path) -> list[FileIn]:
        """The files of a call; those that its session has already are not fetched again."""
        files = [
            FileIn(name, folder / str(number), key)
            for number, (name, key) in enumerate(head["files"])
        ]
        for file in files:
            if self._pool.lacks(_key(head), file):
                await wire.write({"is": "wanted", "name": file.name})
                await wire.read_file(file.path)
        return files


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return io.BytesIO()


def _bound(path: Path) -> socket.socket:
    """A socket that its group may use; one that a dead process has left is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener


def _key(head: Head) -> SessionKey:
    project, thread = head["session"]
    return str(project), str(thread)


def _output(kind: str, raw: bytes) -> Output:
    return Logs(raw.decode("utf-8", "replace")) if kind == "logs" else Image(raw, "png")
