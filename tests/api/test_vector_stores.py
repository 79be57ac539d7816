"""Vector stores, their files and batches, from their creation to their deletion, and searches."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from server import schemas
from server.vector_stores import rows
from tests.api.wire import (
    A_FILE,
    ANOTHER_FILE,
    BATCHES,
    SEARCH,
    SMALLEST,
    STORE,
    STORE_FILE,
    STORE_FILES,
    STORES,
    Json,
    World,
    answer_of,
    error_of,
    refused,
)
from tests.covering import covers, routes
from tests.support import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

OF_STORES = [route for route, _ in routes() if "{vector_store_id}" in route]
DEFAULT_CHUNKS = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}
NOTHING = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}
GET_STORE = "GET /v1/vector_stores/{vector_store_id}"
GET_FILE = "GET /v1/vector_stores/{vector_store_id}/files/{file_id}"
GET_FILES = "GET /v1/vector_stores/{vector_store_id}/files"
GET_CONTENT = "GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content"
ADD_BATCH = "POST /v1/vector_stores/{vector_store_id}/file_batches"
GET_BATCH = "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}"
GET_BATCH_FILES = "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files"
DELETE_STORE = "DELETE /v1/vector_stores/{vector_store_id}"
DELETE_FILE = "DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}"
CANCEL = "POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel"


async def new_store(world: World, **body: Any) -> str:
    """The URL of a new store."""
    return f"/v1/vector_stores/{(await world.create('/v1/vector_stores', body))['id']}"


async def uploaded(world: World, content: bytes, filename: str = "a.txt") -> str:
    """The id of a new file."""
    files = {"file": (filename, content)}
    answer = await world.http.post("/v1/files", files=files, data={"purpose": "assistants"})
    return str(answer_of(answer)["id"])


async def ready(world: World, store: str) -> Json:
    """The store when all of its files have been taken in."""

    async def read() -> Json:
        shown: Json = answer_of(await world.http.get(store))
        return shown

    found: Json = await eventually(read, lambda shown: shown["status"] == "completed")
    return found


async def filled(world: World, **texts: str) -> tuple[str, dict[str, str]]:
    """The URL of a new store with these texts, and the ids of their files by name."""
    ids = {
        name: await uploaded(world, text.encode(), f"{name}.txt") for name, text in texts.items()
    }
    store = await new_store(world, file_ids=list(ids.values()))
    await ready(world, store)
    return store, ids


def named(path: str, route: str) -> list[Any]:
    """Marks that a route is shown to be refused for each id in it."""
    names = ("vector_store_id", "file_id", "batch_id")
    return [covers(route, name, "error") for name in names if f"{{{name}}}" in path]


@covers(STORES, "answer", "taken")
@covers(STORES, "file_ids name description expires_after metadata", "default")
async def test_a_store_can_be_made_of_nothing(world: World) -> None:
    """It is completed at once; its name is a string."""
    for sent in ({"content": b""}, {"json": {}}):
        made = answer_of(await world.http.post("/v1/vector_stores", **sent))
        assert int(made["id"][3:11], 16) == made["created_at"]
        assert made == {
            "id": made["id"],
            "object": "vector_store",
            "created_at": made["created_at"],
            "name": "",
            "description": None,
            "usage_bytes": 0,
            "file_counts": NOTHING,
            "status": "completed",
            "expires_after": None,
            "expires_at": None,
            "last_active_at": made["created_at"],
            "metadata": {},
        }


@covers(STORES, "file_ids chunking_strategy", "taken", "default", "error")
async def test_a_store_begins_with_its_files(world: World) -> None:
    """In progress until they are taken in, all cut in the same way; a repeated id counts once."""
    static = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }
    for given, shown in (({}, DEFAULT_CHUNKS), ({"chunking_strategy": static}, static)):
        body = {"file_ids": [A_FILE, ANOTHER_FILE, A_FILE], **given}
        made = await world.create("/v1/vector_stores", body)
        assert made["status"] == "in_progress"
        assert made["file_counts"] == {**NOTHING, "in_progress": 2, "total": 2}
        url = f"/v1/vector_stores/{made['id']}"
        done = await ready(world, url)
        assert done["file_counts"] == {**NOTHING, "completed": 2, "total": 2}
        files = answer_of(await world.http.get(f"{url}/files"))["data"]
        assert [each["chunking_strategy"] for each in files] == [shown, shown]
        assert [each["id"] for each in files] == [world.other_file_id, world.file_id]
        assert done["usage_bytes"] == sum(each["usage_bytes"] for each in files) > 0


@covers(STORES, "expires_after", "taken")
@covers("StoreExpiry", "days", "taken")
async def test_an_expiry_counts_from_the_last_use(world: World) -> None:
    """In days."""
    made = await world.create(
        "/v1/vector_stores", {"expires_after": {"anchor": "last_active_at", "days": 3}}
    )
    assert made["expires_at"] == made["last_active_at"] + 3 * 24 * 3600
    answer = await world.http.post(
        "/v1/vector_stores", json={"expires_after": {"anchor": "created_at", "days": 3}}
    )
    message = "Invalid value: 'created_at'. Supported values are: 'last_active_at'."
    refused(answer, message, "expires_after.anchor", "invalid_value")


@covers(GET_STORE, "answer vector_store_id", "taken")
@covers(STORE, "answer vector_store_id name expires_after metadata", "taken", "default")
async def test_a_modification_changes_what_it_names(world: World) -> None:
    """Metadata as a whole; null gives back the default."""
    url = await new_store(world, name="a", description="b", metadata={"c": "d"})
    before = answer_of(await world.http.get(url))
    assert answer_of(await world.http.post(url, json={})) == before
    week = {"anchor": "last_active_at", "days": 7}
    for sent, wanted in (
        ({"name": "n"}, {"name": "n"}),
        ({"metadata": {"e": "f"}}, {"metadata": {"e": "f"}}),
        ({"expires_after": week}, {"expires_after": week}),
        ({"name": None, "metadata": None}, {"name": "", "metadata": {}}),
        ({"expires_after": None}, {"expires_after": None, "expires_at": None}),
    ):
        changed = answer_of(await world.http.post(url, json=sent))
        assert {key: changed[key] for key in wanted} == wanted
    assert answer_of(await world.http.get(url)) == changed
    assert changed["description"] == "b"


@covers(DELETE_STORE, "answer vector_store_id", "taken")
async def test_a_deleted_store_is_gone_and_its_files_are_not(world: World) -> None:
    """With all that is under its URL."""
    url = await new_store(world, file_ids=[A_FILE])
    store_id = url.rpartition("/")[2]
    deleted = {"id": store_id, "object": "vector_store.deleted", "deleted": True}
    assert answer_of(await world.http.delete(url)) == deleted
    message = f"Vector store with id '{store_id}' not found."
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/files"), ("POST", "")):
        body = {} if method == "POST" else None
        answer = await world.http.request(method, f"{url}{path}", json=body)
        refused(answer, message, None, None, 404)
    answer_of(await world.http.get(f"/v1/files/{world.file_id}"))


@pytest.mark.parametrize(
    "route", [pytest.param(route, marks=named(route, route)) for route in OF_STORES]
)
async def test_what_is_not_there_is_not_found(spare: World, route: str) -> None:
    """Each id of a path in turn; what another project has is as unknown as what nobody has."""
    method, _, path = route.partition(" ")
    body = spare.own(SMALLEST.get(route, {})) if method == "POST" else None
    foreign = await spare.server.services.db.write(lambda tx: rows.create_store(tx, "other"))
    for store_id in ("vs_none", foreign.id):
        url = spare.url(route).replace(spare.vector_store_id, store_id)
        message = f"Vector store with id '{store_id}' not found."
        refused(await spare.http.request(method, url, json=body), message, None, None, 404)
    inner = {"file_id": "file", "batch_id": "file batch"}
    for name, kind in inner.items():
        if f"{{{name}}}" in path:
            for unknown in (f"{name}_x", spare.thread_id):
                url = spare.url(route).replace(getattr(spare, name), unknown)
                message = (
                    f"No {kind} found with id '{unknown}' in vector store "
                    f"'{spare.vector_store_id}'."
                )
                refused(await spare.http.request(method, url, json=body), message, None, None, 404)


@covers(STORE_FILES, "answer vector_store_id file_id attributes chunking_strategy", "taken")
@covers(STORE_FILES, "attributes chunking_strategy", "default")
@covers(GET_FILE, "answer vector_store_id file_id", "taken")
async def test_a_file_is_added_and_taken_in(world: World) -> None:
    """Under its own id; it begins in progress, and has no error."""
    url = await new_store(world)
    added = answer_of(await world.http.post(f"{url}/files", json={"file_id": world.file_id}))
    assert added == {
        "id": world.file_id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": added["created_at"],
        "vector_store_id": url.rpartition("/")[2],
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": DEFAULT_CHUNKS,
        "attributes": {},
    }
    await ready(world, url)
    done = await world.http.get(f"{url}/files/{world.file_id}")
    assert done.headers["openai-poll-after-ms"] == "100"
    usage = answer_of(done)["usage_bytes"]
    assert answer_of(done) == {**added, "status": "completed", "usage_bytes": usage}


async def test_a_file_that_is_added_again_stays_what_it_is(world: World) -> None:
    """So that a repeated request does no harm; but its attributes are the new ones."""
    url = await new_store(world, file_ids=[A_FILE])
    await ready(world, url)
    before = answer_of(await world.http.get(f"{url}/files/{world.file_id}"))
    for attributes in ({"a": 1}, {"b": 2}):
        body = {"file_id": world.file_id, "attributes": attributes}
        again = answer_of(await world.http.post(f"{url}/files", json=body))
        assert again == {**before, "attributes": attributes}
    again = answer_of(await world.http.post(f"{url}/files", json={"file_id": world.file_id}))
    assert again == {**before, "attributes": attributes}


async def test_a_file_that_is_to_be_cut_otherwise_is_taken_in_anew(world: World) -> None:
    """With its attributes, as one file all the same. Who names no way asks for no other."""
    url = await new_store(world)
    static = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }
    body = {"file_id": world.file_id, "attributes": {"a": 1}}
    for given, status, shown in (
        ({}, "in_progress", DEFAULT_CHUNKS),
        ({"chunking_strategy": static}, "in_progress", static),
        ({}, "completed", static),
        ({"chunking_strategy": {"type": "auto"}}, "in_progress", DEFAULT_CHUNKS),
    ):
        added = answer_of(await world.http.post(f"{url}/files", json={**body, **given}))
        body = {"file_id": world.file_id}
        assert (added["status"], added["chunking_strategy"]) == (status, shown)
        assert added["attributes"] == {"a": 1}
        assert (await ready(world, url))["file_counts"]["total"] == 1


@covers(STORE_FILES, "file_id", "error")
@covers(BATCHES, "file_ids files", "error")
async def test_only_files_can_be_added(world: World) -> None:
    """Not what was deleted, belongs to others or never was; and nothing of a batch then."""
    url = await new_store(world)
    gone = await uploaded(world, b"gone")
    answer_of(await world.http.delete(f"/v1/files/{gone}"))
    async with world.server.services.files.receive() as sent:
        await sent.write(b"theirs")
        theirs = await world.server.services.files.add("other", sent, "a.txt", "vision", None)
    for file_id in ("file-none", gone, theirs.id):
        message = f"No such File object: {file_id}"
        for path, body in (
            ("/files", {"file_id": file_id}),
            ("/file_batches", {"file_ids": [world.file_id, file_id]}),
            ("/file_batches", {"files": [{"file_id": world.file_id}, {"file_id": file_id}]}),
        ):
            answer = await world.http.post(f"{url}{path}", json=body)
            refused(answer, message, "file_ids", None, 404)
        body = {"file_ids": [world.file_id, file_id]}
        refused(
            await world.http.post("/v1/vector_stores", json=body), message, "file_ids", None, 404
        )
    assert answer_of(await world.http.get(f"{url}/files"))["data"] == []


async def test_files_that_have_no_text_by_their_names_are_refused(world: World) -> None:
    """The extensions are named, each once."""
    url = await new_store(world)
    bad = [await uploaded(world, b"x", name) for name in ("a.csv", "b.csv", "c.PNG", "d")]
    answer = await world.http.post(f"{url}/file_batches", json={"file_ids": bad})
    refused(
        answer,
        "Files with extensions [.csv, .PNG, none] are not supported for retrieval. See "
        "https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
        "file_ids",
        "unsupported_file",
    )


@covers(STORE_FILE, "answer vector_store_id file_id attributes", "taken")
async def test_attributes_are_replaced_as_a_whole(world: World) -> None:
    """Null empties them; nothing else changes."""
    url = await new_store(world, file_ids=[A_FILE])
    await ready(world, url)
    url = f"{url}/files/{world.file_id}"
    before = answer_of(await world.http.get(url))
    for sent, shown in (
        ({"a": 1.0, "b": True}, {"a": 1.0, "b": True}),
        ({"c": "d"},) * 2,
        (None, {}),
    ):
        changed = answer_of(await world.http.post(url, json={"attributes": sent}))
        assert changed == {**before, "attributes": shown}
    assert answer_of(await world.http.get(url)) == changed


@covers(DELETE_FILE, "answer vector_store_id file_id", "taken")
async def test_a_removed_file_is_still_a_file(world: World) -> None:
    """But not in the store, where it is not found any more."""
    store, ids = await filled(world, one="ostrich one", two="ostrich two")
    url = f"{store}/files/{ids['one']}"
    deleted = {"id": ids["one"], "object": "vector_store.file.deleted", "deleted": True}
    assert answer_of(await world.http.delete(url)) == deleted
    assert error_of(await world.http.delete(url), 404)
    assert error_of(await world.http.get(f"{url}/content"), 404)
    answer_of(await world.http.get(f"/v1/files/{ids['one']}"))
    found = answer_of(await world.http.post(f"{store}/search", json={"query": "ostrich"}))
    assert [each["file_id"] for each in found["data"]] == [ids["two"]]
    assert answer_of(await world.http.get(store))["file_counts"]["total"] == 1


async def test_a_deleted_file_is_in_no_store(world: World) -> None:
    """Nor is it found; the cursor that it was still marks its place."""
    store, ids = await filled(world, one="walrus one", two="walrus two", three="walrus three")
    answer_of(await world.http.delete(f"/v1/files/{ids['two']}"))
    assert error_of(await world.http.get(f"{store}/files/{ids['two']}"), 404)
    found = answer_of(await world.http.post(f"{store}/search", json={"query": "walrus"}))
    assert {each["file_id"] for each in found["data"]} == {ids["one"], ids["three"]}
    for parameter, left in (("after", "one"), ("before", "three")):
        page = answer_of(await world.http.get(f"{store}/files", params={parameter: ids["two"]}))
        assert [each["id"] for each in page["data"]] == [ids[left]]


@covers(GET_CONTENT, "answer vector_store_id file_id", "taken")
async def test_the_text_of_a_file_can_be_read(world: World) -> None:
    """Chunk by chunk."""
    store, ids = await filled(world, one="All of it.")
    content = answer_of(await world.http.get(f"{store}/files/{ids['one']}/content"))
    assert content == {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": "All of it."}],
        "has_more": False,
        "next_page": None,
    }


async def test_the_text_of_a_file_is_written_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be megabytes of it, and everybody else would wait."""
    store, ids = await filled(world, one="All of it.")
    written_by: list[threading.Thread] = []
    pretty = schemas.pretty

    def noted(value: Any) -> bytes:
        written_by.append(threading.current_thread())
        return pretty(value)

    monkeypatch.setattr(schemas, "pretty", noted)
    answer_of(await world.http.get(f"{store}/files/{ids['one']}/content"))
    assert written_by
    assert threading.current_thread() not in written_by


