"""Runs as requests: what a run is created with, what is refused, and how it is read afterwards.

What a run does is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from server.engine.scripted import ScriptedEngine
from tests.api.wire import (
    BOTH,
    HELLO,
    RUN,
    RUNS,
    SUBMIT,
    Json,
    World,
    answer_of,
    at,
    error_of,
    refused,
)
from tests.covering import covers
from tests.support import eventually, live_server, parse_events

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET_RUN = "GET /v1/threads/{thread_id}/runs/{run_id}"
CANCEL = "POST /v1/threads/{thread_id}/runs/{run_id}/cancel"
EVENTS = "GET /v1/threads/{thread_id}/runs/{run_id}/events"
STEPS = "GET /v1/threads/{thread_id}/runs/{run_id}/steps"
STEP = "GET /v1/threads/{thread_id}/runs/{run_id}/steps/{step_id}"
OVERRIDES = (
    "model instructions tools metadata temperature top_p max_prompt_tokens max_completion_tokens "
    "truncation_strategy tool_choice parallel_tool_calls response_format stream"
)
INCLUDE = "step_details.tool_calls[*].file_search.results[*].content"
ADD = {"type": "function", "function": {"name": "add"}}


async def ended(http: httpx.AsyncClient, run: Json) -> Json:
    """A run when there is nothing more to wait for."""
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"

    async def read() -> Json:
        found: Json = answer_of(await http.get(url))
        return found

    busy = ("queued", "in_progress", "cancelling")
    found: Json = await eventually(read, lambda found: found["status"] not in busy)
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def waiting(world: World, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Json]]:
    """A server of its own, and a run there that waits for the outputs of two calls."""
    engine = ScriptedEngine()
    call = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    engine.says(f"{call}\n{call}")
    async with live_server(tmp_path / "data", engine) as server, server.http() as http:
        body = {"model": "gpt-4o", "tools": [ADD]}
        assistant = answer_of(await http.post("/v1/assistants", json=body))
        both = {"assistant_id": assistant["id"], "thread": {"messages": [HELLO]}}
        run = await ended(http, answer_of(await http.post("/v1/threads/runs", json=both)))
        assert run["status"] == "requires_action"
        yield http, run


def calls_of(run: Json) -> list[str]:
    """The ids of the calls that a run waits for."""
    calls = at(run, "required_action.submit_tool_outputs.tool_calls")
    return [call["id"] for call in calls]


@covers(RUNS, "answer thread_id assistant_id", "taken")
@covers(RUNS, OVERRIDES, "default")
@covers(RUNS, "reasoning_effort additional_instructions additional_messages include[]", "default")
async def test_a_run_is_queued_with_defaults(world: World) -> None:
    """Nothing has happened yet; it ends ten minutes later at the latest; no instructions is ''."""
    answer = await world.post(RUNS, {})
    run = answer_of(answer)
    assert answer.headers["openai-poll-after-ms"] == "100"
    assert run == {
        "id": run["id"],
        "object": "thread.run",
        "created_at": run["created_at"],
        "assistant_id": world.assistant_id,
        "thread_id": run["thread_id"],
        "status": "queued",
        "started_at": None,
        "expires_at": run["created_at"] + 600,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": "gpt-4o",
        "instructions": "",
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    assert [m["content"] for m in await messages_of(world, run)][:1] == [
        [{"type": "text", "text": {"value": "Hello!", "annotations": []}}]
    ]


async def messages_of(world: World, run: Json) -> list[Json]:
    """The messages of a run's thread, oldest first."""
    url = f"/v1/threads/{run['thread_id']}/messages?order=asc"
    found: list[Json] = answer_of(await world.http.get(url))["data"]
    return found


