"""What streams say and in which order: every way a run can go, event by event."""

from __future__ import annotations

import json
from pathlib import Path

from server.engine.protocol import EngineError
from server.engine.scripted import ScriptedEngine
from tests.covering import covers
from tests.runs.story import (
    HELLO,
    WEATHER,
    Json,
    Story,
    begin_story,
    calls_of,
    granted,
    text_of,
    written,
)
from tests.streams.reader import call_deltas, joined, names, reading_new
from tests.support import ManualClock, live_server, parse_events

BEGUN = ["run.created", "run.queued", "run.in_progress"]
MESSAGE_BEGUN = [
    "run.step.created",
    "run.step.in_progress",
    "message.created",
    "message.in_progress",
]
MESSAGE_ENDED = ["message.completed", "run.step.completed", "run.completed", "done"]
CALL_BEGUN = ["run.step.created", "run.step.in_progress"]
ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'


@covers("POST /v1/threads/{thread_id}/runs", "answer stream", "taken")
async def test_message(story: Story) -> None:
    """A run that answers: each object is created, begun, written and completed, in this order."""
    story.engine.says("Hello there, you.")
    told = await story.stream()
    assert names(told) == [*BEGUN, *MESSAGE_BEGUN, *["message.delta"] * 3, *MESSAGE_ENDED]
    created, queued, begun, step, same_step, message, same_message, *_ = (e.data for e in told)
    assert created == queued
    assert (created["status"], created["started_at"], created["usage"]) == ("queued", None, None)
    assert begun == {**queued, "status": "in_progress", "started_at": begun["started_at"]}
    assert begun["started_at"] is not None
    assert step == same_step
    assert (step["status"], step["usage"], step["type"]) == (
        "in_progress",
        None,
        "message_creation",
    )
    assert step["expires_at"] == created["expires_at"]
    assert step["step_details"]["message_creation"] == {"message_id": message["id"]}
    assert message == same_message
    assert (message["status"], message["content"]) == ("in_progress", [])
    message_done, step_done, run_done = (event.data for event in told[-4:-1])
    assert text_of(message_done) == joined(told) == "Hello there, you."
    assert message_done["completed_at"] is not None
    assert step_done["usage"] == run_done["usage"]
    assert (step_done["completed_at"] is not None, run_done["expires_at"]) == (True, None)
    run = await story.now(created)
    assert run == run_done
    assert await story.steps(run) == [{**step_done, "expires_at": None}]
    assert await story.answers(run) == [message_done]


