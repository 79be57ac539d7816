"""Stores that expire: when, what is left of them, and what keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from server import schemas
from server.errors import WireError
from server.vector_stores import rows
from tests.runs.story import granted
from tests.support import LiveServer, ManualClock
from tests.vector_stores.conftest import (
    clean,
    files_in,
    settled,
    text_in_index,
    uploaded,
)

PROJECT = "default"
DAY = 24 * 3600
HELLO = [{"role": "user", "content": "Hello!"}]
DAYS = schemas.StoreExpiry(anchor="last_active_at", days=2)


async def expiring(server: LiveServer, *file_ids: str) -> str:
    """The id of a new store that lasts two days."""
    store = await server.services.db.write(
        lambda tx: rows.create_store(tx, PROJECT, rows.alike(file_ids), expires_after=DAYS)
    )
    return str(store.id)


async def shown(server: LiveServer, store_id: str) -> schemas.VectorStore:
    """The store as clients see it."""

    def look(tx: Any) -> schemas.VectorStore:
        return rows.shown_stores(tx, [rows.require_store(tx, PROJECT, store_id)])[0]

    return await server.services.db.read(look)


async def test_a_store_that_is_not_used_expires(live: LiveServer, clock: ManualClock) -> None:
    """To the second: it has no files any more, and takes none; they stay files elsewhere."""
    (file_id,) = await uploaded(live, "text")
    store = await expiring(live, file_id)
    await settled(live, store)
    searcher, write = live.services.searcher, live.services.db.write
    clock.advance(2 * DAY - 1)
    before = await shown(live, store)
    assert (before.status, before.file_counts.completed) == ("completed", 1)
    clock.advance(1)
    after = await shown(live, store)
    assert (after.status, after.file_counts.total, after.usage_bytes) == ("expired", 0, 0)
    body = schemas.CreateVectorStoreFile(file_id=file_id)
    refusals = [
        searcher.search(PROJECT, [store], ["text"], max_results=5),
        write(lambda tx: rows.add_file(tx, PROJECT, store, body)),
        write(lambda tx: rows.create_batch(tx, PROJECT, store, [body])),
        write(
            lambda tx: rows.modify_store(
                tx,
                rows.require_store(tx, PROJECT, store),
                schemas.ModifyVectorStore(expires_after=None),
            )
        ),
    ]
    for refused in refusals:
        with pytest.raises(WireError, match=f"Vector store with id '{store}' has expired."):
            await refused
    with pytest.raises(WireError, match="No file found"):
        await searcher.content(PROJECT, store, file_id)


async def test_what_has_expired_is_swept_away_for_good(
    live: LiveServer, clock: ManualClock
) -> None:
    """From the rows and from the index; no clock that goes back brings it back."""
    (file_id,) = await uploaded(live, "text")
    store = await expiring(live, file_id)
    await settled(live, store)
    clock.advance(2 * DAY)
    await live.services.ingestor.sweep()
    await clean(live)
    assert await files_in(live, store) == {}
    assert await text_in_index(live, store, file_id) == ""
    clock.advance(-DAY)
    assert (await shown(live, store)).status == "expired"
    renamed = schemas.ModifyVectorStore(name="old", metadata={"a": "b"})
    await live.services.db.write(
        lambda tx: rows.modify_store(tx, rows.require_store(tx, PROJECT, store), renamed)
    )
    assert (await shown(live, store)).name == "old"


async def test_a_search_keeps_a_store(live: LiveServer, clock: ManualClock) -> None:
    """So many days more, from then on; one without an expiry shows when it was used, too."""
    (file_id,) = await uploaded(live, "text")
    store = await expiring(live, file_id)
    other = await live.services.db.write(lambda tx: rows.create_store(tx, PROJECT))
    await settled(live, store)
    clock.advance(DAY)
    search = live.services.searcher.search
    assert len(await search(PROJECT, [store, other.id], ["text"], max_results=5)) == 1
    kept, endless = await shown(live, store), await shown(live, other.id)
    assert (kept.last_active_at, kept.expires_at) == (clock.now(), clock.now() + 2 * DAY)
    assert (endless.last_active_at, endless.expires_at) == (clock.now(), None)


async def test_a_run_that_can_search_it_keeps_a_store(live: LiveServer, clock: ManualClock) -> None:
    """From its creation on, whether it then searches or not; the assistant's and the thread's."""
    store, own, other = [await expiring(live) for _ in range(3)]
    tool = {"type": "file_search"}

    async def run_on(tools: list[Any]) -> None:
        body = {
            "assistant_id": assistant["id"],
            "thread": {"tool_resources": naming(own), "messages": HELLO},
            "tools": tools,
        }
        granted(await http.post("/v1/threads/runs", json=body))

    async with live.http() as http:
        body = {"model": "gpt-4o", "tools": [tool], "tool_resources": naming(store)}
        assistant = granted(await http.post("/v1/assistants", json=body))
        clock.advance(DAY)
        await run_on([{"type": "function", "function": {"name": "f"}}])
        assert (await shown(live, store)).last_active_at == clock.now() - DAY
        await run_on([tool])
    for each in (store, own):
        used = await shown(live, each)
        assert (used.last_active_at, used.expires_at) == (clock.now(), clock.now() + 2 * DAY)
    assert (await shown(live, other)).last_active_at == clock.now() - DAY


def naming(store_id: str) -> Any:
    """The resources of what may search in a store."""
    return {"file_search": {"vector_store_ids": [store_id]}}


async def test_an_expiry_can_be_set_and_taken_away(live: LiveServer, clock: ManualClock) -> None:
    """To set one counts as use, so that it never ends a store on the spot."""
    store = await live.services.db.write(lambda tx: rows.create_store(tx, PROJECT))
    clock.advance(100 * DAY)
    for given, wanted in ((DAYS, clock.now() + 2 * DAY), (None, None)):
        body = schemas.ModifyVectorStore(expires_after=given)
        await live.services.db.write(
            lambda tx, body=body: rows.modify_store(
                tx, rows.require_store(tx, PROJECT, store.id), body
            )
        )
        assert (await shown(live, store.id)).expires_at == wanted


async def test_files_that_have_expired_are_not_found(live: LiveServer, clock: ManualClock) -> None:
    """From that second on, though nobody has swept them away yet."""
    async with live.services.files.receive() as sent:
        await sent.write(b"text")
        file = await live.services.files.add(PROJECT, sent, "a.txt", "assistants", 3600)
    store = await live.services.db.write(
        lambda tx: rows.create_store(tx, PROJECT, rows.alike([file.id]))
    )
    await settled(live, store.id)
    search = live.services.searcher.search
    assert len(await search(PROJECT, [store.id], ["text"], max_results=5)) == 1
    clock.advance(3600)
    assert await search(PROJECT, [store.id], ["text"], max_results=5) == []
    await live.services.files.sweep()
    assert await settled(live, store.id) == {}


async def test_files_that_have_expired_are_not_shown(live: LiveServer, clock: ManualClock) -> None:
    """Nor counted, in their store and in their batch; what else is there is."""
    async with live.services.files.receive() as sent:
        await sent.write(b"text")
        expiring = await live.services.files.add(PROJECT, sent, "a.txt", "assistants", 3600)
    (kept,) = await uploaded(live, "more text")
    async with live.http() as http:
        store = granted(await http.post("/v1/vector_stores", json={}))["id"]
        url = f"/v1/vector_stores/{store}"
        body = {"file_ids": [expiring.id, kept]}
        batch = granted(await http.post(f"{url}/file_batches", json=body))["id"]
        await settled(live, store)
        whole = granted(await http.get(url))
        clock.advance(3600)
        for place in (expiring.id, f"{expiring.id}/content"):
            assert (await http.get(f"{url}/files/{place}")).status_code == 404
        one = granted(await http.get(f"{url}/files/{kept}"))
        for place in ("files", f"file_batches/{batch}/files"):
            assert granted(await http.get(f"{url}/{place}"))["data"] == [one]
        shown = granted(await http.get(url))
        assert shown["file_counts"] == whole["file_counts"] | {"completed": 1, "total": 1}
        assert shown["usage_bytes"] == one["usage_bytes"] < whole["usage_bytes"]
        counts = granted(await http.get(f"{url}/file_batches/{batch}"))["file_counts"]
        assert counts == shown["file_counts"]
        await live.services.files.sweep()
        assert granted(await http.get(url)) == shown
