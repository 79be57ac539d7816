"""Kills servers on one data folder, and has the next one say whether all is as it was told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.cradle import Cradle, Life
from tests.faults.history import History, Witness
from tests.faults.traffic import Actor, crowd, expire, keep, upload
from tests.support import BETA, DEADLINE

KILLED = -signal.SIGKILL
OFTEN = {"commit": 60, "run": 6, "blob": 4}  # how often a failpoint is passed, by its first word
SELDOM = 2
TWINS = "SELECT metadata FROM thread GROUP BY metadata HAVING count(*) > 1"  # nothing lists threads
SHORT_LIVED: dict[str, Any] = {"runs__expires_after": 1}


@dataclass(frozen=True, slots=True)
class Death:
    """At which passage of which failpoint; `again`: a second time, while the next one starts."""

    point: str
    passage: int
    again: bool = False

    @property
    def armed(self) -> str:
        return f"{self.point}=kill:{self.passage}"

    @property
    def circumstances(self) -> tuple[Sequence[Actor], dict[str, Any]]:
        """Who is at work, unless it is a company, with which settings."""
        if self.point == "run.expired":
            return (expire, expire, keep, upload), SHORT_LIVED
        return (), {}


def deaths(points: Sequence[str], number: int, chance: random.Random) -> Iterator[Death]:
    """Of each failpoint once, then of any. Every third server dies again while it starts."""
    for count in range(number):
        point = points[count] if count < len(points) else chance.choice(points)
        often = OFTEN.get(point.partition(".")[0], SELDOM)
        yield Death(point, chance.randint(1, often), again=count % 3 == 0)


def client_of(life: Life) -> httpx.AsyncClient:
    """A bare client."""
    return httpx.AsyncClient(base_url=life.url, headers=BETA, timeout=DEADLINE, trust_env=False)


@dataclass(slots=True)
class Ordeal:
    """What the servers of a data folder go through. `slowest` is a recovery, in seconds."""

    cradle: Cradle
    folder: Path
    chance: random.Random
    told: int = 0
    slowest: float = 0.0
    kills: int = 0
    stops: int = 0
    _past: dict[str, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _open: History | None = None

    async def kill(self, death: Death) -> None:
        """Let a server work until it dies there."""
        actors, settings = death.circumstances
        if settings:  # with which runs of before would not have their time
            await self.judge()
        async with self._living(**settings) as (_, http):
            self.cradle.arm(death.armed)
            working = self._work(http, actors, orderly=False)
            try:
                assert await self.cradle.death() == KILLED
            except TimeoutError:
                raise AssertionError(f"no client has the server pass {death.point}") from None
            await working
        self.kills += 1
        if death.again:
            await self._kill_at_start()

    async def stop(self) -> None:
        """Let a server work for a while, then ask it to stop."""
        async with self._living() as (life, http):
            working = self._work(http, (), orderly=True)
            assert self._open is not None
            await self._open.grown(self.chance.randint(20, 200))
            assert await self.cradle.end(life) == 0
            await working
        self.stops += 1

    async def judge(self) -> None:
        """Look once more at all that anybody was ever told."""
        async with self._living() as (life, http):
            everything = History(self._numbers)
            everything.told = self._past
            witness = Witness(http, everything)
            await witness.look_at_each()
            await witness.no_twins()
            assert await self.cradle.end(life) == 0
        with contextlib.closing(sqlite3.connect(self.folder / "assistants.db")) as raw:
            assert raw.execute(TWINS).fetchall() == []

    def _work(
        self, http: httpx.AsyncClient, actors: Sequence[Actor], *, orderly: bool
    ) -> asyncio.Task[None]:
        self._open = History(self._numbers, orderly=orderly)
        return asyncio.create_task(crowd(http, self._open, self.chance, actors))

    async def _kill_at_start(self) -> None:
        """As it recovers what the last one has left, or just when it is done with that."""
        life = await self.cradle.start(
            self.folder, f"commit.before=kill:{self.chance.randint(1, 4)}"
        )
        status = await self.cradle.end(life, signal.SIGKILL) if isinstance(life, Life) else life
        assert status == KILLED
        self.kills += 1

    @contextlib.asynccontextmanager
    async def _living(self, **settings: Any) -> AsyncIterator[tuple[Life, httpx.AsyncClient]]:
        """A server that has proved the last one right."""
        life = await self.cradle.start(self.folder, **settings)
        assert isinstance(life, Life), f"it ended with {life}"
        async with client_of(life) as http:
            if self._open is not None:
                self.told += len(self._open.facts)
                took = await Witness(http, self._open).verify()
                self.slowest = max(self.slowest, took)
                self._past |= self._open.told
                self._open = None
            yield life, http