@covers(BATCHES, "answer vector_store_id file_ids files chunking_strategy attributes", "taken")
@covers(BATCHES, "file_ids files chunking_strategy attributes", "default")
@covers(GET_BATCH, "answer vector_store_id batch_id", "taken")
async def test_a_batch_adds_many_files(world: World) -> None:
    """All in the same way, or each in its own."""
    static = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }
    own = {"attributes": {"n": 2}, "chunking_strategy": static}
    one, other = {"file_id": world.file_id}, {"file_id": world.other_file_id, **own}
    plain, special = ({}, DEFAULT_CHUNKS), ({"n": 2}, static)
    ids = [world.file_id, world.other_file_id]
    for body, wanted in (
        ({"file_ids": ids}, [plain, plain]),
        ({"file_ids": ids, **own}, [special, special]),
        ({"files": [one, other]}, [plain, special]),
        ({"files": [one, other], **own}, [plain, special]),
    ):
        url = await new_store(world)
        batch = answer_of(await world.http.post(f"{url}/file_batches", json=body))
        assert batch == {
            "id": batch["id"],
            "object": "vector_store.files_batch",
            "created_at": batch["created_at"],
            "status": "in_progress",
            "vector_store_id": url.rpartition("/")[2],
            "file_counts": {**NOTHING, "in_progress": 2, "total": 2},
        }
        await ready(world, url)
        done = await world.http.get(f"{url}/file_batches/{batch['id']}")
        assert done.headers["openai-poll-after-ms"] == "100"
        counts = {**NOTHING, "completed": 2, "total": 2}
        assert answer_of(done) == {**batch, "status": "completed", "file_counts": counts}
        files = answer_of(await world.http.get(f"{url}/files?order=asc"))["data"]
        assert [(each["attributes"], each["chunking_strategy"]) for each in files] == wanted


