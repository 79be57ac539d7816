"""Lists and their pages: all of them page alike, but for the list of all files.

All objects here are of the same second, so that only their order of creation can order them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from server.engine.scripted import ScriptedEngine
from tests.api.wire import HELLO, Json, answer_of, refused
from tests.covering import covers
from tests.support import ManualClock, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

COUNT = 5
ROUTES = {
    "assistant": "GET /v1/assistants",
    "thread": "GET /v1/threads",
    "project's run": "GET /v1/threads/runs",
    "message": "GET /v1/threads/{thread_id}/messages",
    "run": "GET /v1/threads/{thread_id}/runs",
    "run step": "GET /v1/threads/{thread_id}/runs/{run_id}/steps",
    "vector store": "GET /v1/vector_stores",
    "store's file": "GET /v1/vector_stores/{vector_store_id}/files",
    "batch's file": "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
}
FILTERED = {"thread", "project's run"}  # lists of ours, by metadata


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of five objects each; `ids` are in the order of their creation."""

    http: httpx.AsyncClient
    urls: dict[str, str]
    ids: dict[str, list[str]]

    async def page(self, kind: str, **query: Any) -> Json:
        """One page."""
        page: Json = answer_of(await self.http.get(self.urls[kind], params=query))
        assert len({item["created_at"] for item in page["data"]}) <= 1
        return page

    async def taken(self, kind: str, **query: Any) -> tuple[list[int], bool]:
        """The places of a page's objects among all, and whether more follow."""
        page = await self.page(kind, **query)
        return [self.ids[kind].index(item["id"]) for item in page["data"]], page["has_more"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lists(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lists]:
    """A server of its own, whose clock stands still."""
    engine = ScriptedEngine()
    folder = tmp_path_factory.mktemp("lists")
    async with live_server(folder, engine, clock=ManualClock()) as server, server.http() as http:
        ids: dict[str, list[str]] = {}

        async def create(url: str, body: Json) -> Json:
            created: Json = answer_of(await http.post(url, json=body))
            return created

        tool = {"type": "function", "function": {"name": "f"}}
        ids["assistant"] = [
            (await create("/v1/assistants", {"model": "gpt-4o", "tools": [tool]}))["id"]
            for _ in range(COUNT)
        ]
        ids["thread"] = [(await create("/v1/threads", {}))["id"] for _ in range(COUNT - 1)]
        thread = f"/v1/threads/{ids['thread'][0]}"
        ids["message"] = [(await create(f"{thread}/messages", HELLO))["id"] for _ in range(COUNT)]
        ids["thread"] += [(await create("/v1/threads", {"messages": [HELLO]}))["id"]]
        busy = f"/v1/threads/{ids['thread'][-1]}"
        runs = []
        for _ in range(COUNT):
            if len(runs) == COUNT - 1:
                for _ in range(COUNT - 1):
                    engine.calls("f", {})
            runs.append(await _finished(http, busy, ids["assistant"][0]))
        ids["run"] = ids["project's run"] = runs
        steps = f"{busy}/runs/{runs[-1]}/steps"
        listed = answer_of(await http.get(steps, params={"order": "asc"}))
        ids["run step"] = [step["id"] for step in listed["data"]]
        ids["vector store"] = [(await create("/v1/vector_stores", {}))["id"] for _ in range(COUNT)]
        store = f"/v1/vector_stores/{ids['vector store'][0]}"
        async with server.sdk() as sdk:
            file_ids = [
                (await sdk.files.create(file=("a.txt", b"x"), purpose="assistants")).id
                for _ in range(COUNT)
            ]
        ids["store's file"] = ids["batch's file"] = file_ids
        batch = (await create(f"{store}/file_batches", {"file_ids": file_ids}))["id"]
        urls = {
            "store's file": f"{store}/files",
            "batch's file": f"{store}/file_batches/{batch}/files",
            "vector store": "/v1/vector_stores",
            "assistant": "/v1/assistants",
            "thread": "/v1/threads",
            "project's run": "/v1/threads/runs",
            "message": f"{thread}/messages",
            "run": f"{busy}/runs",
            "run step": steps,
        }
        yield Lists(http, urls, ids)


async def _finished(http: httpx.AsyncClient, thread: str, assistant_id: str) -> str:
    """The id of a new run when it is over; its calls are answered on the way."""
    body: Json = {"assistant_id": assistant_id, "stream": True}
    url = f"{thread}/runs"
    while True:
        await http.post(url, json=body)
        run = answer_of(await http.get(f"{thread}/runs", params={"limit": 1}))["data"][0]
        if run["status"] == "completed":
            return str(run["id"])
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "1"} for call in calls]
        body = {"tool_outputs": outputs, "stream": True}
        url = f"{thread}/runs/{run['id']}/submit_tool_outputs"


