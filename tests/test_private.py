"""What a server keeps is closed to other users of its machine, whatever the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.backup import back_up, restore
from server.db.connection import copy_database
from tests.support import live_server

NOW = 1_800_000_000
OTHERS = 0o077


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Whatever does not say who may read it can be read, and written, by everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(path: Path) -> set[Path]:
    """What in a folder they can get at, the folder itself included."""
    if not path.stat().st_mode & OTHERS:
        return set()
    within = path.iterdir() if path.is_dir() else ()
    return {path}.union(*map(open_to_others, within))


async def fill(folder: Path) -> None:
    """Have a server keep a file, and what is found in it, there; it still runs when we look."""
    async with live_server(folder, search__embedding_model="ngrams") as server, server.sdk() as sdk:
        store = await sdk.vector_stores.create()
        told = ("a.txt", b"Everything is in one folder.")
        done = await sdk.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=told, poll_interval_ms=10
        )
        assert done.status == "completed"
        for name in ("assistants.db", "assistants.db-wal", "assistants.db-shm", "server.lock"):
            assert (folder / name).stat().st_mode & OTHERS == 0
        assert open_to_others(folder) <= {folder}
    assert (folder / "blobs").is_dir()
    assert (folder / "indexes").is_dir()


async def test_a_folder_that_the_server_makes(tmp_path: Path) -> None:
    """Only its own user can enter it."""
    await fill(tmp_path / "data")
    assert open_to_others(tmp_path / "data") == set()


async def test_a_folder_that_was_there(tmp_path: Path) -> None:
    """It stays as somebody has wanted it; what comes into it is closed all the same."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    await fill(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert open_to_others(folder) == {folder}


async def test_a_folder_that_an_earlier_version_has_left_open(tmp_path: Path) -> None:
    """Its database, files and indexes are closed when a server starts on it."""
    folder = tmp_path / "data"
    await fill(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    await fill(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert open_to_others(folder) == {folder}


@pytest.mark.parametrize("linked", [True, False])
async def test_a_folder_that_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """As one that a server has made, also where files cannot be shared by links."""
    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    await fill(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "copy", NOW)
    restore(tmp_path / "copy", tmp_path / "new")
    (tmp_path / "there").mkdir(mode=0o755)
    restore(tmp_path / "copy", tmp_path / "there")
    assert open_to_others(tmp_path / "copy") == open_to_others(tmp_path / "new") == set()
    assert open_to_others(tmp_path / "there") == {tmp_path / "there"}
    await fill(tmp_path / "there")


def refuse(*_: object) -> None:
    """As a file system without links."""
    raise OSError


async def test_a_copy_before_a_migration(tmp_path: Path) -> None:
    """It is as closed as the database."""
    await fill(tmp_path / "data")
    copy_database(tmp_path / "data" / "assistants.db", tmp_path / "assistants.db.0001.bak")
    assert open_to_others(tmp_path / "assistants.db.0001.bak") == set()