@covers(BATCHES, "files", "limit")
async def test_a_batch_has_two_thousand_files_at_most(world: World) -> None:
    """And one at least."""
    url = f"{await new_store(world)}/file_batches"

    async def batch_of(count: int) -> Any:
        return await world.http.post(url, json={"files": [{"file_id": world.file_id}] * count})

    for count in (1, 2000):
        answer_of(await batch_of(count))
    assert error_of(await batch_of(2001))["code"] == "array_above_max_length"
    assert error_of(await batch_of(0))["code"] == "empty_array"


async def test_a_batch_is_told_in_one_way(world: World) -> None:
    """By ids or by objects; by neither nor both."""
    url = f"/v1/vector_stores/{world.vector_store_id}/file_batches"
    refused(
        await world.http.post(url, json={}),
        "Missing required parameter: 'file_ids'.",
        "file_ids",
        "missing_required_parameter",
    )
    both = world.own({"file_ids": [A_FILE], "files": [{"file_id": A_FILE}]})
    refused(
        await world.http.post(url, json=both),
        "Invalid request: 'file_ids' and 'files' exclude each other.",
        None,
        "invalid_value",
    )


@covers(ADD_BATCH, "file_ids", "taken")
@pytest.mark.parametrize("told", ["file_ids", "files"])
async def test_what_clients_leave_out_may_come_as_null(world: World, told: str) -> None:
    """Clients of typed languages send all keys that a request can have."""
    nothing = dict.fromkeys(("file_ids", "chunking_strategy", "expires_after", "metadata"))
    url = await new_store(world, **nothing)
    files = {"file_ids": [A_FILE], "files": [{"file_id": A_FILE, "chunking_strategy": None}]}
    rest = dict.fromkeys(("file_ids", "files", "chunking_strategy", "attributes"))
    batch = world.own({**rest, told: files[told]})
    assert answer_of(await world.http.post(f"{url}/file_batches", json=batch))["object"]
    (added,) = answer_of(await world.http.get(f"{url}/files"))["data"]
    assert added["chunking_strategy"]["static"]["max_chunk_size_tokens"] == 800
    keys = ("filters", "max_num_results", "ranking_options", "rewrite_query")
    await ready(world, url)
    found = await world.http.post(f"{url}/search", json={"query": "x", **dict.fromkeys(keys)})
    assert answer_of(found)["has_more"] is False
    refused(
        await world.http.post(f"{url}/file_batches", json=rest),
        "Missing required parameter: 'file_ids'.",
        "file_ids",
        "missing_required_parameter",
    )


