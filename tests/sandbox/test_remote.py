"""A sandbox in another process: all that one here does, over a socket."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
import yaml

from server.config import CodeInterpreterSettings
from server.sandbox import remote as remote_module
from server.sandbox.choice import open_sandbox
from server.sandbox.frames import CHUNK, encode
from server.sandbox.pool import SessionPool
from server.sandbox.remote import RemoteSandbox, SandboxServer
from server.sandbox.values import FileIn, Logs, SandboxCrashed, SandboxUnavailable, Written
from tests.process import ROOT, environment
from tests.sandbox.support import KEY, SETTINGS, text_of, until
from tests.support import DEADLINE, ManualClock

DUMB = "The sandbox's process does not answer."


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
    files = [FileIn("in.bin", path, "file-1")]
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
    assert late.limit == "time"
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


async def test_a_file_that_is_too_large_is_fetched_once(
    remote: RemoteSandbox, folder: Path, tmp_path: Path
) -> None:
    """No more of it is kept than tells that it is; later calls are told without it."""
    asked = {"do": "run", "session": KEY, "files": [["in.bin", "file-1"]], "has_run": False}
    larger = "[in.bin could not be put into /mnt/data: it is larger than 16 MiB.]\n1\n"
    reader, writer = await asyncio.open_unix_connection(remote._path)
    writer.write(encode(asked, b"1"))
    await reader.readuntil(b"wanted")
    kept = 0
    for _ in range(0, 2 * SETTINGS.file_bytes, CHUNK):
        writer.write(encode({"is": "chunk"}, bytes(CHUNK)))
        await writer.drain()
        kept = max(kept, sum(path.stat().st_size for path in copies(folder)))
    assert kept == SETTINGS.file_bytes + 1
    writer.write(encode({"is": "chunk"}))
    await reader.readuntil(larger.encode())
    await reader.readuntil(b"result")
    writer.close()
    path = tmp_path / "stored"
    path.write_text("here")
    file = FileIn("in.bin", path, "file-1")
    assert text_of(await remote.run(KEY, "1", [file], lambda _: None)) == larger
    file = FileIn("in.bin", path, "file-2")
    result = await remote.run(KEY, "open('in.bin').read()", [file], lambda _: None)
    assert text_of(result) == "'here'\n"


async def test_no_copy_of_a_file_stays(remote: RemoteSandbox, folder: Path, tmp_path: Path) -> None:
    """The session has its own while the code runs."""
    path = tmp_path / "stored"
    path.write_text("here")
    told: list[object] = []
    code = "print(open('in.txt').read())\nimport time; time.sleep(60)"
    running = asyncio.create_task(
        remote.run(KEY, code, [FileIn("in.txt", path, "file-1")], told.append)
    )
    await until(lambda: bool(told))
    assert told == [Logs("here\n")]
    assert copies(folder) == []
    running.cancel()
    await asyncio.wait((running,))


def copies(folder: Path) -> list[Path]:
    """Of files that were fetched."""
    return list(folder.glob("tmp*/*"))


async def test_a_file_that_is_gone_is_told_of(remote: RemoteSandbox, tmp_path: Path) -> None:
    """It is not put there as an empty one, but when it is there again."""
    path = tmp_path / "stored"
    file = FileIn("in.txt", path, "file-1")
    told = text_of(await remote.run(KEY, "import os; os.listdir()", [file], lambda _: None))
    assert told == "[in.txt could not be put into /mnt/data: No such file or directory.]\n[]\n"
    path.write_text("here")
    result = await remote.run(KEY, "open('in.txt').read()", [file], lambda _: None)
    assert text_of(result) == "'here'\n"


async def test_what_a_new_session_lacks_is_fetched_when_its_turn_comes(
    pool: SessionPool, remote: RemoteSandbox, tmp_path: Path
) -> None:
    """The session that had it may end while a call waits."""
    path = tmp_path / "stored"
    path.write_text("here")
    file, told = FileIn("in.txt", path, "file-1"), list[object]()
    code = "print('begun')\nwhile True: pass"
    first = asyncio.create_task(remote.run(KEY, code, [file], told.append))
    await until(lambda: bool(told))
    code = "print(open('in.txt').read())"
    second = asyncio.create_task(remote.run(KEY, code, [file], lambda _: None))
    await until(lambda: pool._places[KEY].callers == 2)
    os.kill(pool.pids(KEY)[-1], signal.SIGKILL)
    with pytest.raises(SandboxCrashed):
        await first
    assert text_of(await second).startswith("here\n[The session was restarted")


async def test_who_hangs_up_in_the_middle_of_a_file_stops_nobody(
    pool: SessionPool, remote: RemoteSandbox, tmp_path: Path
) -> None:
    """The session is free for the next call, which has the file fetched anew."""
    path = tmp_path / "stored"
    path.write_text("here")
    file = FileIn("in.txt", path, "file-1")
    asked = {"do": "run", "session": KEY, "files": [["in.txt", "file-1"]], "has_run": False}
    reader, writer = await asyncio.open_unix_connection(remote._path)
    writer.write(encode(asked, b"1"))
    await reader.readuntil(b"wanted")
    writer.write(encode({"is": "chunk"}, b"not he"))
    writer.close()
    await until(lambda: not pool._places[KEY].callers)
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
    monkeypatch.setattr(remote_module, "_SILENCE", 0.05)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(path))
        stopped.listen(1)
        settings = CodeInterpreterSettings(backend="remote", socket=path)
        async with asyncio.timeout(DEADLINE):
            sandbox = await open_sandbox(settings, ManualClock())
            assert sandbox.problem == DUMB
            with pytest.raises(SandboxUnavailable, match=DUMB):
                await sandbox.run(KEY, "1", (), lambda _: None)
            await sandbox.close()


async def test_a_request_that_is_not_answered_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is read, or is too long for that to begin; and its connection is closed."""
    monkeypatch.setattr(remote_module, "_SILENCE", 0.05)
    closed: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed.append(await reader.read())
        writer.close()

    async with asyncio.timeout(DEADLINE):
        async with await asyncio.start_unix_server(listen, tmp_path / "socket"):
            sandbox = RemoteSandbox(tmp_path / "socket")
            with pytest.raises(SandboxCrashed, match=DUMB):
                await sandbox.run(KEY, "1", (), lambda _: None)
            with pytest.raises(SandboxCrashed, match=DUMB):
                await sandbox.read(KEY, "x", tmp_path / "x")
            await sandbox.close_session(KEY)
            await until(lambda: len(closed) == 3)
        with socket.socket(socket.AF_UNIX) as stopped:
            stopped.bind(str(tmp_path / "stopped"))
            stopped.listen(1)
            sandbox, code = RemoteSandbox(tmp_path / "stopped"), "1\n" * 1_000_000
            with pytest.raises(SandboxCrashed, match=DUMB):
                await sandbox.run(KEY, code, (), lambda _: None)


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


