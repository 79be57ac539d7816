"""Copies of a data folder: what is in them, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from server import backup
from server.backup import NoBackup, back_up, restore
from server.db.folder import DataFolder, FolderInUse
from server.db.migrate import WrongVersion
from tests.files.conftest import digests_on_disk
from tests.support import live_server

TEXTS = [b"the first", b"the second", b"the third"]
NOW = 1_800_000_000


async def upload(folder: Path, *texts: bytes) -> list[str]:
    """A server has these files; their ids."""
    async with live_server(folder) as server, server.sdk() as client:
        return [
            (await client.files.create(file=("a.txt", text), purpose="vision")).id for text in texts
        ]


async def contents(folder: Path, file_ids: list[str]) -> list[bytes]:
    """What a server on this folder gives for them."""
    async with live_server(folder) as server, server.sdk() as client:
        return [(await client.files.content(file_id)).content for file_id in file_ids]


def names_in(folder: Path) -> list[str]:
    """All that lies there, also what is hidden."""
    return sorted(path.name for path in folder.iterdir())


def dump(folder: Path) -> list[str]:
    """All that a database says."""
    with closing(sqlite3.connect(folder / "assistants.db")) as raw:
        return list(raw.iterdump())


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder with some files."""
    await upload(tmp_path / "data", *TEXTS)
    return tmp_path / "data"


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    back_up(data, tmp_path / "copy", NOW)
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["folder", "what? 100%#ä&b=c"])
async def test_there_and_back(tmp_path: Path, name: str) -> None:
    """All is as it was; blobs are shared, not copied; only their owner can read them.

    Whatever the folders are called.
    """
    tmp_path = tmp_path / name
    tmp_path.mkdir()
    data, copy, other = tmp_path / "data", tmp_path / "copy", tmp_path / "new" / "data"
    file_ids = await upload(data, *TEXTS, TEXTS[0])
    about = back_up(data, copy, NOW)
    assert (about.blobs, about.bytes) == (len(TEXTS), sum(map(len, TEXTS)))
    assert json.loads((copy / "backup.json").read_text())["taken_at"] == NOW
    assert copy.stat().st_mode & 0o077 == 0
    (other / "models").mkdir(parents=True)
    assert restore(copy, other) == about
    assert dump(other) == dump(copy) == dump(data)
    assert {path.stat().st_nlink for path in (data / "blobs").glob("??/*")} == {3}
    assert await contents(other, file_ids) == [*TEXTS, TEXTS[0]]
    assert names_in(tmp_path) == ["copy", "data", "new"]