async def test_a_batch_takes_over_what_the_store_has_already(world: World) -> None:
    """It is counted in the batch, and is there at once."""
    url = await new_store(world, file_ids=[A_FILE])
    await ready(world, url)
    body = world.own({"file_ids": [A_FILE]})
    batch = answer_of(await world.http.post(f"{url}/file_batches", json=body))
    assert (batch["status"], batch["file_counts"]["completed"]) == ("completed", 1)


@covers(CANCEL, "answer vector_store_id batch_id", "taken")
async def test_a_batch_that_is_done_cannot_be_undone(world: World) -> None:
    """To cancel it says so."""
    url = await new_store(world)
    body = world.own({"file_ids": [A_FILE, ANOTHER_FILE]})
    batch = answer_of(await world.http.post(f"{url}/file_batches", json=body))
    await ready(world, url)
    cancelled = answer_of(await world.http.post(f"{url}/file_batches/{batch['id']}/cancel"))
    assert (cancelled["status"], cancelled["file_counts"]["completed"]) == ("completed", 2)


async def test_a_batch_whose_files_all_fail_has_failed(world: World) -> None:
    """If one is taken in, it is completed; the reasons are with the files."""
    bad, good = await uploaded(world, b" \n "), await uploaded(world, b"Good.")
    for file_ids, status in (([bad], "failed"), ([bad, good], "completed")):
        url = await new_store(world)
        batch = answer_of(await world.http.post(f"{url}/file_batches", json={"file_ids": file_ids}))
        await ready(world, url)
        done = answer_of(await world.http.get(f"{url}/file_batches/{batch['id']}"))
        assert (done["status"], done["file_counts"]["failed"]) == (status, 1)
        failed = answer_of(await world.http.get(f"{url}/files/{bad}"))
        assert failed["status"] == "failed"
        assert failed["last_error"]["code"] == "invalid_file"
        assert answer_of(await world.http.get(f"{url}/files/{bad}/content"))["data"] == []


