"""Which sandbox a machine has, and that it has none rather than a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import signal
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.config import CodeInterpreterSettings
from server.sandbox import backends, choice
from server.sandbox.backends import Bubblewrap, CannotStart, Landlock, Python, Slots
from server.sandbox.choice import open_sandbox
from server.sandbox.pool import SessionPool
from server.sandbox.process import Launch
from server.sandbox.usage import processes
from server.sandbox.values import SandboxUnavailable
from tests.process import COMMAND, ROOT, environment, started
from tests.sandbox.conftest import make_backend
from tests.sandbox.support import SETTINGS, Calls, alive, until
from tests.support import ManualClock, live_server

FAR_AWAY = 1_000_000_000 + 100 * os.getpid()  # ids that no other tests on the machine have


async def test_the_first_that_passes_is_taken(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is; it runs code."""
    monkeypatch.setattr(
        choice,
        "_BACKENDS",
        {"broken": broken, backend: lambda settings, _: make_backend(backend, settings)},
    )
    sandbox = await open_sandbox(SETTINGS, ManualClock())
    assert isinstance(sandbox, SessionPool)
    assert sandbox.problem is None
    assert sandbox.backend.name == backend
    assert await Calls(sandbox).text("1 + 1") == "2\n"
    await sandbox.close()


def broken(*_: object) -> Any:
    """A backend that this machine lacks."""
    raise CannotStart("it is not here")


async def test_with_none_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said why, of each."""
    monkeypatch.setattr(choice, "_BACKENDS", {"first": broken, "second": broken})
    sandbox = await open_sandbox(SETTINGS, ManualClock())
    problem = (
        "Nothing keeps code in on this machine. first: it is not here; second: it is not here."
    )
    assert sandbox.problem == problem
    with pytest.raises(SandboxUnavailable, match="second: it is not here"):
        await sandbox.run(("p", "t"), "1", (), lambda _: None)


@dataclasses.dataclass(frozen=True)
class Leaky:
    """Bubblewrap with a hole."""

    whole: Bubblewrap
    without: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    name: str = "leaky"

    def launch(self, slot: int) -> Launch:
        launch = self.whole.launch(slot)
        kept = [word for word in launch.command if word not in self.without]
        at = kept.index("--remount-ro")
        return dataclasses.replace(launch, command=(*kept[:at], *self.more, *kept[at:]))


@pytest.mark.parametrize(
    ("without", "more", "said"),
    [
        (("--unshare-net",), (), "connect to a socket"),
        ((), ("--bind", "/tmp", "/tmp"), "read a file of the server's"),
        ((), ("--bind", "/tmp", "/tmp"), "send to a socket"),
    ],
)
@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_a_backend_with_a_hole_is_refused(
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    without: tuple[str, ...],
    more: tuple[str, ...],
    said: str,
) -> None:
    """The tests find it, and say what could be reached."""
    whole = make_backend(backend, SETTINGS)
    assert isinstance(whole, Bubblewrap)
    monkeypatch.setattr(choice, "_BACKENDS", {"leaky": lambda *_: Leaky(whole, without, more)})
    sandbox = await open_sandbox(SETTINGS, ManualClock())
    assert sandbox.problem is not None
    assert said in sandbox.problem


async def test_off_is_off() -> None:
    """And says so."""
    sandbox = await open_sandbox(CodeInterpreterSettings(backend="off"), ManualClock())
    assert sandbox.problem == "It is turned off by the setting code_interpreter.backend."


def test_what_a_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program, no Landlock, an old one, no Python in the environment, a closed one."""
    python = Python.bare(Path("/usr/bin/python3"))
    monkeypatch.setattr(backends.shutil, "which", lambda _: None)
    with pytest.raises(CannotStart, match="bwrap is not installed"):
        Bubblewrap(SETTINGS, python)
    monkeypatch.setattr(backends, "landlock_version", lambda: 0)
    with pytest.raises(CannotStart, match="no Landlock"):
        Landlock(SETTINGS, python)
    monkeypatch.setattr(backends, "landlock_version", lambda: 4)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotStart, match="the server has to be root"):
        Landlock(SETTINGS, python)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tmp_path.chmod(0o700)
    closed = dataclasses.replace(python, folders=(tmp_path,))
    with pytest.raises(CannotStart, match="cannot read the Python in"):
        Landlock(SETTINGS, closed)
    with pytest.raises(CannotStart, match="no environment with a Python"):
        Python.of(tmp_path)


def test_sessions_are_users_that_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that some user of the machine has is left out."""
    settings = SETTINGS.model_copy(update={"first_uid": FAR_AWAY})
    user = pwd.struct_passwd(("x", "x", FAR_AWAY + 1, 1, "", "/", "/bin/sh"))
    monkeypatch.setattr(backends.pwd, "getpwall", lambda: [user])
    with contextlib.closing(Slots(settings)) as free:
        assert list(islice(free, 3)) == [0, 2, 3]


def test_two_servers_have_no_user_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one is root; when it ends, its sessions' users are free again."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = SETTINGS.model_copy(update={"first_uid": FAR_AWAY})
    one, other = Slots(settings), Slots(settings)
    assert [next(one), next(other), next(one)] == [0, 1, 2]
    one.close()
    with contextlib.closing(Slots(settings)) as third:
        assert next(third) == 0
    other.close()


async def test_readiness_says_why_no_code_is_run(tmp_path: Path) -> None:
    """And is readiness all the same."""
    async with live_server(tmp_path) as server, server.http() as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "ready",
            "code_interpreter": "It is turned off by the setting code_interpreter.backend.",
        }


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
async def test_a_server_that_ends_takes_its_sessions_along(
    backend: str, tmp_path: Path, ended_by: int
) -> None:
    """However it ends; and its banner told of sessions."""
    given = {"ASSISTANTS_CODE_INTERPRETER__BACKEND": backend}
    with started((*COMMAND, "serve", "--port", "0"), tmp_path, given) as server:
        assert "  code     with " in server.banner
        url = server.url.replace("/v1", "/readyz")
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(url)).json() == {"status": "ready"}
        await until(lambda: len(processes(server.process.pid)) >= 4)
        pids = processes(server.process.pid)
        server.end(ended_by)
    await until(lambda: not alive(pids))


SERVER = """
import asyncio, sys
from pathlib import Path
from server.clock import SystemClock
from server.sandbox.pool import SessionPool
from tests.sandbox.conftest import make_backend
from tests.sandbox.support import SETTINGS, Calls

async def main():
    pool = SessionPool(make_backend(sys.argv[1], SETTINGS), SETTINGS, SystemClock())
    code = "import os, time\\nif not os.fork(): os.setsid(), time.sleep(100)\\nos.getcwd()[1:]"
    told = await Calls(pool).text(code)
    print(told.strip(), *Calls(pool).pids, flush=True)
    await Calls(pool).run("while True: pass")

asyncio.run(main())
"""


async def test_a_killed_host_takes_its_sessions_along(backend: str) -> None:
    """In the middle of a call, a child that has left its parents included; so goes its folder."""
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, backend),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    assert host.stdout is not None
    folder, *pids = (await host.stdout.readline()).decode().split()
    assert len(alive(list(map(int, pids)))) >= 3
    host.kill()
    await host.wait()
    await until(lambda: not alive(list(map(int, pids))))
    if backend == "landlock":
        await until(lambda: not Path("/", folder.strip("'")).exists())