async def test_other_file_system(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there can be no links, blobs are copied."""

    def no_link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    back_up(data, tmp_path / "copy", NOW)
    restore(tmp_path / "copy", tmp_path / "new")
    assert digests_on_disk(tmp_path / "new") == digests_on_disk(data)
    assert {path.stat().st_nlink for path in (data / "blobs").glob("??/*")} == {1}


@pytest.mark.parametrize("deletions", [1, 3])
async def test_deleted_meanwhile(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    """A file that goes between the database's copy and its own is in neither."""
    left = deletions
    share = backup._share

    def deleting(source: Path, folder: Path, digest: str) -> bool:
        nonlocal left
        if left:
            left -= 1
            with closing(sqlite3.connect(source / "assistants.db")) as raw, raw:
                raw.execute("DELETE FROM file WHERE sha256 = ?", (digest,))
            backup.path_of(source / "blobs", digest).unlink()
        return share(source, folder, digest)

    monkeypatch.setattr(backup, "_share", deleting)
    about = back_up(data, tmp_path / "copy", NOW)
    assert about.blobs == len(TEXTS) - deletions
    assert digests_on_disk(tmp_path / "copy") == digests_on_disk(data)
    restore(tmp_path / "copy", tmp_path / "new")


async def test_deleted_after_it_was_copied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier attempt had copied, and no row names any more, is not kept."""
    attempts: list[str] = []
    share = backup._share

    def deleting(source: Path, folder: Path, digest: str) -> bool:
        if attempts and len(attempts) < len(TEXTS):
            with closing(sqlite3.connect(source / "assistants.db")) as raw, raw:
                raw.execute("DELETE FROM file WHERE sha256 = ?", (attempts[0],))
            attempts.extend([digest] * len(TEXTS))
            return False
        attempts.append(digest)
        return share(source, folder, digest)

    monkeypatch.setattr(backup, "_share", deleting)
    about = back_up(data, tmp_path / "copy", NOW)
    assert about.blobs == len(digests_on_disk(tmp_path / "copy")) == len(TEXTS) - 1
    assert attempts[0] not in digests_on_disk(tmp_path / "copy")


async def test_bytes_that_are_lost(data: Path, tmp_path: Path) -> None:
    """A folder whose files have lost their bytes is not copied as if it were whole."""
    lost = min(digests_on_disk(data))
    backup.path_of(data / "blobs", lost).unlink()
    with pytest.raises(NoBackup, match=lost):
        back_up(data, tmp_path / "copy", NOW)
    assert names_in(tmp_path) == ["data"]


def test_nothing_to_copy(tmp_path: Path) -> None:
    """Without a database there is nothing."""
    with pytest.raises(NoBackup, match="no database"):
        back_up(tmp_path, tmp_path / "copy", NOW)


def test_target_that_is_there(data: Path, tmp_path: Path) -> None:
    """An earlier backup is never written over."""
    (tmp_path / "copy").mkdir()
    with pytest.raises(NoBackup, match="is there already"):
        back_up(data, tmp_path / "copy", NOW)


def spoil_database(copy: Path) -> str:
    """Some bytes of it are others now."""
    with (copy / "assistants.db").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"these are other bytes")
    return "database .* damaged"


def spoil_database_and_checksum(copy: Path) -> str:
    """As somebody does who edits a backup."""
    with closing(sqlite3.connect(copy / "assistants.db")) as raw, raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("INSERT INTO upload_part VALUES (1, 'part_1', 'upload_9', 1, 1, 'no digest')")
    rewrite(copy, database=backup._digest(copy / "assistants.db"))
    return "damaged"


def spoil_blob(copy: Path) -> str:
    """A byte of a file is another one now."""
    path = next((copy / "blobs").glob("??/*"))
    content = path.read_bytes()
    path.unlink()  # it is shared with the data folder
    path.write_bytes(content[:-1] + b"?")
    return path.name


def lose_blob(copy: Path) -> str:
    """A file is gone."""
    path = next((copy / "blobs").glob("??/*"))
    path.unlink()
    return path.name


def lose_description(copy: Path) -> str:
    """It is just some folder."""
    (copy / "backup.json").unlink()
    return "is no backup"


def spoil_description(copy: Path) -> str:
    """It says nothing of itself that makes sense."""
    (copy / "backup.json").write_text("{")
    return "is no backup"


def come_from_the_future(copy: Path) -> str:
    """It has a form that is not known."""
    rewrite(copy, form=2)
    return "cannot read"


def rewrite(copy: Path, **changes: object) -> None:
    """Let the backup say something else of itself."""
    about = json.loads((copy / "backup.json").read_text())
    (copy / "backup.json").write_text(json.dumps({**about, **changes}))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_database,
        spoil_database_and_checksum,
        spoil_blob,
        lose_blob,
        lose_description,
        spoil_description,
        come_from_the_future,
    ],
)
def test_backup_with_a_fault(copy: Path, tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    """Nothing of it is put back, and a whole one still can be."""
    shutil.copytree(copy, tmp_path / "whole")
    named = spoil(copy)
    with pytest.raises(NoBackup, match=named):
        restore(copy, tmp_path / "new")
    assert not (tmp_path / "new" / "assistants.db").exists()
    restore(tmp_path / "whole", tmp_path / "new")


def test_backup_of_a_later_server(copy: Path, tmp_path: Path) -> None:
    """A schema that this server does not know is refused before anything is put back."""
    with closing(sqlite3.connect(copy / "assistants.db")) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    rewrite(copy, database=backup._digest(copy / "assistants.db"))
    with pytest.raises(WrongVersion, match="0999"):
        restore(copy, tmp_path / "new")
    assert not (tmp_path / "new" / "assistants.db").exists()


def test_folder_that_is_not_empty(data: Path, copy: Path) -> None:
    """What is there is left alone."""
    before = dump(data)
    with pytest.raises(NoBackup, match="is not empty"):
        restore(copy, data)
    assert dump(data) == before


def test_folder_of_a_server(copy: Path, tmp_path: Path) -> None:
    """A server that is just about to begin keeps its folder."""
    folder = DataFolder(tmp_path / "new")
    with pytest.raises(FolderInUse):
        restore(copy, tmp_path / "new")
    folder.close()
    restore(copy, tmp_path / "new")
