"""Assistants from their creation to their deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.wire import ASSISTANT, ASSISTANTS, Json, World, answer_of, refused
from tests.covering import covers

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = {"type": "code_interpreter"}
FULL = {
    "model": "gpt-4o",
    "name": "Ada",
    "description": "Counts.",
    "instructions": "Be brief.",
    "reasoning_effort": "low",
    "tools": [CODE],
    "tool_resources": {
        "code_interpreter": {"file_ids": ["file-1"]},
        "file_search": {"vector_store_ids": ["vs_1"]},
    },
    "metadata": {"a": "1", "b": "2"},
    "temperature": 0.5,
    "top_p": 0.25,
    "response_format": {"type": "json_object"},
}


async def created(world: World, **fields: Any) -> Json:
    """A new assistant."""
    return await world.create("/v1/assistants", {"model": "gpt-4o", **fields})


@covers(ASSISTANTS, "answer model", "taken")
@covers(
    ASSISTANTS,
    "name description instructions reasoning_effort tools tool_resources metadata temperature "
    "top_p response_format",
    "default",
)
async def test_an_assistant_of_nothing_but_a_model_has_defaults(world: World) -> None:
    """Null texts, no tools, sampling 1.0, and the model as the client called it."""
    assistant = await created(world)
    assert abs(assistant["created_at"] - world.server.services.clock.now()) <= 1
    assert assistant == {
        "id": assistant["id"],
        "object": "assistant",
        "created_at": assistant["created_at"],
        "name": None,
        "description": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
    }


async def test_whole_numbers_are_shown_as_decimals(world: World) -> None:
    """`1.0` and not `1`, whatever was sent."""
    answer = await world.http.post(
        "/v1/assistants", json={"model": "gpt-4o", "temperature": 2, "top_p": 0}
    )
    assert '"temperature": 2.0,' in answer.text
    assert '"top_p": 0.0,' in answer.text


@covers("GET /v1/assistants/{assistant_id}", "answer assistant_id", "taken")
async def test_an_assistant_is_retrieved_as_it_was_created(world: World) -> None:
    """To the byte."""
    answer = await world.http.post("/v1/assistants", json=world.own(FULL))
    again = await world.http.get(f"/v1/assistants/{answer_of(answer)['id']}")
    assert again.text == answer.text
    answer_of(again)


@covers("DELETE /v1/assistants/{assistant_id}", "answer assistant_id", "taken")
async def test_a_deleted_assistant_is_gone(world: World) -> None:
    """Its id names nothing any more: not to read, not to change, not to delete, not to run."""
    assistant = await created(world)
    url = f"/v1/assistants/{assistant['id']}"
    assert answer_of(await world.http.delete(url)) == {
        "id": assistant["id"],
        "object": "assistant.deleted",
        "deleted": True,
    }
    message = f"No assistant found with id '{assistant['id']}'."
    for answer in (
        await world.http.get(url),
        await world.http.post(url, json={}),
        await world.http.delete(url),
        await world.post("POST /v1/threads/runs", {"assistant_id": assistant["id"]}),
        await world.post("POST /v1/threads/{thread_id}/runs", {"assistant_id": assistant["id"]}),
    ):
        refused(answer, message, None, None, 404)


@covers(ASSISTANT, "answer assistant_id", "taken")
@covers(
    ASSISTANT,
    "model name description instructions reasoning_effort tools tool_resources metadata "
    "temperature top_p response_format",
    "default",
)
async def test_what_is_left_out_of_a_modification_stays(world: World) -> None:
    """Only the keys that are present are changed; the answer is the whole assistant."""
    before = await created(world, **FULL)
    url = f"/v1/assistants/{before['id']}"
    assert answer_of(await world.http.post(url, json={})) == before
    assert answer_of(await world.http.post(url)) == before
    after = answer_of(await world.http.post(url, json={"name": "Grace"}))
    assert after == {**before, "name": "Grace"}
    assert answer_of(await world.http.get(url)) == after


@pytest.mark.parametrize(
    ("field", "default"),
    [
        pytest.param(*row, marks=covers(ASSISTANT, row[0], "taken"))
        for row in [
            ("name", None),
            ("description", None),
            ("instructions", None),
            ("reasoning_effort", None),
            ("metadata", {}),
            ("temperature", 1.0),
            ("top_p", 1.0),
            ("response_format", "auto"),
        ]
    ],
)
async def test_null_takes_a_field_back_to_its_default(
    world: World, field: str, default: Any
) -> None:
    """As if it had never been given."""
    before = await created(world, **FULL)
    answer = await world.http.post(f"/v1/assistants/{before['id']}", json={field: None})
    assert answer_of(answer) == {**before, field: default}


@covers(ASSISTANT, "metadata tools", "taken")
async def test_metadata_and_tools_are_replaced_as_a_whole(world: World) -> None:
    """Nothing is merged."""
    before = await created(world, **FULL)
    url = f"/v1/assistants/{before['id']}"
    changed = {"metadata": {"c": "3"}, "tools": []}
    assert answer_of(await world.http.post(url, json=changed)) == {**before, **changed}


@covers(ASSISTANT, "tool_resources", "taken")
async def test_tool_resources_are_replaced_tool_by_tool(world: World) -> None:
    """One tool's entry leaves the other's alone; null empties all but code interpreter's place."""
    before = await created(world, **FULL)
    url = f"/v1/assistants/{before['id']}"
    for sent, shown in (
        (
            {"file_search": {"vector_store_ids": []}},
            {
                "file_search": {"vector_store_ids": []},
                "code_interpreter": {"file_ids": ["file-1"]},
            },
        ),
        (
            {"code_interpreter": {"file_ids": ["file-2"]}},
            {
                "file_search": {"vector_store_ids": []},
                "code_interpreter": {"file_ids": ["file-2"]},
            },
        ),
        (None, {"code_interpreter": {"file_ids": []}}),
    ):
        body = world.own({"tool_resources": sent})
        answer = answer_of(await world.http.post(url, json=body))
        assert answer["tool_resources"] == world.own(shown)


async def test_code_interpreter_has_a_place_for_files_as_soon_as_it_is_a_tool(
    world: World,
) -> None:
    """On creation and on modification."""
    empty = {"code_interpreter": {"file_ids": []}}
    assert (await created(world, tools=[CODE]))["tool_resources"] == empty
    assistant = await created(world)
    url = f"/v1/assistants/{assistant['id']}"
    changed = answer_of(await world.http.post(url, json={"tools": [CODE]}))
    assert changed["tool_resources"] == empty


@pytest.mark.parametrize("route", [ASSISTANTS, ASSISTANT])
async def test_a_model_that_nothing_serves_is_refused(world: World, route: str) -> None:
    """The text names it."""
    refused(
        await world.post(route, {"model": "llama-9"}),
        "The requested model 'llama-9' does not exist.",
        "model",
        "model_not_found",
    )


async def test_shown_tools_may_be_sent_back(world: World) -> None:
    """What an SDK reads, dumps with its nulls and sends again is taken."""
    tools = [
        {"type": "function", "function": {"name": "f", "description": None, "parameters": None}},
        {"type": "file_search", "file_search": {"max_num_results": 3}},
        CODE,
    ]
    assistant = await created(world, tools=tools)
    url = f"/v1/assistants/{assistant['id']}"
    again = answer_of(await world.http.post(url, json={"tools": assistant["tools"]}))
    assert again == assistant