@covers(BOTH, "answer assistant_id thread", "taken")
@covers(BOTH, f"{OVERRIDES} thread tool_resources", "default")
async def test_a_run_comes_with_its_thread(world: World) -> None:
    """One request makes both; the thread has what it was given."""
    thread = {"messages": [HELLO], "metadata": {"a": "b"}}
    run = answer_of(await world.post(BOTH, {"thread": thread}))
    alone = answer_of(await world.post(RUNS, {}))
    same = {key: run[key] for key in run if key not in ("id", "thread_id", "created_at")}
    assert same == {**{key: alone[key] for key in same}, "expires_at": run["created_at"] + 600}
    shown = answer_of(await world.http.get(f"/v1/threads/{run['thread_id']}"))
    assert shown["metadata"] == {"a": "b"}
    assert (await messages_of(world, run))[0]["role"] == "user"
    refused(
        await world.http.post("/v1/threads/runs", json={"assistant_id": world.assistant_id}),
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        None,
        "invalid_thread",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instructions", "Be brief."),
        ("tools", [{"type": "code_interpreter"}]),
        ("temperature", 0.5),
        ("top_p", 0.25),
        ("reasoning_effort", "low"),
        ("response_format", {"type": "json_object"}),
        ("model", "gpt-4o-mini"),
    ],
)
@pytest.mark.parametrize("route", [RUNS, BOTH])
async def test_a_run_has_from_its_assistant_what_it_does_not_override(
    world: World, route: str, field: str, value: object
) -> None:
    """A copy, as it was when the run was created."""
    assistant = await world.create("/v1/assistants", {"model": "gpt-4o", field: value})
    run = answer_of(await world.post(route, {"assistant_id": assistant["id"]}))
    assert (run[field], run["assistant_id"]) == (value, assistant["id"])


@covers(RUNS, "additional_instructions", "taken")
async def test_additional_instructions_follow_after_a_blank_line(world: World) -> None:
    """After the run's own instructions, or the assistant's, or alone."""
    brief = await world.create("/v1/assistants", {"model": "gpt-4o", "instructions": "Be brief."})
    for fields, shown in (
        ({"assistant_id": brief["id"]}, "Be brief.\n\nSmile."),
        ({"assistant_id": brief["id"], "instructions": "Sing."}, "Sing.\n\nSmile."),
        ({}, "Smile."),
    ):
        run = answer_of(await world.post(RUNS, {"additional_instructions": "Smile.", **fields}))
        assert run["instructions"] == shown


@covers(RUNS, "additional_messages", "taken")
async def test_additional_messages_stay_in_the_thread(world: World) -> None:
    """Before the run's answer, and of no run."""
    more = [{"role": "assistant", "content": "Hi."}, {**HELLO, "metadata": {"a": "b"}}]
    run = answer_of(await world.post(RUNS, {"additional_messages": more}))
    shown = await messages_of(world, run)
    assert [m["role"] for m in shown[:3]] == ["user", "assistant", "user"]
    assert [m["run_id"] for m in shown[:3]] == [None] * 3
    assert shown[2]["metadata"] == {"a": "b"}


@covers(RUNS, "include[]", "taken")
@covers(STEP, "include[]", "taken", "default")
@covers(STEPS, "include[]", "taken", "default")
@pytest.mark.parametrize("name", ["include[]", "include", "include[0]"])
async def test_file_contents_can_be_asked_for(world: World, name: str) -> None:
    """In brackets, or counted as PHP does it, or bare; without any to show nothing changes."""
    for route in (STEP, STEPS):
        plain = await world.send(route)
        assert (await world.send(route, params={name: INCLUDE})).text == plain.text
    url = f"/v1/threads/{await world.thread(HELLO)}/runs"
    body = {"assistant_id": world.assistant_id}
    run = answer_of(await world.http.post(url, params={name: INCLUDE}, json=body))
    assert run["status"] == "queued"


@pytest.mark.parametrize(
    "route", [pytest.param(r, marks=covers(r, "include[]", "error")) for r in (RUNS, STEP, STEPS)]
)
async def test_nothing_else_can_be_included(world: World, route: str) -> None:
    """The one value that exists is named."""
    body = {"assistant_id": world.assistant_id} if route == RUNS else None
    refused(
        await world.send(route, body, params={"include[]": "usage"}),
        f"Invalid value: 'usage'. Supported values are: '{INCLUDE}'.",
        "include[0]",
        "invalid_value",
    )