def each_list(*fields: str, aspects: Sequence[str]) -> Any:
    """A row for each kind of list, marked as showing these fields."""
    rows = [
        pytest.param(
            kind, marks=[covers(route, field, *aspects) for field in fields], id=f"{kind}s"
        )
        for kind, route in ROUTES.items()
    ]
    return pytest.mark.parametrize("kind", rows)


@each_list("answer", aspects=["taken"])
async def test_a_list_has_all_that_was_created(lists: Lists, kind: str) -> None:
    """With the ids of its first and last object."""
    page = await lists.page(kind)
    assert [item["id"] for item in page["data"]] == list(lists.ids[kind])[::-1]
    assert (page["first_id"], page["last_id"]) == (lists.ids[kind][-1], lists.ids[kind][0])


@each_list("limit", "order", "after", "before", aspects=["default"])
async def test_the_newest_come_first(lists: Lists, kind: str) -> None:
    """Without parameters, objects of one second come in the reverse order of their creation."""
    assert await lists.taken(kind) == ([4, 3, 2, 1, 0], False)


PAGES = [
    ({"order": "asc"}, [0, 1, 2, 3, 4], False),
    ({"order": "desc"}, [4, 3, 2, 1, 0], False),
    ({"limit": 0}, [], True),
    ({"limit": 1}, [4], True),
    ({"limit": 5}, [4, 3, 2, 1, 0], False),
    ({"limit": 100}, [4, 3, 2, 1, 0], False),
    ({"limit": 2, "order": "asc"}, [0, 1], True),
    ({"after": 3}, [2, 1, 0], False),
    ({"after": 3, "limit": 2}, [2, 1], True),
    ({"after": 2, "limit": 2}, [1, 0], False),
    ({"after": 0}, [], False),
    ({"after": 1, "order": "asc"}, [2, 3, 4], False),
    ({"after": 1, "limit": 1, "order": "asc"}, [2], True),
    ({"before": 1}, [4, 3, 2], False),
    ({"before": 1, "limit": 2}, [3, 2], True),
    ({"before": 3, "order": "asc"}, [0, 1, 2], False),
    ({"before": 3, "limit": 1, "order": "asc"}, [2], True),
    ({"before": 4}, [], False),
    ({"after": 4, "before": 0}, [3, 2, 1], False),
    ({"after": 4, "before": 0, "limit": 2}, [3, 2], True),
    ({"after": 0, "before": 4, "order": "asc"}, [1, 2, 3], False),
    ({"after": 1, "before": 3}, [], False),
]


@each_list("limit", "order", "after", "before", aspects=["taken"])
@pytest.mark.parametrize(("query", "wanted", "more"), PAGES)
async def test_a_page_is_the_part_that_was_asked_for(
    lists: Lists, kind: str, query: Json, wanted: list[int], more: bool
) -> None:
    """Cursors are exclusive and in the order asked for; `has_more` follows the way of paging."""
    named = {
        key: lists.ids[kind][value] if key in ("after", "before") else value
        for key, value in query.items()
    }
    assert await lists.taken(kind, **named) == (wanted, more)


