"""Backups that are taken while clients are at work, and servers on them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sqlite3
from pathlib import Path

from server.backup import back_up, restore
from tests.faults.cradle import Life, cradle
from tests.faults.cuts import NEVER, known_at, state_of, states_after
from tests.faults.history import History, Witness
from tests.faults.ordeal import client_of
from tests.faults.traffic import crowd

BACKUPS = 5
NOW = 1_800_000_000


def assert_true(database: Path, history: History, begun: int) -> int:
    """The copy is whole, and has what had been told when it was begun; how much that is."""
    certain = known_at(history.facts, begun, history.perhaps_gone())
    with contextlib.closing(sqlite3.connect(database)) as raw:
        for query in NEVER:
            assert raw.execute(query).fetchall() == [], query
        for object_id, state in certain.items():
            assert state_of(raw, object_id) in (state, *states_after(state)), (object_id, state)
    return len(certain)


def dump(folder: Path) -> list[str]:
    """All that a database says."""
    with contextlib.closing(sqlite3.connect(folder / "assistants.db")) as raw:
        return list(raw.iterdump())


async def test_taken_under_load(tmp_path: Path) -> None:
    """Each has all that clients had been told before; a server on the last proves all of it."""
    data, begun, proved = tmp_path / "data", 0, [0]
    history = History(itertools.count(1), lambda: begun)
    async with cradle(tmp_path / "server.log") as servers:
        life = await servers.start(data)
        assert isinstance(life, Life)
        async with client_of(life) as http:
            working = asyncio.create_task(crowd(http, history, random.Random(14)))
            for number in range(BACKUPS):
                await history.grown(len(history.facts) + 60)
                begun = number + 1
                copy, other = tmp_path / f"copy{number}", tmp_path / f"data{number}"
                await asyncio.to_thread(back_up, data, copy, NOW)
                await asyncio.to_thread(restore, copy, other)
                proved.append(assert_true(other / "assistants.db", history, number))
                assert dump(copy) == dump(other)
            await servers.end(life, signal.SIGKILL)
            await working
        back_up(data, tmp_path / "last", NOW)
        restore(tmp_path / "last", tmp_path / "reborn")
        life = await servers.start(tmp_path / "reborn")
        assert isinstance(life, Life)
        async with client_of(life) as http:
            await Witness(http, history).verify()
    assert proved == sorted(set(proved)), "each had more to prove than the one before"
