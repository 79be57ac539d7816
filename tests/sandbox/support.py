"""What tests of sessions say to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.config import CodeInterpreterSettings
from server.sandbox.pool import SessionPool
from server.sandbox.values import FileIn, Image, Logs, Output, Result, SessionKey
from tests.support import DEADLINE

KEY = ("default", "thread_1")
SETTINGS = CodeInterpreterSettings(
    spare=0,
    seconds=1.5,
    memory=256 * 2**20,
    disk=32 * 2**20,
    file_bytes=16 * 2**20,
    processes=32,
    inodes=2000,
    figures=3,
)


@dataclass(slots=True)
class Calls:
    """Calls of one thread, and what was told of them while they ran."""

    pool: SessionPool
    key: SessionKey = KEY
    told: list[Output] = field(default_factory=list)

    async def run(self, code: str, *files: FileIn) -> Result:
        return await self.pool.run(self.key, code, files, self.told.append)

    async def text(self, code: str, *files: FileIn) -> str:
        """All that was printed."""
        return text_of(await self.run(code, *files))

    @property
    def pids(self) -> list[int]:
        """Of the thread's session."""
        return self.pool.pids(self.key)


def text_of(result: Result) -> str:
    """All that was printed."""
    return "".join(each.text for each in result.outputs if isinstance(each, Logs))


def images_of(result: Result) -> list[Image]:
    """The figures."""
    return [each for each in result.outputs if isinstance(each, Image)]


def alive(pids: list[int]) -> list[int]:
    """Those that still are processes, zombies left out."""
    return [pid for pid, state in zip(pids, states(pids), strict=True) if state not in ("", "Z")]


def states(pids: list[int]) -> list[str]:
    """As /proc names them, such as Z of a zombie; of one that is gone the empty text."""

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    return [state(pid) for pid in pids]


def command_of(pid: int) -> bytes:
    """How it was started; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what has no event: other processes do it."""
    async with asyncio.timeout(DEADLINE):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
