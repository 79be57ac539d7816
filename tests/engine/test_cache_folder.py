"""Who is forgotten in the folder of all models' saved threads, and how often it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from server.engine import cache_folder
from server.engine.archive import forget_files, owners_in
from server.engine.cache_folder import CacheFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files of three threads and of nobody, for each of two models."""
    for model in ("one", "two"):
        (tmp_path / model).mkdir()
        for owner in ("thread_1", "thread_12", "thread_2", "shared"):
            (tmp_path / model / f"{owner}.0.kv").write_bytes(b"what somebody has said")
    return tmp_path


def files_in(root: Path) -> list[Path]:
    """Of all models."""
    return list(root.glob("*/*"))


async def test_a_thread_is_forgotten_in_all_models(root: Path) -> None:
    """None of them is there to do it; others' files stay, and those of nobody."""
    folder = CacheFolder(root)
    folder.forget("thread_1")
    await folder.close()
    assert owners_in(root) == {"thread_12", "thread_2"}
    assert len(files_in(root)) == 6


async def test_many_that_are_forgotten_together_cost_one_reading(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes while the folder is read is in the next reading, with all who came then."""
    readings: list[set[str]] = []
    loop, folder = asyncio.get_running_loop(), CacheFolder(root)
    began, may_go_on = asyncio.Event(), asyncio.Event()

    def forget_slowly(folders: Iterable[Path], owners: set[str]) -> None:
        readings.append(owners)
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result()
        forget_files(folders, owners)

    monkeypatch.setattr(cache_folder, "forget_files", forget_slowly)
    folder.forget("thread_1")
    await began.wait()
    for owner in ("thread_12", "thread_2"):
        folder.forget(owner)
    may_go_on.set()
    await folder.close()
    assert readings == [{"thread_1"}, {"thread_12", "thread_2"}]
    assert owners_in(root) == set()


async def test_only_those_that_are_known_stay(root: Path) -> None:
    """It is asked once, for all who have files."""
    asked: list[set[str]] = []

    async def known(owners: set[str]) -> set[str]:
        asked.append(owners)
        return {"thread_12"}

    await CacheFolder(root).keep_only(known)
    assert asked == [{"thread_1", "thread_12", "thread_2"}]
    assert owners_in(root) == {"thread_12"}
    assert len(files_in(root)) == 4


async def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """As before anything was saved."""

    async def known(owners: set[str]) -> set[str]:
        return owners

    folder = CacheFolder(tmp_path / "cache")
    await folder.keep_only(known)
    folder.forget("thread_1")
    await folder.close()
    assert not (tmp_path / "cache").exists()
