"""A sandbox in another process: all that one here does, over a socket."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from server.config import CodeInterpreterSettings
from server.sandbox import remote as remote_module
from server.sandbox.choice import open_sandbox
from server.sandbox.frames import encode
from server.sandbox.pool import SessionPool
from server.sandbox.remote import RemoteSandbox, SandboxServer
from server.sandbox.values import FileIn, Logs, SandboxCrashed, SandboxUnavailable, Written
from tests.process import ROOT, environment
from tests.sandbox.support import KEY, text_of, until
from tests.support import DEADLINE, ManualClock


@pytest.fixture
async def remote(pool: SessionPool, tmp_path: Path) -> AsyncIterator[RemoteSandbox]:
    """The near end; the far end is in this process, too."""
    path = tmp_path / "socket"
    async with SandboxServer(pool).listening(path):
        settings = CodeInterpreterSettings(backend="remote", socket=path)
        sandbox = await open_sandbox(settings, ManualClock())
        assert isinstance(sandbox, RemoteSandbox)
        assert sandbox.problem is None
        yield sandbox
        await sandbox.close()


async def test_code_runs_elsewhere(remote: RemoteSandbox, tmp_path: Path) -> None:
    """State, outputs as they come, files in and out, problems: as if it were here."""
    path = tmp_path / "stored"
    path.write_bytes(b"12345678" * 100_000)
    told: list[object] = []
    code = "import time\nprint('é'); time.sleep(0.2); open('out/x', 'w').write('é')"
    files = [FileIn("in.bin", path, "file-1"), FileIn("gone.txt", tmp_path / "none", "file-2")]
    await remote.run(KEY, "import os; os.mkdir('out')", files, told.append)
    result = await remote.run(KEY, code, (), told.append)
    assert told == [Logs("é\n"), Logs("1\n")]
    assert result.outputs == [Logs("é\n1\n")]
    assert result.written == [Written("out/x", 2)]
    assert result.problem is None
    assert await remote.read(KEY, "in.bin", tmp_path / "out") == 800_000
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    with pytest.raises(LookupError):
        await remote.read(KEY, "nothing", tmp_path / "out")
    late = await remote.run(KEY, "while True: pass", (), told.append)
    assert late.problem is not None
    assert "more than 1.5 seconds" in text_of(late)


async def test_files_are_fetched_once(remote: RemoteSandbox, tmp_path: Path) -> None:
    """A session that has one needs it no more."""
    path = tmp_path / "stored"
    path.write_text("here")
    file = FileIn("in.txt", path, "file-1")
    await remote.run(KEY, "1", [file], lambda _: None)
    path.unlink()
    result = await remote.run(KEY, "open('in.txt').read()", [file], lambda _: None)
    assert text_of(result) == "'here'\n"


async def test_a_crash_is_told(remote: RemoteSandbox) -> None:
    """As it is by a sandbox that is here; and the next call has a new session."""
    with pytest.raises(SandboxCrashed, match="The session ended"):
        await remote.run(KEY, "import os; os._exit(1)", (), lambda _: None)
    assert "restarted" in text_of(await remote.run(KEY, "1", (), lambda _: None))


async def test_a_session_that_is_not_there_any_more_is_told_of(remote: RemoteSandbox) -> None:
    """The server knows that its thread had one; the process where it was need not."""
    told = text_of(await remote.run(KEY, "1", (), lambda _: None, has_run=True))
    assert "The session was restarted" in told


async def test_a_cancel_reaches_it(pool: SessionPool, remote: RemoteSandbox) -> None:
    """Within half a second it is idle, and the task ends no sooner."""
    told: list[object] = []
    code = "x = 3\nprint('begun')\nwhile True: pass"
    running = asyncio.create_task(remote.run(KEY, code, (), told.append))
    await until(lambda: bool(told))
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 0.5
    assert not [place for place in pool._places.values() if place.callers]


async def test_a_deleted_thread_s_session_ends(pool: SessionPool, remote: RemoteSandbox) -> None:
    """There, too."""
    await remote.run(KEY, "1", (), lambda _: None)
    assert pool.sessions == 1
    await remote.close_session(KEY)
    assert pool.sessions == 0


async def test_nobody_there(tmp_path: Path) -> None:
    """It is said, and nothing is run."""
    sandbox = RemoteSandbox(tmp_path / "socket")
    await sandbox.start()
    assert sandbox.problem == f"{tmp_path / 'socket'}: No such file or directory."
    with pytest.raises(SandboxUnavailable):
        await sandbox.run(KEY, "1", (), lambda _: None)
    with pytest.raises(SandboxCrashed):
        await sandbox.read(KEY, "x", tmp_path / "x")
    await sandbox.close_session(KEY)
    await sandbox.close()


async def test_somebody_who_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped, say: it is said in time."""
    monkeypatch.setattr(remote_module, "_PATIENCE", 0.05)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(path))
        stopped.listen(1)
        settings = CodeInterpreterSettings(backend="remote", socket=path)
        async with asyncio.timeout(DEADLINE):
            sandbox = await open_sandbox(settings, ManualClock())
        assert sandbox.problem == "The sandbox's process does not answer."
        await sandbox.close()


async def test_compose_asks_whether_it_answers(pool: SessionPool, tmp_path: Path) -> None:
    """A socket that is there is not enough for its health: the process may be stopped."""
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["code-sandbox"]
    _, _, option, script = composed["healthcheck"]["test"]

    async def is_healthy(path: Path) -> bool:
        asked = script.replace("/run/sandbox/socket", str(path)).replace("(5)", "(0.2)")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, option, asked), cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    async with SandboxServer(pool).listening(tmp_path / "socket"):
        assert await is_healthy(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "stopped"))
        stopped.listen(1)
        assert not await is_healthy(tmp_path / "stopped")


@pytest.mark.parametrize("said", [b"", b"\xff\xff\xff\xff", encode({"is": "logs"}, b"x")[:-1]])
async def test_who_dies_in_the_middle_has_crashed(tmp_path: Path, said: bytes) -> None:
    """Whatever he was about to say."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    path = tmp_path / "socket"
    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(SandboxCrashed, match="process is gone"):
            await RemoteSandbox(path).run(KEY, "1", (), lambda _: None)


async def test_what_is_no_request_is_not_answered(pool: SessionPool, tmp_path: Path) -> None:
    """Nor does it end the server."""
    path = tmp_path / "socket"
    async with SandboxServer(pool).listening(path):
        for nonsense in (b"", b"\xff\xff\xff\xff", encode({}), encode({"do": "look"})[:-1]):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(nonsense)
            writer.write_eof()
            await reader.read()
            writer.close()
        sandbox = RemoteSandbox(path)
        assert (await sandbox.run(KEY, "1", (), lambda _: None)).outputs == [Logs("1\n")]


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_the_command(backend: str, tmp_path: Path) -> None:
    """`assistants sandbox` is such a process, and takes its socket away with it."""
    path = tmp_path / "socket"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "sandbox"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(
            ASSISTANTS_CODE_INTERPRETER__BACKEND=backend,
            ASSISTANTS_CODE_INTERPRETER__SOCKET=str(path),
        ),
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == f"Ready at {path}.\n".encode()
    sandbox = RemoteSandbox(path)
    assert text_of(await sandbox.run(KEY, "6 * 7", (), lambda _: None)) == "42\n"
    process.terminate()
    assert await process.wait() == 0


async def test_the_command_refuses_without_a_backend(tmp_path: Path) -> None:
    """In one line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "sandbox"),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"assistants: It is turned off by the setting" in said
