"""Messages from their creation to their deletion."""

from __future__ import annotations

import pytest

from tests.api.wire import HELLO, MESSAGE, MESSAGES, Json, World, answer_of, refused
from tests.covering import covers

pytestmark = pytest.mark.asyncio(loop_scope="session")


@covers(MESSAGES, "answer thread_id role content", "taken")
@covers(MESSAGES, "attachments metadata", "default")
async def test_a_message_is_complete_as_it_is_created(world: World) -> None:
    """It has no run and no assistant, and its text has an empty list of annotations."""
    thread_id = await world.thread()
    message = await world.create(f"/v1/threads/{thread_id}/messages", HELLO)
    assert message == {
        "id": message["id"],
        "object": "thread.message",
        "created_at": message["created_at"],
        "assistant_id": None,
        "thread_id": thread_id,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": message["created_at"],
        "role": "user",
        "content": [{"type": "text", "text": {"value": "Hello!", "annotations": []}}],
        "attachments": [],
        "metadata": {},
    }


@covers("GET /v1/threads/{thread_id}/messages", "answer thread_id", "taken")
async def test_a_runs_message_names_its_run_and_assistant(world: World) -> None:
    """As it does in the list."""
    page = answer_of(await world.send("GET /v1/threads/{thread_id}/messages"))
    message = page["data"][0]
    assert (message["role"], message["run_id"], message["assistant_id"]) == (
        "assistant",
        world.run_id,
        world.assistant_id,
    )
    assert page["data"][1]["id"] == world.message_id


@covers("GET /v1/threads/{thread_id}/messages", "run_id", "taken", "default")
async def test_messages_can_be_those_of_one_run(world: World) -> None:
    """Without `run_id` all are shown; a run that wrote none has none."""
    url = world.url("GET /v1/threads/{thread_id}/messages")
    assert len(answer_of(await world.http.get(url))["data"]) == 2
    of_run = answer_of(await world.http.get(url, params={"run_id": world.run_id}))["data"]
    assert [message["run_id"] for message in of_run] == [world.run_id]


@covers("GET /v1/threads/{thread_id}/messages", "run_id", "taken")
async def test_a_run_of_another_thread_has_no_messages_here(world: World) -> None:
    """The list is that of a run which never was."""
    thread_id = await world.thread(HELLO)
    url = f"/v1/threads/{thread_id}/messages"
    assert len(answer_of(await world.http.get(url))["data"]) == 1
    told = [await world.http.get(url, params={"run_id": run}) for run in (world.run_id, "run_x")]
    assert answer_of(told[0])["data"] == []
    assert told[0].text == told[1].text


@covers("GET /v1/threads/{thread_id}/messages/{message_id}", "answer", "taken")
@covers("GET /v1/threads/{thread_id}/messages/{message_id}", "thread_id message_id", "taken")
async def test_a_message_is_retrieved_as_it_was_created(world: World) -> None:
    """With every kind of content, in the order that it was sent."""
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://a.org/b.png", "detail": "low"}},
        {"type": "image_file", "image_file": {"file_id": "file-1"}},
        {"type": "text", "text": ""},
    ]
    thread_id = await world.thread()
    url = f"/v1/threads/{thread_id}/messages"
    answer = await world.http.post(url, json=world.own({"role": "user", "content": content}))
    message = answer_of(answer)
    assert (await world.http.get(f"{url}/{message['id']}")).text == answer.text
    shown = [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {"type": "image_url", "image_url": {"url": "https://a.org/b.png", "detail": "low"}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        {"type": "text", "text": {"value": "", "annotations": []}},
    ]
    assert message["content"] == world.own(shown)


NO_IMAGE = {"type": "image_file", "image_file": {"file_id": "file-none"}}


@covers("ImageFile", "file_id", "error")
@pytest.mark.parametrize("where", ["message", "thread", "run", "thread and run"])
async def test_an_image_that_is_not_there_is_refused(world: World, where: str) -> None:
    """Wherever a message can be added, and nothing is: neither it, nor one before it."""
    thread_id = await world.thread(HELLO)
    url = f"/v1/threads/{thread_id}"
    message = {"role": "user", "content": [NO_IMAGE]}
    both: Json = {"messages": [HELLO, message]}
    assistant = {"assistant_id": world.assistant_id}
    path, body = {
        "message": (f"{url}/messages", message),
        "thread": ("/v1/threads", both),
        "run": (f"{url}/runs", {**assistant, "additional_messages": both["messages"]}),
        "thread and run": ("/v1/threads/runs", {**assistant, "thread": both}),
    }[where]
    threads = "/v1/threads?limit=1"
    before = [answer_of(await world.http.get(list_))["data"] for list_ in (threads, f"{url}/runs")]
    answer = await world.http.post(path, json=body)
    refused(answer, "No such File object: file-none", "content", None, 404)
    after = [answer_of(await world.http.get(list_))["data"] for list_ in (threads, f"{url}/runs")]
    assert after == before
    assert len(answer_of(await world.http.get(f"{url}/messages"))["data"]) == 1


@covers(MESSAGE, "answer thread_id message_id metadata", "taken")
@covers(MESSAGE, "metadata", "default")
async def test_only_a_messages_metadata_can_be_changed(world: World) -> None:
    """As a whole; the answer is the message, with its attachments."""
    attachments = [{"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}]
    thread_id = await world.thread({**HELLO, "metadata": {"a": "1"}, "attachments": attachments})
    url = f"/v1/threads/{thread_id}/messages"
    message = answer_of(await world.http.get(url))["data"][0]
    for sent, shown in (
        ({}, {"a": "1"}),
        ({"metadata": {"b": "2"}}, {"b": "2"}),
        ({"metadata": None}, {}),
    ):
        changed = answer_of(await world.http.post(f"{url}/{message['id']}", json=sent))
        assert changed == {**message, "metadata": shown}
    assert changed["attachments"] == world.own(attachments)
    assert answer_of(await world.http.get(f"{url}/{message['id']}")) == changed


@covers("DELETE /v1/threads/{thread_id}/messages/{message_id}", "answer", "taken")
@covers("DELETE /v1/threads/{thread_id}/messages/{message_id}", "thread_id message_id", "taken")
async def test_a_deleted_message_is_gone(world: World) -> None:
    """From the list too; the others stay."""
    thread_id = await world.thread(HELLO, HELLO)
    url = f"/v1/threads/{thread_id}/messages"
    kept, deleted = [m["id"] for m in answer_of(await world.http.get(url))["data"]]
    assert answer_of(await world.http.delete(f"{url}/{deleted}")) == {
        "id": deleted,
        "object": "thread.message.deleted",
        "deleted": True,
    }
    assert [m["id"] for m in answer_of(await world.http.get(url))["data"]] == [kept]
    for answer in (
        await world.http.get(f"{url}/{deleted}"),
        await world.http.post(f"{url}/{deleted}", json={}),
        await world.http.delete(f"{url}/{deleted}"),
    ):
        refused(answer, f"No message found with id '{deleted}'.", None, None, 404)


async def test_a_message_belongs_to_its_thread(world: World) -> None:
    """Under another thread's URL it is not found."""
    other = await world.thread()
    for method in ("GET", "POST", "DELETE"):
        answer = await world.http.request(
            method, f"/v1/threads/{other}/messages/{world.message_id}"
        )
        refused(answer, f"No message found with id '{world.message_id}'.", None, None, 404)