@each_list("after", aspects=["taken"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_lead_through_a_whole_list(lists: Lists, kind: str, order: str) -> None:
    """From the last id of each to the next, as the SDKs do it."""
    seen: list[str] = []
    query: Json = {"limit": 2, "order": order}
    while True:
        page = await lists.page(kind, **query)
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == sorted(lists.ids[kind], key=lists.ids[kind].index, reverse=order == "desc")


NO_PLAIN_INTEGERS = ("1.0", "1_0", "+5", " 5", "5 ", "5\n", "- 5", "\N{FULLWIDTH DIGIT FIVE}")


@each_list("limit", aspects=["limit", "error"])
@pytest.mark.parametrize(
    ("limit", "message", "code"),
    [
        (
            101,
            "Invalid 'limit': integer above maximum value. "
            "Expected a value <= 100, but got 101 instead.",
            "integer_above_max_value",
        ),
        (
            -1,
            "Invalid 'limit': integer below minimum value. "
            "Expected a value >= 0, but got -1 instead.",
            "integer_below_min_value",
        ),
        (
            "many",
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        (
            "1.5",
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        (
            "",
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        (
            "9" * 5000,
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        *(
            (
                text,
                "Invalid type for 'limit': expected an integer, but got a string instead.",
                "invalid_type",
            )
            for text in NO_PLAIN_INTEGERS
        ),
    ],
    ids=["101", "-1", "many", "1.5", "empty", "huge", *map(ascii, NO_PLAIN_INTEGERS)],
)
async def test_limits_are_from_0_to_100(
    lists: Lists, kind: str, limit: Any, message: str, code: str
) -> None:
    """An empty page may be asked for."""
    answer = await lists.http.get(lists.urls[kind], params={"limit": limit})
    refused(answer, message, "limit", code)


@each_list("order", aspects=["limit", "error"])
async def test_orders_are_two(lists: Lists, kind: str) -> None:
    """Both are named."""
    answer = await lists.http.get(lists.urls[kind], params={"order": "up"})
    refused(
        answer,
        "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
        "order",
        "invalid_value",
    )


@each_list("after", "before", aspects=["error"])
@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_a_cursor_must_name_an_object_of_the_list(
    lists: Lists, kind: str, cursor: str
) -> None:
    """Not one of another list, and not nothing."""
    other = lists.ids["message" if kind != "message" else "run"][0]
    for unknown in ("nothing", other):
        answer = await lists.http.get(lists.urls[kind], params={cursor: unknown})
        word = kind.rpartition("'s ")[2]
        refused(answer, f"No {word} found with id '{unknown}'.", None, None, 404)


@pytest.mark.parametrize("kind", [kind for kind in ROUTES if kind not in FILTERED])
async def test_unknown_parameters_of_a_query_are_ignored(lists: Lists, kind: str) -> None:
    """Clients add some of their own to those that they know of the hosted service."""
    assert await lists.taken(kind, page=7, limitt=1) == ([4, 3, 2, 1, 0], False)


async def test_a_page_has_twenty_objects_unless_told_otherwise(lists: Lists) -> None:
    """And a hundred at most."""
    thread = {"messages": [HELLO] * 101}
    thread_id = answer_of(await lists.http.post("/v1/threads", json=thread))["id"]
    url = f"/v1/threads/{thread_id}/messages"
    for query, count in ({}, 20), ({"limit": 100}, 100):
        page = answer_of(await lists.http.get(url, params=query))
        assert (len(page["data"]), page["has_more"]) == (count, True)


async def test_a_deleted_object_still_marks_its_place(lists: Lists) -> None:
    """So that a client can delete what it has seen and go on; for assistants and threads too."""
    thread_id = answer_of(await lists.http.post("/v1/threads", json={"messages": [HELLO] * 3}))[
        "id"
    ]
    threads = [answer_of(await lists.http.post("/v1/threads", json={}))["id"] for _ in range(3)]
    made = [
        answer_of(await lists.http.post("/v1/assistants", json={"model": "gpt-4o"}))["id"]
        for _ in range(3)
    ]
    for url in (f"/v1/threads/{thread_id}/messages", "/v1/assistants", "/v1/threads"):
        first, second, third = (
            item["id"] for item in answer_of(await lists.http.get(url, params={"limit": 3}))["data"]
        )
        answer_of(await lists.http.delete(f"{url}/{second}"))
        after = answer_of(await lists.http.get(url, params={"after": second, "limit": 1}))
        before = answer_of(await lists.http.get(url, params={"before": second}))
        assert (after["first_id"], before["last_id"]) == (third, first)
    for left in (0, 2):
        answer_of(await lists.http.delete(f"/v1/assistants/{made[left]}"))
        answer_of(await lists.http.delete(f"/v1/threads/{threads[left]}"))
