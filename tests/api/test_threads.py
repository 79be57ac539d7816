"""Threads from their creation to their deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.wire import HELLO, THREAD, THREADS, Json, World, answer_of, error_of, refused
from tests.covering import covers

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESOURCES = {
    "file_search": {"vector_store_ids": ["vs_1"]},
    "code_interpreter": {"file_ids": ["file-1"]},
}


async def messages_of(world: World, thread_id: str) -> list[Json]:
    """The messages of a thread, oldest first."""
    answer = await world.http.get(f"/v1/threads/{thread_id}/messages?order=asc")
    found: list[Json] = answer_of(answer)["data"]
    return found


@covers(THREADS, "answer", "taken")
@covers(THREADS, "messages tool_resources metadata", "default")
@pytest.mark.parametrize("sent", [{"content": b""}, {"json": {}}])
async def test_a_thread_can_be_made_of_nothing(world: World, sent: dict[str, Any]) -> None:
    """Without a body or with an empty one."""
    thread = answer_of(await world.http.post("/v1/threads", **sent))
    assert thread == {
        "id": thread["id"],
        "object": "thread",
        "created_at": thread["created_at"],
        "metadata": {},
        "tool_resources": {},
    }
    assert await messages_of(world, thread["id"]) == []


@covers(THREADS, "messages", "taken")
async def test_a_thread_begins_with_its_messages_in_order(world: World) -> None:
    """With everything that a message can have; both roles."""
    given = [
        HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
        {
            "role": "user",
            "content": "See this.",
            "attachments": [{"file_id": "file-1", "tools": [{"type": "file_search"}]}],
            "metadata": {"a": "b"},
        },
    ]
    thread_id = await world.thread(*given)
    shown = await messages_of(world, thread_id)
    assert [(m["role"], m["content"][0]["text"]["value"]) for m in shown] == [
        ("user", "Hello!"),
        ("assistant", "Hi."),
        ("user", "See this."),
    ]
    assert shown[2]["attachments"] == world.own(given[2]["attachments"])
    assert shown[2]["metadata"] == {"a": "b"}
    assert {(m["thread_id"], m["run_id"], m["assistant_id"]) for m in shown} == {
        (thread_id, None, None)
    }


async def test_a_thread_is_made_with_all_its_messages_or_not_at_all(world: World) -> None:
    """An error in the second message names it."""
    body = {"messages": [HELLO, {"role": "user", "content": []}]}
    assert error_of(await world.post(THREADS, body))["param"] == "messages[1].content"


@covers("GET /v1/threads/{thread_id}", "answer thread_id", "taken")
async def test_a_thread_is_retrieved_as_it_was_created(world: World) -> None:
    """With its true resources everywhere."""
    body = world.own({"metadata": {"a": "b"}, "tool_resources": RESOURCES})
    answer = await world.http.post("/v1/threads", json=body)
    thread = answer_of(answer)
    assert thread["tool_resources"] == world.own(RESOURCES)
    assert (await world.http.get(f"/v1/threads/{thread['id']}")).text == answer.text


@covers(THREAD, "answer thread_id metadata tool_resources", "taken")
@covers(THREAD, "metadata tool_resources", "default")
async def test_a_modification_changes_what_it_names(world: World) -> None:
    """Metadata as a whole, resources tool by tool; null empties."""
    whole = world.own(RESOURCES)
    thread = await world.create("/v1/threads", {"metadata": {"a": "1"}, "tool_resources": whole})
    url = f"/v1/threads/{thread['id']}"
    assert answer_of(await world.http.post(url, json={})) == thread
    for sent, metadata, resources in (
        ({"metadata": {"b": "2"}}, {"b": "2"}, whole),
        (
            {"tool_resources": {"code_interpreter": {"file_ids": []}}},
            {"b": "2"},
            {**whole, "code_interpreter": {"file_ids": []}},
        ),
        ({"metadata": None}, {}, {**whole, "code_interpreter": {"file_ids": []}}),
        ({"tool_resources": None}, {}, {}),
    ):
        changed = answer_of(await world.http.post(url, json=sent))
        assert changed == {**thread, "metadata": metadata, "tool_resources": resources}
    assert answer_of(await world.http.get(url)) == changed


@covers("DELETE /v1/threads/{thread_id}", "answer thread_id", "taken")
async def test_a_deleted_thread_takes_everything_with_it(world: World) -> None:
    """Its messages and runs are gone with it."""
    thread_id = await world.thread(HELLO)
    url = f"/v1/threads/{thread_id}"
    run = answer_of(await world.http.post(f"{url}/runs", json={"assistant_id": world.assistant_id}))
    assert answer_of(await world.http.delete(url)) == {
        "id": thread_id,
        "object": "thread.deleted",
        "deleted": True,
    }
    message = f"No thread found with id '{thread_id}'."
    for answer in (
        await world.http.get(url),
        await world.http.delete(url),
        await world.http.post(url, json={}),
        await world.http.get(f"{url}/messages"),
        await world.http.post(f"{url}/messages", json=HELLO),
        await world.http.get(f"{url}/runs"),
        await world.http.get(f"{url}/runs/{run['id']}"),
        await world.http.post(f"{url}/runs", json={"assistant_id": world.assistant_id}),
    ):
        refused(answer, message, None, None, 404)
