"""Folders of sessions whose servers are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from server.sandbox.choice import open_sandbox
from server.sandbox.folders import sweep
from server.sandbox.pool import SessionPool
from tests.process import ROOT, environment
from tests.sandbox.support import SETTINGS, Calls, states, until
from tests.support import ManualClock

pytestmark = pytest.mark.parametrize("backend", ["landlock"], indirect=True)

BEGIN = """
import asyncio, os, signal
from server.sandbox.backends import Slots
from server.sandbox.process import SandboxProcess
from tests.sandbox.conftest import make_backend
from tests.sandbox.support import SETTINGS
slots = Slots(SETTINGS)
launch = make_backend("landlock", SETTINGS).launch(next(slots))
"""
DIE = f"{BEGIN}\nos.kill(os.getpid(), signal.SIGKILL)"
LIVE = f"""{BEGIN}
async def main():
    process = await SandboxProcess.start(launch, 20)
    print(process.root, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def server(folder: Path, script: str) -> asyncio.subprocess.Process:
    """A process that starts a session, whose folder is there."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        cwd=ROOT,
        env=environment(TMPDIR=str(folder), PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=asyncio.subprocess.PIPE,
    )


async def test_what_a_dead_server_has_left_goes_at_the_next_start(
    backend: str, folder: Path, tmp_path: Path
) -> None:
    """However deep it is, and however closed; and nothing that a link in it leads to."""
    process = await server(folder, DIE)
    assert await process.wait() == -signal.SIGKILL
    [left] = inside(folder)
    kept = fill(left / "data", tmp_path)
    sandbox = await open_sandbox(SETTINGS.model_copy(update={"backend": backend}), ManualClock())
    await sandbox.close()
    assert inside(folder) == []
    assert inside(kept) != []


def inside(folder: Path) -> list[Path]:
    """What is in it."""
    return list(folder.iterdir())


def fill(data: Path, elsewhere: Path) -> Path:
    """With folders in folders, files, and a link to the folder that is returned, as code would."""
    owner = data.stat()
    (elsewhere / "kept").mkdir()
    (elsewhere / "kept" / "file").touch()
    (data / "link").symlink_to(elsewhere / "kept")
    for name in ("deep/" + "/".join(["d" * 60] * 60), "closed/within"):
        (data / name).mkdir(parents=True)
        (data / name / "file").touch()
    for path in data.glob("**/*"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    (data / "closed").chmod(0)
    return elsewhere / "kept"


async def test_what_somebody_has_stays(pool: SessionPool, folder: Path) -> None:
    """A session of a server that lives, whoever sweeps."""
    calls = Calls(pool)
    await calls.run("open('kept', 'w').write('there')")
    assert sweep() == 0
    assert await calls.text("print(open('kept').read())") == "there\n"


async def test_what_a_keeper_has_not_yet_removed_is_his(backend: str, folder: Path) -> None:
    """He may be busy with it when the server that started him is dead."""
    process = await server(folder, LIVE)
    assert process.stdout is not None
    keeper = int(await process.stdout.readline())
    os.kill(keeper, signal.SIGSTOP)
    await until(lambda: states([keeper]) == ["T"])
    process.kill()
    await process.wait()
    swept, left = sweep(), inside(folder)
    os.kill(keeper, signal.SIGCONT)
    assert swept == 0
    assert len(left) == 1
    await until(lambda: not inside(folder))
