"""Indexes whose process dies, whose disk is full, and whose files are not what was written."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from server import failpoints
from server.files.blobs import StorageFull
from server.search import store as store_module
from tests.process import ROOT, environment
from tests.search.fakes import WordEmbedder, embedded_again, found, lines, opened, put_lines, search
from tests.search.writer import STORE, WRITES, after

FRUIT = "apples are red\nbananas are yellow\n"
DEATHS = [
    *(
        (f"index.{point}", passage)
        for point in ("vectors.before", "vectors.after")
        for passage in (1, 3, 4)
    ),
    *(
        (f"index.commit.{when}", passage)
        for when in ("before", "after")
        for passage in (1, 2, 4, 5, 8)
    ),
    *(("index.compacted", passage) for passage in (1, 2)),
]


@pytest.mark.parametrize(("point", "passage"), DEATHS)
async def test_a_death_leaves_a_write_whole_or_undone(
    tmp_path: Path, point: str, passage: int
) -> None:
    """What was told to be done is there; of the write that was under way, all or nothing."""
    command = [
        sys.executable,
        "-m",
        "tests.search.writer",
        str(tmp_path),
        f"{point}=kill:{passage}",
    ]
    ended = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = len(ended.stdout.splitlines())
    assert done < len(WRITES)
    embedder, lost = WordEmbedder(), list[str]()
    async with opened(tmp_path, embedder, lost.append) as indexes:
        held = {name: await indexes.chunks_of(STORE, name) for name in "abc"}
        held = {name: chunks for name, chunks in held.items() if chunks}
        assert held in (after(done), after(done + 1))
        hits = await indexes.search([STORE], ["apples"], limit=99, ranker="none")
        assert sorted(hit.text for hit in hits) == sorted(chain(*held.values()))
        text = "figs\n"
        await indexes.put(STORE, "d", text, lines(text))
        assert await found(indexes, "figs", limit=1) == [text]
        assert embedder.embedded[-1] == text
    assert lost == []


@pytest.fixture
def fails_at() -> Iterator[Callable[[str, Exception], None]]:
    """Have a failpoint raise an error."""
    armed: list[str] = []

    def arm(name: str, error: Exception) -> None:
        def fail() -> None:
            raise error

        armed.append(name)
        failpoints.arm(name, fail)

    yield arm
    for name in armed:
        failpoints.disarm(name)


@pytest.mark.parametrize("point", ["index.vectors.before", "index.commit.before"])
async def test_a_full_disk_changes_nothing(
    tmp_path: Path, fails_at: Callable[[str, Exception], None], point: str
) -> None:
    """It is told as such, what was there is found, and when there is room again it goes on."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        before = await search(indexes, "bananas")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fails_at(point, full if "vectors" in point else StorageFull("database or disk is full"))
        with pytest.raises(StorageFull):
            await put_lines(indexes, "vs", fruit="cherries\n", towns="Bern\n")
        assert await search(indexes, "bananas") == before
        failpoints.disarm(point)
        await put_lines(indexes, "vs", towns="Bern\n")
        assert (await found(indexes, "Bern"))[0] == "Bern\n"
    async with opened(tmp_path) as indexes:
        assert await indexes.chunks_of("vs", "fruit") == FRUIT.splitlines(keepends=True)


async def test_a_database_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own word for it is understood."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        index = await indexes._open["vs"].opening
        index._passages._writer.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StorageFull):
            await put_lines(indexes, "vs", more="\n".join(f"line {n}" * 50 for n in range(400)))
        assert await indexes.missing("vs", ["more", "fruit"]) == {"more"}
        index._passages._writer.execute("PRAGMA max_page_count = 1000000")
        await put_lines(indexes, "vs", more="Bern\n")


async def test_no_room_to_copy_rows_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: Callable[[str, Exception], None]
) -> None:
    """What was to be removed is removed, and nothing is left of the attempt."""
    monkeypatch.setattr(store_module, "FEWEST_UNUSED", 1)
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT, towns="Bern\n")
        fails_at("index.vectors.before", OSError(errno.ENOSPC, "full"))
        await indexes.remove("vs", ["fruit"])
        assert await found(indexes, "Bern") == ["Bern\n"]
        assert [path.name for path in (tmp_path / "vs").glob("vectors.*")] == ["vectors.1.f32"]
        failpoints.disarm("index.vectors.before")
        await indexes.remove("vs", ["unknown"])
        assert [path.name for path in (tmp_path / "vs").glob("vectors.*")] == ["vectors.2.f32"]
        assert await found(indexes, "Bern", ranker="none") == ["Bern\n"]


