"""What objects name for their tools: stores made on the way, attachments, and what is not there."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from server import schemas
from server.access.keys import DEFAULT_PROJECT
from server.db.database import Tx
from server.errors import NotFound
from server.search.extraction import NotExtracted
from server.vector_stores.resources import provided
from tests.api.wire import Json, answer_of, refused
from tests.covering import covers
from tests.support import LiveServer
from tests.vector_stores.conftest import Script, settled, store_with, uploaded

HELLO = {"role": "user", "content": "Hello!"}
SEARCH, CODE = {"type": "file_search"}, {"type": "code_interpreter"}
WEEK = {"anchor": "last_active_at", "days": 7}
NO_FILE = "No such File object: file-none"
NO_STORE = "Vector store with id 'vs_none' not found."


def attached(file_id: str, *tools: Json) -> Json:
    """A message with a file for these tools."""
    return {**HELLO, "attachments": [{"file_id": file_id, "tools": list(tools)}]}


def stores_of(shown: Json) -> list[str]:
    """The vector stores that an object names."""
    found: list[str] = shown["tool_resources"]["file_search"]["vector_store_ids"]
    return found


async def created(http: httpx.AsyncClient, path: str, body: Json) -> Json:
    """A new object."""
    made: Json = answer_of(await http.post(path, json=body))
    return made


async def store_named(http: httpx.AsyncClient, shown: Json) -> Json:
    """The one store that an object names."""
    (store_id,) = stores_of(shown)
    found: Json = answer_of(await http.get(f"/v1/vector_stores/{store_id}"))
    return found


async def run_of(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """The answer to creating a thread and a run at once."""
    assistant = await created(http, "/v1/assistants", {"model": "gpt-4o"})
    return await http.post("/v1/threads/runs", json={"assistant_id": assistant["id"], **body})


@covers("NewFileSearchResources", "vector_stores", "taken")
@covers("NewVectorStore", "file_ids chunking_strategy metadata", "taken")
async def test_an_assistants_new_store_stays(live: LiveServer) -> None:
    """It is made with its files, chunks and metadata, and the assistant names it."""
    (file_id,) = await uploaded(live, "text")
    static = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 9}
    new = {
        "file_ids": [file_id],
        "chunking_strategy": {"type": "static", "static": static},
        "metadata": {"a": "b"},
    }
    resources = {"file_search": {"vector_stores": [new]}}
    async with live.http() as http:
        body = {"model": "gpt-4o", "tools": [SEARCH], "tool_resources": resources}
        assistant = await created(http, "/v1/assistants", body)
        store = await store_named(http, assistant)
        assert (store["metadata"], store["expires_after"]) == ({"a": "b"}, None)
        assert store["file_counts"]["total"] == 1
        await settled(live, store["id"])
        listed = answer_of(await http.get(f"/v1/vector_stores/{store['id']}/files"))["data"]
        assert [(each["id"], each["chunking_strategy"]["static"]) for each in listed] == [
            (file_id, static)
        ]


@covers("NewVectorStore", "file_ids chunking_strategy metadata", "default")
async def test_a_new_store_may_be_empty(live: LiveServer) -> None:
    """Files that are added later are cut in the usual way."""
    resources = {"file_search": {"vector_stores": [{}]}}
    (file_id,) = await uploaded(live, "text")
    async with live.http() as http:
        thread = await created(http, "/v1/threads", {"tool_resources": resources})
        store = await store_named(http, thread)
        assert (store["status"], store["metadata"]) == ("completed", {})
        assert store["file_counts"]["total"] == 0
        url = f"/v1/vector_stores/{store['id']}/files"
        added = await created(http, url, {"file_id": file_id})
        assert added["chunking_strategy"]["static"]["max_chunk_size_tokens"] == 800
        none = {"file_search": {"vector_stores": []}}
        thread = await created(http, "/v1/threads", {"tool_resources": none})
        assert stores_of(thread) == []


async def test_stores_beside_a_null(live: LiveServer) -> None:
    """Of stores by their ids and stores to be made, a client may send the other as null."""
    async with live.http() as http:
        new = dict.fromkeys(("file_ids", "chunking_strategy", "metadata"))
        made = {"file_search": {"vector_store_ids": None, "vector_stores": [new]}}
        thread = await created(http, "/v1/threads", {"tool_resources": made})
        named = {"file_search": {"vector_store_ids": stores_of(thread), "vector_stores": None}}
        resources = {**named, "code_interpreter": {"file_ids": None}}
        assistant = {"model": "gpt-4o", "tools": [SEARCH], "tool_resources": resources}
        assert stores_of(await created(http, "/v1/assistants", assistant)) == stores_of(thread)


@pytest.mark.parametrize("together", [False, True])
async def test_a_threads_new_store_lasts_a_week(live: LiveServer, together: bool) -> None:
    """Also where the thread is made with its run."""
    (file_id,) = await uploaded(live, "text")
    body = {
        "messages": [HELLO],
        "tool_resources": {"file_search": {"vector_stores": [{"file_ids": [file_id]}]}},
    }
    async with live.http() as http:
        if together:
            run = answer_of(await run_of(http, thread=body))
            thread = answer_of(await http.get(f"/v1/threads/{run['thread_id']}"))
        else:
            thread = await created(http, "/v1/threads", body)
        store = await store_named(http, thread)
        assert store["expires_after"] == WEEK
        assert store["expires_at"] == store["created_at"] + 7 * 24 * 3600


async def test_attachments_go_to_the_threads_tools(live: LiveServer) -> None:
    """To its store, which is made for the first of them, and to the code interpreter's files."""
    first, second, third = await uploaded(live, "first", "second", "third")
    async with live.http() as http:
        body = {"messages": [attached(first, SEARCH, CODE), attached(first, CODE)]}
        thread = await created(http, "/v1/threads", body)
        store = await store_named(http, thread)
        assert store["expires_after"] == WEEK
        assert thread["tool_resources"]["code_interpreter"] == {"file_ids": [first]}
        url = f"/v1/threads/{thread['id']}"
        message = await created(http, f"{url}/messages", attached(second, SEARCH))
        assert message["attachments"] == [{"file_id": second, "tools": [SEARCH]}]
        again = await created(http, f"{url}/messages", attached(first, SEARCH))
        assert again["attachments"] == [{"file_id": first, "tools": [SEARCH]}]
        assistant = await created(http, "/v1/assistants", {"model": "gpt-4o"})
        additional = [attached(third, SEARCH, CODE)]
        run = {"assistant_id": assistant["id"], "additional_messages": additional}
        await created(http, f"{url}/runs", run)
        after = answer_of(await http.get(url))
        assert stores_of(after) == [store["id"]]
        assert after["tool_resources"]["code_interpreter"] == {"file_ids": [first, third]}
    assert set(await settled(live, store["id"])) == {first, second, third}