async def test_nobody_s_place_is_taken(pool: SessionPool, tmp_path: Path) -> None:
    """A second process ends, and leaves the first one's socket; what is no socket stays, too."""
    path, file = tmp_path / "socket", tmp_path / "file"
    file.write_text("precious")
    async with SandboxServer(pool).listening(path):
        for taken in (path, file):
            with pytest.raises(OSError, match="in use"):
                await SandboxServer(pool).listening(taken).__aenter__()
        assert (await RemoteSandbox(path).run(KEY, "1", (), lambda _: None)).outputs == [
            Logs("1\n")
        ]
    assert file.read_text() == "precious"
    async with SandboxServer(pool).listening(path):  # the first one's is still there
        assert (await RemoteSandbox(path).run(KEY, "2", (), lambda _: None)).outputs == [
            Logs("2\n")
        ]


class Talker:
    """A pool whose code prints to its end, also when it is told to stop."""

    settings = SETTINGS

    def __init__(self) -> None:
        self.has_begun, self.is_over = asyncio.Event(), asyncio.Event()

    async def run(self, *given: Any, **_: Any) -> None:
        """Tell who hung up."""
        *_, emit = given
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                emit(Logs("x"))
                await asyncio.sleep(0.01)
            self.is_over.set()


def test_who_is_told_nothing_any_more_stops_nobody(tmp_path: Path) -> None:
    """What a session says last, when its server is gone, keeps it from no part of its end."""

    async def hang_up() -> None:
        pool, path = Talker(), tmp_path / "socket"
        async with (
            asyncio.timeout(DEADLINE),
            SandboxServer(cast("SessionPool", pool)).listening(path),
        ):
            with socket.socket(socket.AF_UNIX) as near:
                near.connect(str(path))
                near.sendall(encode({"do": "run", "session": KEY, "files": [], "has_run": False}))
                await pool.has_begun.wait()
            await pool.is_over.wait()

    uvloop.run(hang_up())


