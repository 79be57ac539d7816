"""The other end of `mortal`: starts servers, arms their failpoints, waits for their deaths."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.process import ROOT, environment

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Life:
    """A server that answers."""

    pid: int
    url: str


class Cradle:
    """One server at a time, on whatever folder. Its log goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self, folder: Path, points: str = "", **settings: Any) -> Life | int:
        """Serve a data folder; how it ended if it died first. A setting is `section__key`."""
        keys = {key.replace("__", "."): value for key, value in settings.items()}
        self._tell(json.dumps({"folder": str(folder), "failpoints": points, "settings": keys}))
        said = await self._heard()
        return Life(**said) if "pid" in said else int(said["status"])

    def arm(self, points: str) -> None:
        """Have the living server die, `name=kill:n`."""
        self._tell(points)

    async def death(self) -> int:
        """Wait for it; how it ended."""
        return int((await self._heard())["status"])

    async def end(self, life: Life, number: int = signal.SIGTERM) -> int:
        """Bring it about."""
        with contextlib.suppress(ProcessLookupError):  # it has just met another
            os.kill(life.pid, number)
        return await self.death()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return said


@contextlib.asynccontextmanager
async def cradle(log: Path) -> AsyncIterator[Cradle]:
    """For as long as the block lasts; a server that still lives is killed with it."""
    with log.open("a") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.mortal"),
            cwd=ROOT,
            env=environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield Cradle(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