async def test_bytes(story: Story) -> None:
    """The form is the recorded one, byte for byte: LF, compact, no escapes, one line of data."""
    story.engine.says(pieces=["Grüße ", '"quoted"\n', "\u2028 and 🙂"])
    answer = await story.create(stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["openai-processing-ms"].isdigit()
    body = answer.content
    assert b"\r" not in body
    assert b"id:" not in body.replace(b'"id:', b"")
    assert body.endswith(b"\n\nevent: done\ndata: [DONE]\n\n")
    for block in body.decode().removesuffix("\n\n").split("\n\n")[:-1]:
        name, data = block.split("\n")
        assert name.startswith("event: thread.")
        value = json.loads(data.removeprefix("data: "))
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        assert data == f"data: {text}"
    message = (await story.answers(parse_events(answer.text)[0].data))[0]["id"]
    first = (
        'event: thread.message.delta\ndata: {"id":"%s","object":"thread.message.delta",'
        '"delta":{"content":[{"index":0,"type":"text","text":{"value":"Grüße","annotations":[]}}'
        "]}}\n\n"
    )
    second = (
        'event: thread.message.delta\ndata: {"id":"%s","object":"thread.message.delta",'
        '"delta":{"content":[{"index":0,"type":"text","text":{"value":" \\"quoted\\""}}]}}\n\n'
    )
    assert (first % message + second % message).encode() in body


async def test_characters_that_tokens_split(story: Story) -> None:
    """Deltas hold whole characters, and joined they are the text that is stored."""
    text = "Grüße 🙂 an 東京!"
    data = text.encode()
    story.engine.says(pieces=[data[i : i + 1] for i in range(len(data))])
    told = await story.stream()
    assert joined(told) == text == text_of(told[-4].data)
    assert "\ufffd" not in joined(told)


async def test_bytes_that_are_no_text(story: Story) -> None:
    """Where the model writes no valid UTF-8, stream and store agree on what stands for it."""
    story.engine.says(pieces=["a", b"\xff", "b", b"\xe6\x9d"])
    told = await story.stream()
    assert joined(told) == text_of(told[-4].data) == "a\ufffdb\ufffd"


@covers("POST /v1/threads/runs", "answer stream thread", "taken")
async def test_thread_and_run(story: Story) -> None:
    """A stream that creates the thread too begins with it."""
    body = {
        "assistant_id": story.assistant_id,
        "thread": {"messages": [HELLO], "metadata": {"k": "v"}},
        "stream": True,
    }
    told = parse_events((await story.http.post("/v1/threads/runs", json=body)).text)
    assert names(told)[:4] == ["created", *BEGUN]
    assert told[0].data == granted(await story.http.get(f"/v1/threads/{told[0].data['id']}"))
    assert told[1].data["thread_id"] == told[0].data["id"]
    assert names(told)[-4:] == MESSAGE_ENDED


async def test_calls(story: Story) -> None:
    """Calls: name and id once, then arguments; the stream ends where outputs are waited for."""
    story.engine.says(written(("get_weather", ROME), ("get_weather", OSLO)))
    told = await story.stream()
    deltas = call_deltas(told)
    assert names(told) == [
        *BEGUN,
        *CALL_BEGUN,
        *["run.step.delta"] * len(deltas),
        "run.requires_action",
        "done",
    ]
    step, waiting = told[3].data, told[-2].data
    assert step == told[4].data
    assert step["step_details"] == {"type": "tool_calls", "tool_calls": []}
    assert (waiting["status"], waiting["usage"]) == ("requires_action", None)
    assert {event.data["id"] for event in told[5:-2]} == {step["id"]}
    for index, call in enumerate(calls_of(waiting)):
        first, *more = [delta for delta in deltas if delta["index"] == index]
        assert first == {
            "index": index,
            "id": call["id"],
            "type": "function",
            "function": {"name": "get_weather", "arguments": "", "output": None},
        }
        assert all(list(delta) == ["index", "type", "function"] for delta in more)
        assert all(list(delta["function"]) == ["arguments"] for delta in more)
        arguments = "".join(delta["function"]["arguments"] for delta in more)
        assert arguments == call["function"]["arguments"] == (ROME, OSLO)[index]
    assert deltas == sorted(deltas, key=lambda delta: delta["index"])


@covers("POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", "stream", "taken")
async def test_outputs(story: Story) -> None:
    """The stream of a submission begins with the step that it completes, and goes on as any."""
    story.engine.says(written(("get_weather", ROME)))
    story.engine.says("Sunny.")
    first = await story.stream()
    waiting = first[-2].data
    told = parse_events((await story.submit(waiting, "sun", stream=True)).text)
    assert names(told) == [
        "run.step.completed",
        "run.queued",
        "run.in_progress",
        *MESSAGE_BEGUN,
        "message.delta",
        *MESSAGE_ENDED,
    ]
    step, queued, begun = (event.data for event in told[:3])
    assert step["id"] == first[3].data["id"]
    assert step["step_details"]["tool_calls"][0]["function"]["output"] == "sun"
    assert step["usage"]["total_tokens"] > 0
    assert (queued["required_action"], queued["started_at"]) == (None, waiting["started_at"])
    assert begun["started_at"] >= queued["started_at"]
    assert told[-2].data == await story.now(waiting)


async def test_words_and_calls(story: Story) -> None:
    """Words before a call are a message that is complete before the step of the call begins."""
    story.engine.says("Let me look.\n" + written(("get_weather", ROME)))
    told = await story.stream()
    assert [name for name in names(told) if not name.endswith("delta")] == [
        *BEGUN,
        *MESSAGE_BEGUN,
        "message.completed",
        "run.step.completed",
        *CALL_BEGUN,
        "run.requires_action",
        "done",
    ]
    assert joined(told) == "Let me look."


async def test_failed(story: Story) -> None:
    """What was open fails before the run does."""
    story.engine.fails(EngineError("No luck."), after=1, text="One two")
    told = await story.stream()
    assert names(told) == [
        *BEGUN,
        *MESSAGE_BEGUN,
        "message.delta",
        "message.incomplete",
        "run.step.failed",
        "run.failed",
        "done",
    ]
    message, step, run = (event.data for event in told[-4:-1])
    assert message["incomplete_details"] == {"reason": "run_failed"}
    assert text_of(message) == "One"
    assert (
        step["last_error"]
        == run["last_error"]
        == {
            "code": "server_error",
            "message": "No luck.",
        }
    )
    assert (run["failed_at"] is not None, run["expires_at"]) == (True, None)


async def test_failed_before_anything_was_said(story: Story) -> None:
    """A run that fails at once has no step."""
    told = await story.stream(tools=[{"type": "code_interpreter"}])
    assert names(told) == [*BEGUN, "run.failed", "done"]


async def test_cancelled(story: Story) -> None:
    """The cancel is told first, then what it ends."""
    story.engine.says("one two three", pause_after=2)
    async with reading_new(story) as reader:
        told = await reader.take(9)
        run = told[0].data
        granted(await story.cancel(run))
        told += await reader.rest()
    assert names(told) == [
        *BEGUN,
        *MESSAGE_BEGUN,
        *["message.delta"] * 2,
        "run.cancelling",
        "message.incomplete",
        "run.step.cancelled",
        "run.cancelled",
        "done",
    ]
    assert joined(told) == text_of(told[-4].data) == "one two"
    assert told[-2].data == await story.now(run)


async def test_cancelled_while_queued(tmp_path: Path) -> None:
    """A run that never began has two events more."""
    engine = ScriptedEngine(slots=1)
    engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        await story.paused()
        other = await story.another(HELLO)
        async with reading_new(other) as reader:
            told = await reader.take(2)
            granted(await other.cancel(told[0].data))
            told += await reader.rest()
        engine.resume()
    assert names(told) == [
        "run.created",
        "run.queued",
        "run.cancelling",
        "run.cancelled",
        "done",
    ]
    assert (told[2].data["status"], told[3].data["status"]) == ("cancelling", "cancelled")


async def test_incomplete(story: Story) -> None:
    """At the limit the message is incomplete and its step complete."""
    story.engine.says("more than sixteen letters")
    told = await story.stream(max_completion_tokens=16)
    assert names(told)[-5:] == [
        "message.delta",
        "message.incomplete",
        "run.step.completed",
        "run.incomplete",
        "done",
    ]
    message, step, run = (event.data for event in told[-4:-1])
    assert message["incomplete_details"] == {"reason": "max_tokens"}
    assert joined(told) == text_of(message)
    assert step["usage"] == run["usage"]
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}


async def test_expired(tmp_path: Path, clock: ManualClock) -> None:
    """A run whose time is over ends with what it has open."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
        reading_new(story) as reader,
    ):
        told = await reader.take(8)
        clock.advance(600)
        await server.services.executor.sweep()
        told += await reader.rest()
    assert names(told)[8:] == ["message.incomplete", "run.step.expired", "run.expired", "done"]
    assert told[8].data["incomplete_details"] == {"reason": "run_expired"}


async def test_stored_tools_are_those_that_were_told(story: Story) -> None:
    """A stream and the REST answers show the same run, tools and all."""
    shape = {**WEATHER["function"]["parameters"], "required": ["city"]}
    strict = {"parameters": {**shape, "additionalProperties": False}, "strict": True}
    other: Json = {**WEATHER, "function": {**WEATHER["function"], **strict}}
    told = await story.stream(tools=[other], tool_choice="none")
    run = await story.now(told[0].data)
    assert told[-2].data == run
    assert told[0].data["tools"] == run["tools"]
    assert run["tools"][0]["function"]["strict"] is True