async def test_attachments_go_to_the_store_that_the_thread_was_given(live: LiveServer) -> None:
    """Which keeps its own expiry."""
    (file_id,) = await uploaded(live, "text")
    async with live.http() as http:
        store = await created(http, "/v1/vector_stores", {})
        body = {
            "messages": [attached(file_id, SEARCH)],
            "tool_resources": {"file_search": {"vector_store_ids": [store["id"]]}},
        }
        thread = await created(http, "/v1/threads", body)
        assert (await store_named(http, thread))["expires_after"] is None
    assert list(await settled(live, store["id"])) == [file_id]


@pytest.mark.parametrize("status", ["completed", "in_progress", "failed"])
async def test_an_attachment_says_nothing_of_how_a_file_is_kept(
    live: LiveServer, script: Script, status: str
) -> None:
    """One that its store has keeps its chunks and attributes, and is taken in anew if it failed."""
    (file_id,) = await uploaded(live, "text")
    gate = script.holds("text")
    script.fails("text", *([NotExtracted("invalid_file", "It is broken.")] * (status == "failed")))
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}
    own = {"attributes": {"lang": "en"}, "chunking_strategy": {"type": "static", "static": sizes}}
    async with live.http() as http:
        store = await created(http, "/v1/vector_stores", {})
        url = f"/v1/vector_stores/{store['id']}/files"
        await created(http, url, {"file_id": file_id, **own})
        if status != "in_progress":
            gate.set()
            await settled(live, store["id"])
        before = answer_of(await http.get(f"{url}/{file_id}"))
        assert before == {**before, **own, "status": status}
        body = {"tool_resources": {"file_search": {"vector_store_ids": [store["id"]]}}}
        thread = await created(http, "/v1/threads", body)
        message = attached(file_id, SEARCH)
        await created(http, f"/v1/threads/{thread['id']}/messages", message)
        if status != "failed":
            assert answer_of(await http.get(f"{url}/{file_id}")) == before
        gate.set()
        await settled(live, store["id"])
        after = answer_of(await http.get(f"{url}/{file_id}"))
        assert after == {**after, **own, "status": "completed", "last_error": None}
    assert len(script.begun) == (2 if status == "failed" else 1)