def spoil(path: Path, how: str) -> None:
    """Do something to a file that nobody has open."""
    match how:
        case "garbage":
            path.write_bytes(b"\x5a" * path.stat().st_size)
        case "end":
            data = path.read_bytes()
            path.write_bytes(data[:4096] + b"\x5a" * (len(data) - 4096))
        case "empty":
            path.write_bytes(b"")
        case "short":
            path.write_bytes(path.read_bytes()[:-100])
        case "gone":
            path.unlink()
        case "bit":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "foreign":
            path.unlink()
            with closing(sqlite3.connect(path)) as other:
                other.execute("CREATE TABLE file (number)")


@pytest.mark.parametrize("how", ["garbage", "end", "empty", "gone", "foreign"])
async def test_a_database_that_cannot_be_read_is_begun_anew(tmp_path: Path, how: str) -> None:
    """All files of the store are missing then; put again, they are found."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        await put_lines(indexes, "other", fruit=FRUIT)
    spoil(tmp_path / "vs" / "passages.db", how)
    lost: list[str] = []
    async with opened(tmp_path, lost=lost.append) as indexes:
        assert await found(indexes, "bananas") == []
        assert await indexes.missing("vs", ["fruit"]) == {"fruit"}
        assert lost == ([] if how in ("empty", "gone") else ["vs"])
        await put_lines(indexes, "vs", fruit=FRUIT)
        assert (await found(indexes, "bananas"))[0] == "bananas are yellow\n"
        assert await indexes.missing("other", ["fruit"]) == set()


async def test_a_database_that_breaks_while_it_is_open_is_begun_anew(tmp_path: Path) -> None:
    """Whoever searches finds nothing there, and who puts can go on."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        await put_lines(indexes, "other", fruit=FRUIT)
    lost: list[str] = []
    async with opened(tmp_path, lost=lost.append) as indexes:
        assert await indexes.missing("vs", ["fruit"]) == set()
        spoil(tmp_path / "vs" / "passages.db", "end")
        hits = await indexes.search(["vs", "other"], ["bananas"], limit=9)
        assert {hit.store_id for hit in hits} == {"other"}
        assert lost == ["vs"]
        await put_lines(indexes, "vs", fruit=FRUIT)
        assert (await found(indexes, "bananas"))[0] == "bananas are yellow\n"


@pytest.mark.parametrize("how", ["garbage", "empty", "short", "gone", "bit"])
async def test_vectors_that_are_not_what_was_written_are_made_again(
    tmp_path: Path, how: str
) -> None:
    """Those of the files that it concerns, out of the texts."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT, towns="Bern\nOslo\nRome\n")
        before = await search(indexes, "yellow bananas", ranker="none")
    spoil(tmp_path / "vs" / "vectors.1.f32", how)
    embedder, lost = WordEmbedder(), list[str]()
    async with opened(tmp_path, embedder, lost.append) as indexes:
        assert await indexes.missing("vs", ["fruit", "towns"]) == set()
        await embedded_again(indexes)
        assert await search(indexes, "yellow bananas", ranker="none") == before
    assert "Oslo\n" in embedder.embedded
    assert ("apples are red\n" in embedder.embedded) == (how not in ("short", "bit"))
    assert lost == []


async def test_what_a_crash_has_left_is_removed(tmp_path: Path) -> None:
    """Rows that no commit names, a matrix that none does."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
    matrix = tmp_path / "vs" / "vectors.1.f32"
    size = matrix.stat().st_size
    with matrix.open("ab") as file:
        file.write(b"x" * 1000)
    (tmp_path / "vs" / "vectors.2.f32").write_bytes(b"x" * 1000)
    async with opened(tmp_path) as indexes:
        assert await indexes.missing("vs", ["fruit"]) == set()
        assert matrix.stat().st_size == size
        assert [*(tmp_path / "vs").glob("vectors.*")] == [matrix]


async def test_an_index_is_for_nobody_else(tmp_path: Path) -> None:
    """Other users of the machine cannot read what was in files."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        modes = [
            path.stat().st_mode & 0o077 for path in (tmp_path / "vs", *(tmp_path / "vs").iterdir())
        ]
        assert set(modes) == {0}
        assert len(modes) >= 3