@covers(GET_FILES, "answer vector_store_id", "taken")
@covers(GET_FILES, "filter", "taken", "default", "limit", "error")
@covers(GET_BATCH_FILES, "answer vector_store_id batch_id", "taken")
@covers(GET_BATCH_FILES, "filter", "taken", "default", "limit", "error")
async def test_files_are_listed_by_status_and_batch(world: World) -> None:
    """In the order of all lists."""
    url = await new_store(world, file_ids=[A_FILE])
    bad = await uploaded(world, b" ")
    body = world.own({"file_ids": [bad, ANOTHER_FILE]})
    batch = answer_of(await world.http.post(f"{url}/file_batches", json=body))["id"]
    await ready(world, url)
    mine, other = world.file_id, world.other_file_id
    of_batch = f"{url}/file_batches/{batch}/files"
    for path, query, wanted in (
        (f"{url}/files", {}, [other, bad, mine]),
        (f"{url}/files", {"filter": "completed"}, [other, mine]),
        (f"{url}/files", {"filter": "completed", "limit": 1}, [other]),
        (f"{url}/files", {"filter": "failed"}, [bad]),
        (f"{url}/files", {"filter": "in_progress"}, []),
        (f"{url}/files", {"filter": "cancelled"}, []),
        (of_batch, {}, [other, bad]),
        (of_batch, {"order": "asc", "after": bad}, [other]),
        (of_batch, {"filter": "completed"}, [other]),
        (of_batch, {"filter": "failed"}, [bad]),
        (of_batch, {"filter": "in_progress"}, []),
        (of_batch, {"filter": "cancelled"}, []),
    ):
        page = answer_of(await world.http.get(path, params=query))
        assert [each["id"] for each in page["data"]] == wanted
    for path in (f"{url}/files", of_batch):
        refused(
            await world.http.get(path, params={"filter": "done"}),
            "Invalid value: 'done'. Supported values are: 'in_progress', 'completed', 'failed', "
            "and 'cancelled'.",
            "filter",
            "invalid_value",
        )


