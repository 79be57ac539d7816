"""What was acknowledged is there after a crash, whenever it comes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from server.clock import SystemClock
from server.db.database import Database
from server.ids import RandomIds
from tests.db import rows

KILLS = 20
CUTS = 50


def messages_in(path: Path) -> list[str]:
    """All ids in the order of their rows, out of a file that SQLite finds whole."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        return [row[0] for row in raw.execute("SELECT id FROM message ORDER BY seq")]


@contextlib.contextmanager
def process_on(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that writes to the file and is killed, again and again."""
    command = [sys.executable, "-m", "tests.db.acknowledge", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_killed_while_writing(path: Path) -> None:
    """Killed twenty times before and after commits: every acknowledged row is there."""
    chance = random.Random(7)
    acknowledged: set[str] = set()
    with process_on(path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for kill in range(KILLS):
            point = ("commit.before", "commit.after")[kill % 2]
            process.stdin.write(f"{point} {chance.randint(2, 60)}\n")
            acknowledged.update(iter(process.stdout.readline, "dead\n"))
            found = messages_in(path)
            assert {line.strip() for line in acknowledged} <= set(found)
    assert len(acknowledged) > KILLS


async def write_messages(db: Database, number: int) -> list[str]:
    """Messages in one thread, one commit each."""
    thread = await db.write(rows.thread)
    return [(await db.write(lambda tx: rows.message(tx, thread.id))).id for _ in range(number)]


def test_log_cut_anywhere(path: Path, tmp_path: Path) -> None:
    """However much of the write-ahead log reached the disk: a prefix of the rows, never a gap."""
    db = Database(path, SystemClock(), RandomIds())
    written = asyncio.run(write_messages(db, 40))
    log, unfolded = path.with_name(path.name + "-wal").read_bytes(), path.read_bytes()
    db.close()

    chance, lengths = random.Random(7), set[int]()
    for number in range(CUTS):
        cut = tmp_path / str(number) / path.name
        cut.parent.mkdir()
        cut.write_bytes(unfolded)
        cut.with_name(cut.name + "-wal").write_bytes(log[: chance.randint(0, len(log))])
        found = messages_in(cut)
        assert found == written[: len(found)]
        lengths.add(len(found))
        shutil.rmtree(cut.parent)
    assert len(lengths) > CUTS / 4, "the cuts fell in many places"