@pytest.mark.parametrize("gone", ["expired", "deleted"])
async def test_a_thread_whose_store_is_gone_gets_a_new_one(
    live: LiveServer, clock: Any, gone: str
) -> None:
    """With the next attachment."""
    first, second = await uploaded(live, "first", "second")
    async with live.http() as http:
        thread = await created(http, "/v1/threads", {"messages": [attached(first, SEARCH)]})
        url = f"/v1/threads/{thread['id']}"
        (old,) = stores_of(thread)
        if gone == "expired":
            clock.advance(7 * 24 * 3600)
        else:
            answer_of(await http.delete(f"/v1/vector_stores/{old}"))
            assert stores_of(answer_of(await http.get(url))) == []
        await created(http, f"{url}/messages", attached(second, SEARCH))
        (new,) = stores_of(answer_of(await http.get(url)))
    assert new != old
    assert list(await settled(live, new)) == [second]


async def test_a_thread_has_twenty_files_for_code_at_most(live: LiveServer) -> None:
    """Those that are attached count; a message that would bring another one is refused whole."""
    file_ids = await uploaded(live, *(f"file {number}" for number in range(21)))
    async with live.http() as http:
        messages = [attached(file_id, CODE) for file_id in file_ids]
        thread = await created(http, "/v1/threads", {"messages": messages[:20]})
        url = f"/v1/threads/{thread['id']}/messages"
        refused(
            await http.post(url, json=messages[20]),
            "A thread can have at most 20 files for code_interpreter.",
            "attachments",
            None,
        )
        answer_of(await http.post(url, json=messages[0]))
        assert len(answer_of(await http.get(url, params={"limit": 100}))["data"]) == 21


FILES = {"code_interpreter": {"file_ids": ["file-none"]}}
STORES = {"file_search": {"vector_store_ids": ["vs_none"]}}
NEW = {"file_search": {"vector_stores": [{"file_ids": ["file-none"]}]}}
CODE_PARAM = "tool_resources.code_interpreter.file_ids"


@pytest.mark.parametrize(
    ("resources", "message", "param"),
    [(FILES, NO_FILE, CODE_PARAM), (STORES, NO_STORE, None), (NEW, NO_FILE, "file_ids")],
)
async def test_what_is_not_there_cannot_be_named(
    live: LiveServer, resources: Json, message: str, param: str | None
) -> None:
    """By assistants, threads and runs, when they are made or changed; nothing is made then."""
    async with live.http() as http:
        assistant = await created(http, "/v1/assistants", {"model": "gpt-4o"})
        thread = await created(http, "/v1/threads", {"messages": [HELLO]})
        requests = [
            ("/v1/assistants", {"model": "gpt-4o", "tool_resources": resources}),
            ("/v1/threads", {"tool_resources": resources}),
            (
                "/v1/threads/runs",
                {"assistant_id": assistant["id"], "thread": {"tool_resources": resources}},
            ),
        ]
        if resources is not NEW:
            given = {"tool_resources": resources}
            requests += [
                (f"/v1/assistants/{assistant['id']}", given),
                (f"/v1/threads/{thread['id']}", given),
                ("/v1/threads/runs", {"assistant_id": assistant["id"], **given}),
            ]
        for url, body in requests:
            refused(await http.post(url, json=body), message, param, None, 404)
        assert len(answer_of(await http.get("/v1/assistants"))["data"]) == 1
        assert answer_of(await http.get("/v1/vector_stores"))["data"] == []


async def test_of_many_files_no_more_are_looked_for_than_the_first_missing(
    live: LiveServer,
) -> None:
    """A request may name as many as its body holds, and meanwhile nothing else is written."""
    new = {"file_ids": [f"file-{number}" for number in range(100_000)]}
    wanted = schemas.NewToolResources.model_validate({"file_search": {"vector_stores": [new]}})
    asked: list[str] = []

    def unit(tx: Tx) -> None:
        tx.queries.raw.set_trace_callback(asked.append)
        try:
            provided(tx, DEFAULT_PROJECT, wanted, {})
        finally:
            tx.queries.raw.set_trace_callback(None)

    with pytest.raises(NotFound, match="No such File object: file-0"):
        await live.services.db.write(unit)
    assert len(asked) == 1