@covers(SEARCH, "answer vector_store_id query max_num_results", "taken")
@covers(SEARCH, "rewrite_query max_num_results filters ranking_options", "default")
@covers(SEARCH, "rewrite_query", "taken")
async def test_a_search_finds_pieces_of_files(world: World) -> None:
    """The best first, with a score from 0 to 1; several queries are one search."""
    store, ids = await filled(world, one="the zebra eats grass", two="the quokka smiles")
    search = f"{store}/search"
    found = answer_of(await world.http.post(search, json={"query": "zebra grass"}))
    first = found["data"][0]
    assert 0 < first["score"] <= 1
    assert found == {
        "object": "vector_store.search_results.page",
        "search_query": ["zebra grass"],
        "data": found["data"],
        "has_more": False,
        "next_page": None,
    }
    assert list(first) == ["file_id", "filename", "score", "attributes", "content"]
    assert first == {
        "file_id": ids["one"],
        "filename": "one.txt",
        "score": first["score"],
        "attributes": {},
        "content": [{"type": "text", "text": "the zebra eats grass"}],
    }
    both = {"query": ["zebra", "quokka"], "rewrite_query": True}
    found = answer_of(await world.http.post(search, json=both))
    assert found["search_query"] == ["zebra", "quokka"]
    assert {each["file_id"] for each in found["data"]} == set(ids.values())
    scores = [each["score"] for each in found["data"]]
    assert scores == sorted(scores, reverse=True)
    one = answer_of(await world.http.post(search, json={**both, "max_num_results": 1}))
    assert len(one["data"]) == 1
    none = answer_of(await world.http.post(f"{await new_store(world)}/search", json=both))
    assert none["data"] == []


