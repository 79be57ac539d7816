"""The operator's channel: who can use it, and what becomes of what is asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from pathlib import Path

import pytest

from server import control
from server.control import Json, NobodyListens, Rejected


async def ask(path: Path, verb: str, arguments: Json = None) -> Json:
    """From another thread, as the other process that it is for."""
    return await asyncio.to_thread(control.ask, path, verb, arguments)


async def double(value: Json) -> Json:
    """Some work."""
    await asyncio.sleep(0)
    return value * 2


async def refuse(value: Json) -> Json:
    """Work that cannot be done."""
    raise Rejected(f"not {value}")


async def break_down(_: Json) -> Json:
    """Work with a fault of ours in it."""
    raise ZeroDivisionError("a secret")


VERBS = {"double": double, "refuse": refuse, "break": break_down}


async def test_work_and_its_result(tmp_path: Path) -> None:
    """What is asked arrives as it is, also when it is long, and so does what comes of it."""
    path = control.socket_in(tmp_path)
    async with control.listening(path, VERBS):
        assert await ask(path, "double", 21) == 42
        assert await ask(path, "double", ["ö" * 5000]) == ["ö" * 5000] * 2


async def test_work_that_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reason is told; a fault is told as one, and only the log says more."""
    path = control.socket_in(tmp_path)
    async with control.listening(path, VERBS):
        with pytest.raises(Rejected, match=r"^not this$"):
            await ask(path, "refuse", "this")
        with pytest.raises(Rejected, match="cannot do dance"):
            await ask(path, "dance")
        with pytest.raises(Rejected, match=r"^the server had an error; its log says which$"):
            await ask(path, "break")
        assert "ZeroDivisionError" in caplog.text
        assert await ask(path, "double", 1) == 2


async def test_what_is_no_request(tmp_path: Path) -> None:
    """Neither garbage nor a caller that says nothing and goes harms the next one."""
    path = control.socket_in(tmp_path)
    async with control.listening(path, VERBS):
        for said in (b"", b"\n", b"[]\n", b"{}\n", b"x" * 200_000):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(said)
            with contextlib.suppress(ConnectionError):
                writer.write_eof()
                await reader.read()
            writer.close()
        assert await ask(path, "double", 1) == 2


async def test_only_the_owner_can_connect(tmp_path: Path) -> None:
    """The socket is nobody else's, and gone with the server."""
    path = control.socket_in(tmp_path)
    async with control.listening(path, VERBS):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    with pytest.raises(NobodyListens):
        await ask(path, "double", 1)


async def test_socket_of_a_dead_server(tmp_path: Path) -> None:
    """Nobody answers at it, and the next server takes its place."""
    path = control.socket_in(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NobodyListens):
        await ask(path, "double", 1)
    async with control.listening(path, VERBS):
        assert await ask(path, "double", 1) == 2


async def test_folder_with_a_long_path(tmp_path: Path) -> None:
    """A socket's address is short; the folder's path need not be."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = control.socket_in(folder)
    async with control.listening(path, VERBS):
        assert await ask(path, "double", 1) == 2


async def test_stop_in_the_middle(tmp_path: Path) -> None:
    """Work that goes on when the server stops is cancelled, and whoever asked is told."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def go_on(_: Json) -> Json:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    path = control.socket_in(tmp_path)
    async with control.listening(path, {"go on": go_on}):
        asked = asyncio.create_task(ask(path, "go on"))
        await begun.wait()
    assert cancelled.is_set()
    with pytest.raises(Rejected, match="stopped"):
        await asked


async def test_server_that_is_killed(tmp_path: Path) -> None:
    """What it was asked it may have done, so that nobody must do it once more."""
    path = control.socket_in(tmp_path)
    with socket.create_server(str(path), family=socket.AF_UNIX) as dying:
        asked = asyncio.create_task(ask(path, "double", 1))
        connection, _ = await asyncio.to_thread(dying.accept)
        await asyncio.to_thread(connection.recv, 1)
        connection.close()  # with the rest unread, which resets it
        with pytest.raises(Rejected, match="stopped"):
            await asked