@pytest.mark.parametrize(
    "route", [pytest.param(route, marks=covers(route, "stream", "taken")) for route in (RUNS, BOTH)]
)
async def test_a_run_can_be_streamed(world: World, route: str) -> None:
    """The answer is a stream of events that ends with `done`."""
    answer = await world.post(route, {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["openai-version"] == "2020-10-01"
    events = parse_events(answer.text)
    first = "thread.created" if route == BOTH else "thread.run.created"
    assert [event.name for event in (events[0], *events[-2:])] == [
        first,
        "thread.run.completed",
        "done",
    ]


@pytest.mark.parametrize("route", [RUNS, BOTH])
async def test_an_error_before_the_stream_is_an_ordinary_one(world: World, route: str) -> None:
    """JSON with its status, although a stream was asked for."""
    answer = await world.post(route, {"stream": True, "assistant_id": "asst_x"})
    refused(answer, "No assistant found with id 'asst_x'.", None, None, 404)


@pytest.mark.parametrize("route", [RUNS, BOTH])
async def test_a_run_needs_a_model_that_is_served(world: World, route: str) -> None:
    """The text names it, and nothing is created."""
    refused(
        await world.post(route, {"model": "llama-9"}),
        "The requested model 'llama-9' does not exist.",
        "model",
        "model_not_found",
    )


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        ([], "required", "Tool choice 'required' must be specified with 'tools' parameter."),
        ([], ADD, "Tool choice 'add' not found in 'tools' parameter."),
        (
            [ADD],
            {"type": "function", "function": {"name": "sub"}},
            "Tool choice 'sub' not found in 'tools' parameter.",
        ),
        (
            [ADD],
            {"type": "code_interpreter"},
            "Tool choice 'code_interpreter' not found in 'tools' parameter.",
        ),
    ],
    ids=["required", "no tools", "another function", "another kind"],
)
@pytest.mark.parametrize("route", [RUNS, BOTH])
async def test_a_tool_is_chosen_among_the_runs_own(
    world: World, route: str, tools: list[Json], choice: object, message: str
) -> None:
    """Those of the request, or else of the assistant."""
    assistant = await world.create("/v1/assistants", {"model": "gpt-4o", "tools": tools})
    chosen = {"tools": None, "tool_choice": choice}
    answer = await world.post(route, {**chosen, "assistant_id": assistant["id"]})
    refused(answer, message, "tool_choice", None)
    answer = await world.post(route, {**chosen, "tools": tools})
    refused(answer, message, "tool_choice", None)
    tools = [*tools, {"type": "code_interpreter"}, ADD]
    other = await world.create("/v1/assistants", {"model": "gpt-4o", "tools": tools})
    taken = {**chosen, "assistant_id": other["id"], "tool_choice": ADD}
    assert answer_of(await world.post(route, taken))["tool_choice"] == ADD
    for free in ("none", "auto"):
        answer_of(await world.post(route, {"tool_choice": free, "tools": []}))


