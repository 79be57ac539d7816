"""A channel to the running server for whoever owns its data folder: a Unix socket in the folder.

Commands that write while a server runs go through it, since only one process may write. Only the
folder's owner can connect. One request a connection: a line of JSON with what to `do` and `with`
what, and a line with the `result`, or with the `problem`. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

Json = Any
Verb = Callable[[Json], Awaitable[Json]]

_FAULT: Final = "the server had an error; its log says which"
_LONGEST_PATH: Final = 100  # bytes of a socket's address, with some to spare


class NobodyListens(Exception):
    """No server answers there."""


class Rejected(Exception):
    """What was asked cannot be done; the text says why."""


def socket_in(folder: Path) -> Path:
    """Where the server of a data folder listens."""
    return folder / "control.sock"


def ask(path: Path, verb: str, arguments: Json) -> Json:
    """Have the server do something, and wait for the result. Raises NobodyListens, Rejected.

    What it was asked it may have done, unless nobody listens.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _reachable(path) as address:
                connection.connect(address)
        except OSError as error:
            raise NobodyListens(f"{path}: {error.strerror or error}") from error
        said = b""
        with contextlib.suppress(OSError):
            connection.sendall(_line({"do": verb, "with": arguments}))
            with connection.makefile("rb") as answer:
                said = answer.readline()
    if not said.endswith(b"\n"):
        raise Rejected("the server stopped before it had answered")
    reply = json.loads(said)
    if "problem" in reply:
        raise Rejected(reply["problem"])
    return reply["result"]


@contextlib.asynccontextmanager
async def listening(path: Path, verbs: Mapping[str, Verb]) -> AsyncIterator[None]:
    """Answer until the block ends, which cancels what is still being done. Raises OSError.

    Whoever listens holds the folder's lock, so a socket that is there is a dead server's.
    """
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the loop calls this in a task of its own"
        answering.add(task)
        try:
            with contextlib.suppress(OSError):
                writer.write(_line(await _reply(verbs, await reader.readline())))
                await writer.drain()
        finally:
            answering.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=_bound(path))
    try:
        yield
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        _remove(path)


async def _reply(verbs: Mapping[str, Verb], line: bytes) -> Json:
    try:
        asked = json.loads(line)
        do = verbs.get(asked["do"])
        if do is None:
            raise Rejected(f"this server cannot do {asked['do']}; is it of another version?")
        return {"result": await do(asked["with"])}
    except Rejected as problem:
        return {"problem": str(problem)}
    except Exception:  # the edge: whoever asked is told, and the server goes on
        log.exception("control_failed")
        return {"problem": _FAULT}


def _line(value: Json) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _bound(path: Path) -> socket.socket:
    """Nobody can connect before it listens, and then its owner only."""
    _remove(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _reachable(path) as address:
            listener.bind(address)
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """The path, or a shorter one for as long as the block runs: a socket's address is short."""
    if len(os.fsencode(path)) <= _LONGEST_PATH or sys.platform != "linux":
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
