"""What is found, where rows and indexes are not in step."""

from __future__ import annotations

import pytest

from server.vector_stores import rows
from server.vector_stores.upkeep import Upkeep
from tests.support import LiveServer
from tests.vector_stores.conftest import settled, store_of

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