async def test_what_others_have_cannot_be_named(live: LiveServer) -> None:
    """It is as unknown as what does not exist: to new objects, to old ones and in messages."""
    (theirs,) = await uploaded(live, "theirs", project="other")
    store = await store_with(live, project="other")
    async with live.http() as http:
        thread = await created(http, "/v1/threads", {})
        url = f"/v1/threads/{thread['id']}"
        for path, body, named in (
            (url, {"tool_resources": {"code_interpreter": {"file_ids": [theirs]}}}, theirs),
            (url, {"tool_resources": {"file_search": {"vector_store_ids": [store]}}}, store),
            (f"{url}/messages", attached(theirs, SEARCH), theirs),
            (f"{url}/messages", attached(theirs, CODE), theirs),
        ):
            answer = await http.post(path, json=body)
            unknown = json.loads(json.dumps(body).replace(named, "xyz"))
            wanted = (await http.post(path, json=unknown)).text.replace("xyz", named)
            assert (answer.status_code, answer.text) == (404, wanted)
        assert answer_of(await http.get(url)) == thread


@pytest.mark.parametrize("tools", [[], [CODE], [SEARCH]])
async def test_a_file_that_is_not_there_cannot_be_attached(
    live: LiveServer, tools: list[Json]
) -> None:
    """Whatever it is for; the message is not added."""
    async with live.http() as http:
        thread = await created(http, "/v1/threads", {})
        url = f"/v1/threads/{thread['id']}/messages"
        answer = await http.post(url, json=attached("file-none", *tools))
        refused(answer, NO_FILE, "attachments", None, 404)
        assert answer_of(await http.get(url))["data"] == []


async def test_a_file_without_text_cannot_be_attached_for_search(live: LiveServer) -> None:
    """For code it can."""
    async with live.sdk() as sdk, live.http() as http:
        file = await sdk.files.create(file=("table.csv", b"a,b"), purpose="assistants")
        refused(
            await http.post("/v1/threads", json={"messages": [attached(file.id, SEARCH)]}),
            "Files with extensions [.csv] are not supported for retrieval. See "
            "https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
            "file_ids",
            "unsupported_file",
        )
        await created(http, "/v1/threads", {"messages": [attached(file.id, CODE)]})


async def test_a_deleted_store_is_taken_from_whoever_names_it(live: LiveServer) -> None:
    """Assistants and threads; nobody else's."""
    async with live.sdk() as sdk:
        stores = [(await sdk.vector_stores.create()).id for _ in range(2)]

        def naming(store: str) -> Any:
            return {"file_search": {"vector_store_ids": [store]}}

        made: list[Any] = []
        for store in stores:
            beta: openai.resources.beta.AsyncBeta = sdk.beta
            made.append(await beta.assistants.create(model="gpt-4o", tool_resources=naming(store)))
            made.append(await beta.threads.create(tool_resources=naming(store)))
        await sdk.vector_stores.delete(stores[0])
        left = [
            await sdk.beta.assistants.retrieve(made[0].id),
            await sdk.beta.threads.retrieve(made[1].id),
            await sdk.beta.assistants.retrieve(made[2].id),
            await sdk.beta.threads.retrieve(made[3].id),
        ]
        named = [each.tool_resources.file_search.vector_store_ids for each in left]
        assert named == [[], [], [stores[1]], [stores[1]]]


async def test_the_next_run_finds_what_was_attached(live: LiveServer, script: Script) -> None:
    """Whoever runs can wait for the thread's store."""
    gate = script.holds("slow")
    (file_id,) = await uploaded(live, "slow")
    async with live.http() as http:
        thread = await created(http, "/v1/threads", {"messages": [attached(file_id, SEARCH)]})
        (store,) = stores_of(thread)
    ingestor = live.services.ingestor
    assert not await ingestor.wait_ready(store, 0.05)
    gate.set()
    assert await ingestor.wait_ready(store, 20.0)
    found = await live.services.searcher.search("default", [store], ["slow"], max_results=5)
    assert [each.file_id for each in found] == [file_id]