@covers(GET_RUN, "answer thread_id run_id", "taken")
async def test_a_completed_run_tells_what_it_took(world: World) -> None:
    """Its times, its usage with all details, and no deadline any more."""
    answer = await world.send(GET_RUN)
    run = answer_of(answer)
    assert answer.headers["openai-poll-after-ms"] == "100"
    assert (run["status"], run["expires_at"]) == ("completed", None)
    assert run["created_at"] <= run["started_at"] <= run["completed_at"]
    usage = run["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert usage["prompt_token_details"] == {"cached_tokens": 0}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


@covers(RUN, "answer thread_id run_id metadata", "taken")
@covers(RUN, "metadata", "default")
async def test_only_a_runs_metadata_can_be_changed(world: World) -> None:
    """As a whole, also while it is active."""
    run = await ended(world.http, answer_of(await world.post(BOTH, {"metadata": {"a": "1"}})))
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    for sent, shown in (
        ({}, {"a": "1"}),
        ({"metadata": {"b": "2"}}, {"b": "2"}),
        ({"metadata": None}, {}),
    ):
        answer = await world.http.post(url, json=sent)
        assert answer_of(answer) == {**run, "metadata": shown}
        assert answer.headers["openai-poll-after-ms"] == "100"


async def test_an_active_runs_metadata_can_be_changed(
    waiting: tuple[httpx.AsyncClient, Json],
) -> None:
    """The hosted API refused it once; its SDKs' types allow it."""
    http, run = waiting
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    changed = answer_of(await http.post(url, json={"metadata": {"a": "b"}}))
    assert changed == {**run, "metadata": {"a": "b"}}


@covers("GET /v1/threads/{thread_id}/runs", "answer thread_id", "taken")
async def test_runs_are_listed_as_they_are_retrieved(world: World) -> None:
    """The same objects."""
    page = answer_of(await world.send("GET /v1/threads/{thread_id}/runs"))
    assert page["data"] == [answer_of(await world.send(GET_RUN))]
    empty = await world.thread()
    assert answer_of(await world.http.get(f"/v1/threads/{empty}/runs")) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@covers(STEPS, "answer thread_id run_id", "taken")
@covers(STEP, "answer thread_id run_id step_id", "taken")
async def test_a_step_tells_what_it_wrote(world: World) -> None:
    """The step of a message names it; its usage is the run's where it is the only one.

    A step that has ended has no deadline any more.
    """
    page = answer_of(await world.send(STEPS))
    step = answer_of(await world.send(STEP))
    run = answer_of(await world.send(GET_RUN))
    message = answer_of(await world.send("GET /v1/threads/{thread_id}/messages"))["data"][0]
    assert page["data"] == [step]
    assert step == {
        "id": world.step_id,
        "object": "thread.run.step",
        "created_at": step["created_at"],
        "run_id": world.run_id,
        "assistant_id": world.assistant_id,
        "thread_id": world.thread_id,
        "type": "message_creation",
        "status": "completed",
        "cancelled_at": None,
        "completed_at": step["completed_at"],
        "expires_at": None,
        "expired_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": {
            "type": "message_creation",
            "message_creation": {"message_id": message["id"]},
        },
        "usage": run["usage"],
        "metadata": {},
    }


@covers(SUBMIT, "answer thread_id run_id tool_outputs", "taken")
@covers(SUBMIT, "stream", "default")
@covers("ToolOutput", "tool_call_id output", "taken")
@covers("ToolOutput", "output", "default")
async def test_outputs_are_shown_in_their_step(
    waiting: tuple[httpx.AsyncClient, Json],
) -> None:
    """The run is queued again; an output that was left out is empty."""
    http, run = waiting
    first, second = calls_of(run)
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    deadline = answer_of(await http.get(f"{url}/steps"))["data"][0]["expires_at"]
    outputs = [{"tool_call_id": second}, {"tool_call_id": first, "output": "4\N{SNOWMAN}"}]
    answer = await http.post(f"{url}/submit_tool_outputs", json={"tool_outputs": outputs})
    queued = answer_of(answer)
    assert (queued["status"], queued["required_action"]) == ("queued", None)
    assert queued["started_at"] == run["started_at"]
    assert answer.headers["openai-poll-after-ms"] == "100"
    await ended(http, queued)
    step = answer_of(await http.get(f"{url}/steps?order=asc"))["data"][0]
    assert [call["function"]["output"] for call in step["step_details"]["tool_calls"]] == [
        "4\N{SNOWMAN}",
        "",
    ]
    assert (deadline, step["expires_at"]) == (run["expires_at"], None)
    assert [list(call) for call in step["step_details"]["tool_calls"]] == [
        ["id", "type", "function"]
    ] * 2


@covers(SUBMIT, "stream", "taken")
async def test_a_submission_can_be_streamed(waiting: tuple[httpx.AsyncClient, Json]) -> None:
    """Its first event is the end of the step that waited."""
    http, run = waiting
    outputs = [{"tool_call_id": call, "output": ""} for call in calls_of(run)]
    answer = await http.post(
        f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs",
        json={"tool_outputs": outputs, "stream": True},
    )
    events = parse_events(answer.text)
    assert [event.name for event in (events[0], *events[-2:])] == [
        "thread.run.step.completed",
        "thread.run.completed",
        "done",
    ]


@covers(SUBMIT, "tool_outputs", "error")
@covers("ToolOutput", "tool_call_id", "error")
async def test_outputs_must_answer_each_call_once(
    waiting: tuple[httpx.AsyncClient, Json],
) -> None:
    """The text lists what was expected and what came, as Python would; clients parse it."""
    http, run = waiting
    first, second = calls_of(run)
    for given in ([first], [first, "call_x"], [], [first, second, second]):
        refused(
            await http.post(
                f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs",
                json={"tool_outputs": [{"tool_call_id": call, "output": "1"} for call in given]},
            ),
            f"Expected tool outputs for call_ids ['{first}', '{second}'], got {given!r}",
            None,
            None,
        )


async def test_a_waiting_run_locks_its_thread(
    waiting: tuple[httpx.AsyncClient, Json],
) -> None:
    """No message and no run can be added, also not with additional messages; reading goes on."""
    http, run = waiting
    thread_id, run_id = run["thread_id"], run["id"]
    url = f"/v1/threads/{thread_id}"
    refused(
        await http.post(f"{url}/messages", json=HELLO),
        f"Can't add messages to {thread_id} while a run {run_id} is active.",
        None,
        None,
    )
    refused(
        await http.post(
            f"{url}/runs",
            json={"assistant_id": run["assistant_id"], "additional_messages": [HELLO]},
        ),
        f"Thread {thread_id} already has an active run {run_id}.",
        None,
        None,
    )
    page = answer_of(await http.get(f"{url}/messages"))
    assert len(page["data"]) == 1
    message_url = f"{url}/messages/{page['first_id']}"
    assert answer_of(await http.post(message_url, json={"metadata": {"a": "b"}}))["metadata"]
    assert answer_of(await http.post(url, json={"metadata": {"a": "b"}}))["metadata"]
    assert answer_of(await http.delete(message_url))["deleted"]


@covers(CANCEL, "answer thread_id run_id", "taken")
async def test_cancelling_answers_at_once(waiting: tuple[httpx.AsyncClient, Json]) -> None:
    """With the run `cancelling`, its deadline kept; nobody executes it, so it is cancelled soon."""
    http, run = waiting
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    cancelling = answer_of(await http.post(f"{url}/cancel"))
    assert cancelling == {**run, "status": "cancelling", "required_action": None}
    cancelled = await ended(http, cancelling)
    assert (cancelled["status"], cancelled["expires_at"]) == ("cancelled", None)
    assert cancelled["cancelled_at"] >= run["created_at"]
    refused(
        await http.post(f"{url}/cancel"), "Cannot cancel run with status 'cancelled'.", None, None
    )


async def test_a_completed_run_is_neither_cancelled_nor_answered(world: World) -> None:
    """Both say which status it has."""
    refused(await world.send(CANCEL), "Cannot cancel run with status 'completed'.", None, None)
    refused(
        await world.send(SUBMIT, {"tool_outputs": []}),
        'Runs in status "completed" do not accept tool outputs.',
        None,
        None,
    )


@covers(EVENTS, "answer thread_id run_id starting_after last-event-id", "taken")
@covers(EVENTS, "starting_after last-event-id", "default")
async def test_events_can_be_had_again_from_a_number_on(world: World) -> None:
    """All of them, or those after a number, from the query or from the header of a browser."""
    every = parse_events((await world.send(EVENTS)).text)
    assert every[0].name == "thread.run.created"
    assert every[-1].name == "done"
    later = parse_events((await world.send(EVENTS, params={"starting_after": 3})).text)
    assert later == every[3:]
    again = await world.http.get(world.url(EVENTS), headers={"Last-Event-ID": "3"})
    assert parse_events(again.text) == later


@covers(EVENTS, "starting_after", "limit", "error")
@covers(EVENTS, "last-event-id", "error")
async def test_event_numbers_are_whole_and_not_negative(world: World) -> None:
    """In the query and in the header."""
    negative = await world.send(EVENTS, params={"starting_after": -1})
    assert error_of(negative)["code"] == "integer_below_min_value"
    for text in ("two", "1.0", "+1"):
        words = await world.send(EVENTS, params={"starting_after": text})
        assert error_of(words)["code"] == "invalid_type"
    header = await world.http.get(world.url(EVENTS), headers={"Last-Event-ID": "two"})
    assert error_of(header)["param"] == "Last-Event-ID"