@covers(SEARCH, "filters ranking_options", "taken")
@covers("ComparisonFilter", "type key value", "taken")
@covers("CompoundFilter", "type filters", "taken")
@covers("SearchRanking", "ranker score_threshold", "taken", "default")
async def test_a_search_can_be_narrowed(world: World) -> None:
    """By attributes, and by the score."""
    store, ids = await filled(world, one="panda text", two="panda text too", three="panda")
    for number, file_id in enumerate(ids.values()):
        attributes = {"attributes": {"n": number, "kind": "even" if number % 2 == 0 else "odd"}}
        answer_of(await world.http.post(f"{store}/files/{file_id}", json=attributes))

    def compared(type: str, key: str, value: Any) -> Json:
        return {"type": type, "key": key, "value": value}

    even, small = compared("eq", "kind", "even"), compared("lt", "n", 2)
    for filters, wanted in (
        (even, {"one", "three"}),
        (compared("ne", "kind", "even"), {"two"}),
        (small, {"one", "two"}),
        (compared("gte", "n", 1), {"two", "three"}),
        (compared("in", "n", [0, 1, 7]), {"one", "two"}),
        (compared("nin", "n", [0, 1, 7]), {"three"}),
        ({"type": "and", "filters": [even, small]}, {"one"}),
        ({"type": "or", "filters": [even, small]}, {"one", "two", "three"}),
        (compared("eq", "n", "1"), set()),
    ):
        body = {"query": "panda", "filters": filters}
        found = answer_of(await world.http.post(f"{store}/search", json=body))["data"]
        assert {each["file_id"] for each in found} == {ids[name] for name in wanted}
        assert all(each["attributes"].keys() == {"n", "kind"} for each in found)
    for ranking, least in (
        ({}, 0.0),
        ({"ranker": "none"}, 0.0),
        ({"ranker": "auto", "score_threshold": 0.5}, 0.5),
    ):
        body = {"query": "panda text", "ranking_options": ranking}
        found = answer_of(await world.http.post(f"{store}/search", json=body))["data"]
        assert all(each["score"] >= least for each in found)


