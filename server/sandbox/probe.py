"""Whether a backend keeps code in: tried at each start, with code that wants out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from server.config import CodeInterpreterSettings
from server.sandbox import attempts
from server.sandbox.backends import Backend, Slots
from server.sandbox.process import Lost, SandboxProcess
from server.sandbox.session import Session
from server.sandbox.values import Logs, SandboxCrashed

_PATIENCE: Final = 20.0  # seconds for a session to start
_SECRET: Final = "a secret of the server's"


async def why_not(backend: Backend, settings: CodeInterpreterSettings) -> str | None:
    """Why code would not be kept in; None: it is. Costs a third of a second."""
    with contextlib.closing(Slots(settings)) as free:
        return await _why_not(backend, settings, next(free))


async def _why_not(backend: Backend, settings: CodeInterpreterSettings, slot: int) -> str | None:
    try:
        launch = backend.launch(slot)
        process = await SandboxProcess.start(launch, _PATIENCE)
    except (Lost, OSError) as error:
        return f"no session could be started: {error}"
    session = Session(process, settings)
    text = await asyncio.to_thread(Path(attempts.__file__).read_text)
    try:
        async with _victim() as victim, _target() as target:
            more = {
                "pid": victim.pid,
                "processes": settings.processes,
                "unix": launch.start["unix"],
                "secret": _SECRET,
            }
            code = f"{text}\ntry_all({target | more!r})"
            result = await session.run(code, (), lambda _: None)
            await asyncio.to_thread(session.held, session.pids)
            said = "".join(each.text for each in result.outputs if isinstance(each, Logs))
            return _judged(said, victim_lives=victim.returncode is None)
    except OSError as error:
        return f"what it holds cannot be counted from outside: {error.strerror}"
    except SandboxCrashed as error:
        return f"its tests could not be run: {error}"
    finally:
        await session.end()


def _judged(said: str, *, victim_lives: bool) -> str | None:
    lines = said.splitlines()
    reached = [line[len(attempts.REACHED) :] for line in lines if line.startswith(attempts.REACHED)]
    if reached or not victim_lives:
        return f"code in it could {', '.join(reached or ['kill a process of the server'])}"
    if lines[-1:] != [attempts.END]:
        return f"its tests did not end: {said[-200:]}"
    return None


@contextlib.asynccontextmanager
async def _victim() -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the server's with a secret, which nobody would miss."""
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", "input()"),
        stdin=asyncio.subprocess.PIPE,
        env={"SECRET": _SECRET},
    )
    try:
        yield victim
    finally:
        with contextlib.suppress(ProcessLookupError):
            victim.kill()
        await victim.wait()


@contextlib.asynccontextmanager
async def _target() -> AsyncIterator[dict[str, object]]:
    """A file that everybody may read, a port, sockets with and without a folder."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
    ):
        name = f"assistants-{os.getpid()}"
        local.bind(f"\0{name}")
        local.listen(1)
        file = await asyncio.to_thread(_readable_file, Path(folder))
        datagrams = [f"\0{name}-datagrams", f"/{file.with_name('socket')}"]
        for bound, address in zip((near, far), datagrams, strict=True):
            bound.bind(address)
        await asyncio.to_thread(file.with_name("socket").chmod, 0o666)
        yield {
            "file": f"/{file}",  # /tmp alone would be the session's own
            "port": port.getsockname()[1],
            "socket": name,
            "datagrams": datagrams,
        }


def _readable_file(folder: Path) -> Path:
    folder.chmod(0o755)
    file = folder / "data"
    file.write_text(_SECRET)
    file.chmod(0o644)
    return file
