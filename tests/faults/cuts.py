"""Power cuts: a write-ahead log of which only the first part has reached the disk."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server.runs.state import TERMINAL, TRANSITIONS
from tests.faults.cradle import Cradle, Life
from tests.faults.history import Fact, History, Run, Witness
from tests.faults.ordeal import KILLED, client_of
from tests.faults.traffic import crowd

COMMITS = 50  # of less than the thousand pages after which the log is copied into the file
TABLES = {
    "asst": "assistant",
    "thread": "thread",
    "msg": "message",
    "run": "run",
    "file": "file",
    "vs": "vector_store",
}
ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL))
ACTIVE = ", ".join(f"'{status}'" for status in sorted(set(TRANSITIONS) - TERMINAL))
NEVER = (
    f"SELECT run.id FROM run JOIN run_step ON run_step.run_id = run.id"
    f" WHERE run.status IN ({ENDED}) AND run_step.status = 'in_progress'",
    f"SELECT run.id FROM run JOIN message ON message.run_id = run.id"
    f" WHERE run.status IN ({ENDED}) AND message.status = 'in_progress'",
    "SELECT id FROM run WHERE (status = 'requires_action') != (required_action IS NOT NULL)",
    f"SELECT thread_id FROM run WHERE status IN ({ACTIVE}) AND NOT held"
    f" GROUP BY thread_id HAVING count(*) > 1",
    "PRAGMA foreign_key_check",
    "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check != 'ok'",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """A database with its log, as a server left them, and what its clients had been told when."""

    database: bytes
    log: bytes
    blobs: Path
    facts: Sequence[Fact]
    perhaps_gone: set[str]
    runs: Sequence[Run]


async def record(cradle: Cradle, folder: Path, chance: random.Random) -> Recording:
    """Let clients work on a new server until it is killed."""
    life = await cradle.start(folder)
    assert isinstance(life, Life), f"it ended with {life}"
    log = folder / "assistants.db-wal"
    history = History(itertools.count(1), lambda: log.stat().st_size)
    async with client_of(life) as http:
        cradle.arm(f"commit.after=kill:{COMMITS}")
        await crowd(http, history, chance)
        assert await cradle.death() == KILLED
    written = log.read_bytes()
    assert int.from_bytes(written[12:16]) == 0, "the log was begun anew: there are too many commits"
    database = (folder / "assistants.db").read_bytes()
    runs = list(history.runs.values())
    blobs = folder / "blobs"
    return Recording(database, written, blobs, history.facts, history.perhaps_gone(), runs)


def cut(recording: Recording, length: int, folder: Path) -> int:
    """Open what a cut of the log leaves; how many of the facts it had to prove."""
    folder.mkdir(exist_ok=True)
    path = folder / "assistants.db"
    path.write_bytes(recording.database)
    path.with_name("assistants.db-wal").write_bytes(recording.log[:length])
    with contextlib.closing(sqlite3.connect(path)) as raw:
        for query in NEVER:
            assert raw.execute(query).fetchall() == [], query
        certain = known_at(recording.facts, length, recording.perhaps_gone)
        for object_id, state in certain.items():
            assert state_of(raw, object_id) in (state, *states_after(state)), (object_id, state)
    return len(certain)


async def revive(cradle: Cradle, recording: Recording, folder: Path) -> int:
    """Have a server go on from a cut: all runs that are there come to an end; how many."""
    shutil.copytree(recording.blobs, folder / "blobs")
    life = await cradle.start(folder)
    assert isinstance(life, Life), f"it ended with {life}"
    history = History(itertools.count(1))
    async with client_of(life) as http:
        for run in recording.runs:
            if (await http.get(run.url)).status_code == 200:
                history.runs[run.url] = Run(run.url, run.order)
        await Witness(http, history).recover()
        assert await cradle.end(life) == 0
    shutil.rmtree(folder)
    return len(history.runs)


def known_at(facts: Sequence[Fact], mark: int, perhaps_gone: set[str]) -> dict[str, str]:
    """What had been told by then. What was deleted later may have gone before that was told."""
    known: dict[str, str] = {}
    for fact in facts:
        if fact.mark <= mark:
            known[fact.id] = fact.state
        elif fact.state == "gone":
            known.pop(fact.id, None)
    return {key: state for key, state in known.items() if key not in perhaps_gone}


def state_of(raw: sqlite3.Connection, object_id: str) -> str:
    """As clients are told of it."""
    table = TABLES[re.split("[_-]", object_id)[0]]
    column = "status" if table == "run" else "'there'"
    row = raw.execute(f"SELECT {column} FROM {table} WHERE id = ?", (object_id,)).fetchone()
    return "gone" if row is None else str(row[0])


def states_after(state: str) -> set[str]:
    """What a run may have come to that was told to be there."""
    return set(TRANSITIONS) if state == "there" else set()