@covers("ComparisonFilter", "type", "limit", "error")
@covers("ComparisonFilter", "value", "error")
@covers("CompoundFilter", "type", "limit", "error")
@pytest.mark.parametrize(
    ("type", "value", "expected", "got"),
    [
        ("eq", [1], "one of a string, a number, or a boolean", "an array"),
        ("ne", None, "one of a string, a number, or a boolean", "null"),
        ("gt", True, "one of a string or a number", "a boolean"),
        ("lte", [1], "one of a string or a number", "an array"),
        ("in", "a", "an array of strings and numbers", "a string"),
        ("nin", [True], "an array of strings and numbers", "an array"),
    ],
)
async def test_a_filter_compares_what_can_be_compared(
    world: World, type: str, value: Any, expected: str, got: str
) -> None:
    """Also deep within others; of ten types."""
    inner = {"type": type, "key": "a", "value": value}
    filters = {"type": "or", "filters": [{"type": "and", "filters": [inner]}]}
    param = "filters.filters[0].filters[0].value"
    refused(
        await world.post(SEARCH, {"filters": filters}),
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param,
        "invalid_type",
    )
    refused(
        await world.post(SEARCH, {"filters": {"type": "like"}}),
        "Invalid value: 'like'. Supported values are: 'eq', 'ne', 'gt', 'gte', 'lt', 'lte', "
        "'in', 'nin', 'and', and 'or'.",
        "filters.type",
        "invalid_value",
    )


async def test_a_filter_has_a_hundred_parts_at_most(world: World) -> None:
    """However they are nested."""
    part = {"type": "eq", "key": "a", "value": 1}
    nested: Json = {"type": "and", "filters": [part] * 10}
    for _ in range(15):
        nested = {"type": "or", "filters": [nested]}
    answer_of(await world.post(SEARCH, {"filters": nested}))
    answer_of(await world.post(SEARCH, {"filters": {"type": "and", "filters": [part] * 99}}))
    refused(
        await world.post(SEARCH, {"filters": {"type": "and", "filters": [part] * 100}}),
        "Invalid 'filters': a filter has at most 100 parts.",
        "filters",
        "invalid_value",
    )


@pytest.mark.parametrize("types", [("and", "or"), ("or", "and"), ("and", "and"), ("or", "or")])
async def test_a_filter_is_sixteen_levels_deep_at_most(
    world: World, types: tuple[str, str]
) -> None:
    """Whatever it compares on its way down."""
    for type, value in (("eq", 1), ("ne", "a"), ("lt", 1), ("in", ["a", 1]), ("nin", ["a", 1])):
        part = {"type": type, "key": "a", "value": value}
        nested: Json = part
        for level in range(16):
            nested = {"type": types[level % 2], "filters": [part, nested, part]}
        answer_of(await world.post(SEARCH, {"filters": nested}))
        refused(
            await world.post(SEARCH, {"filters": {"type": types[0], "filters": [part, nested]}}),
            "Invalid 'filters': a filter is at most 16 levels deep.",
            "filters",
            "invalid_value",
        )


@covers("ComparisonFilter", "key value", "limit")
@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [("a\0b", "a", "key"), ("a", "a\0b", "value"), ("a", ["a", "\0"], "value")],
)
async def test_a_filter_has_no_nul(world: World, key: str, value: Any, wrong: str) -> None:
    """Nor has any attribute: SQLite's texts end there, and would be compared without their rest."""
    type = "in" if isinstance(value, list) else "eq"
    inner = {"type": type, "key": key, "value": value}
    param = f"filters.filters[0].{wrong}"
    refused(
        await world.post(SEARCH, {"filters": {"type": "or", "filters": [inner]}}),
        f"Invalid '{param}': string does not match pattern. "
        r"Expected a string that matches the pattern '^[^\u0000]*$'.",
        param,
        "invalid_value",
    )
