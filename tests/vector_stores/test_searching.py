"""What is found, where rows and indexes are not in step."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from server.db.database import Tx
from server.search.index import Indexes
from server.vector_stores import rows, upkeep
from server.vector_stores.upkeep import Upkeep
from tests.support import LiveServer
from tests.vector_stores.conftest import clean, settled, store_of, store_with, uploaded

PROJECT = "default"


async def test_what_has_left_a_store_takes_no_places(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that has not left the index yet is no reason to find less than was asked for."""

    async def nothing(*_: object) -> bool:
        return False

    store = await store_of(live, "red apples", "green apples", "apples", "pears")
    left = set(await settled(live, store))
    monkeypatch.setattr(Upkeep, "remove_some", nothing)
    search, write = live.services.searcher.search, live.services.db.write
    while left:
        [best] = await search(PROJECT, [store], ["red apples"], max_results=1)
        assert best.file_id in left
        left.discard(best.file_id)
        await write(lambda tx, gone=best.file_id: rows.remove_file(tx, PROJECT, store, gone))
        found = await search(PROJECT, [store], ["red apples"], max_results=3)
        assert {each.file_id for each in found} == left


async def test_a_file_in_two_stores_is_found_in_each(live: LiveServer) -> None:
    """As the hosted service found it; where it has left one of them, once."""
    [file] = await uploaded(live, "apples of a kind")
    stores = [await store_with(live, file) for _ in range(2)]
    for store in stores:
        await settled(live, store)
    search = live.services.searcher.search
    found = await search(PROJECT, stores, ["apples of a kind"], max_results=5)
    assert [each.file_id for each in found] == [file, file]
    await live.services.db.write(lambda tx: rows.remove_file(tx, PROJECT, stores[0], file))
    found = await search(PROJECT, stores, ["apples of a kind"], max_results=5)
    assert [each.file_id for each in found] == [file]


async def test_an_index_that_cannot_be_cleared_keeps_no_other(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its files are to leave it, and were so before."""
    monkeypatch.setattr(upkeep, "REMOVALS_AT_ONCE", 2)
    broken = await store_of(live, "a", "b", "c")
    whole = await store_of(live, "d", "e")
    kept = await settled(live, broken)
    left = await settled(live, whole)
    remove, removed = Indexes.remove, asyncio.Event()

    async def some(indexes: Indexes, store_id: str, file_ids: Collection[str]) -> None:
        if store_id == broken:
            raise OSError("no")
        await remove(indexes, store_id, file_ids)
        left.pop(*file_ids)
        if not left:
            removed.set()

    monkeypatch.setattr(Indexes, "remove", some)

    def leave(tx: Tx) -> None:
        for store, files in ((broken, kept), (whole, left)):
            for file_id in files:
                rows.remove_file(tx, PROJECT, store, file_id)

    await live.services.db.write(leave)
    await asyncio.wait_for(removed.wait(), 10)
    monkeypatch.setattr(Indexes, "remove", remove)
    await live.services.ingestor.sweep()
    await clean(live)