@pytest.fixture
async def command(backend: str, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`assistants sandbox`, at a socket of the test's."""
    path = tmp_path / "socket"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "sandbox"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(
            ASSISTANTS_CODE_INTERPRETER__BACKEND=backend,
            ASSISTANTS_CODE_INTERPRETER__SOCKET=str(path),
            ASSISTANTS_CODE_INTERPRETER__SPARE="0",
        ),
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == f"Ready at {path}.\n".encode()
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_the_command(command: asyncio.subprocess.Process, tmp_path: Path) -> None:
    """`assistants sandbox` is such a process; that it ends is known at once."""
    sandbox = RemoteSandbox(tmp_path / "socket")
    await sandbox.start()
    assert text_of(await sandbox.run(KEY, "6 * 7", (), lambda _: None)) == "42\n"
    command.terminate()
    assert await command.wait() == 0
    await until(lambda: sandbox.problem is not None)
    await sandbox.close()


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_a_file_that_it_has_no_room_for_is_told_of(
    command: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    """The code runs all the same, with the files that it has room for."""
    resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
    sandbox, files = RemoteSandbox(tmp_path / "socket"), []
    for name, size in (("large", 2**22), ("small", 100)):
        (tmp_path / name).write_bytes(bytes(size))
        files.append(FileIn(name, tmp_path / name, f"file-{name}"))
    told = text_of(await sandbox.run(KEY, "import os; os.listdir()", files, lambda _: None))
    assert told == "[large could not be put into /mnt/data: File too large.]\n['small']\n"


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_a_call_does_not_outlive_the_process_that_it_is_in(
    command: asyncio.subprocess.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stops in its middle is noticed soon, and when it is back calls work again."""
    monkeypatch.setattr(remote_module, "_SILENCE", 2.0)
    sandbox = RemoteSandbox(tmp_path / "socket")
    await sandbox.start()
    told: list[object] = []
    code = "import time\nprint('begun')\ntime.sleep(60)"
    running = asyncio.create_task(sandbox.run(KEY, code, (), told.append))
    await until(lambda: bool(told))
    command.send_signal(signal.SIGSTOP)
    with pytest.raises(SandboxCrashed, match=DUMB):
        await asyncio.wait_for(running, DEADLINE)
    await until(lambda: sandbox.problem == DUMB)
    command.send_signal(signal.SIGCONT)
    await until(lambda: sandbox.problem is None)
    assert text_of(await sandbox.run(KEY, "6 * 7", (), lambda _: None)).endswith("42\n")
    await sandbox.close()


async def test_a_call_may_be_quiet_for_long(
    remote: RemoteSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the code that has to say something."""
    monkeypatch.setattr(remote_module, "_SILENCE", 0.3)
    monkeypatch.setattr(remote_module, "_BEAT", 0.02)
    code = "import time\ntime.sleep(1)\nprint('done')"
    assert text_of(await remote.run(KEY, code, (), lambda _: None)) == "done\n"


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
