"""The official SDK's stream helper over every kind of stream: it never raises, and agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncAssistantEventHandler

from server.engine.protocol import EngineError
from server.engine.scripted import ScriptedEngine
from tests.runs.story import WEATHER, Story, written

TIME = {"type": "function", "function": {"name": "get_time"}}
CALLS = written(("get_weather", '{"city": "Rome"}'), ("get_time", "{}"))


class Listener(AsyncAssistantEventHandler):
    """Remembers all that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.done_texts: list[str] = []
        self.calls: dict[str, str] = {}
        self.done_calls: dict[str, str] = {}
        self.statuses: list[str] = []
        self.ended = False

    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.texts.append(delta.value)
        assert snapshot.value.endswith(delta.value)

    async def on_text_done(self, text: Any) -> None:
        self.done_texts.append(text.value)

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.calls[tool_call.id] = ""

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.calls[snapshot.id] += delta.function.arguments
        assert snapshot.function.arguments == self.calls[snapshot.id]

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.done_calls[tool_call.id] = tool_call.function.arguments

    async def on_event(self, event: Any) -> None:
        if event.event.startswith("thread.run.") and ".step." not in event.event:
            self.statuses.append(event.data.status)

    async def on_end(self) -> None:
        self.ended = True


async def listen(client: openai.AsyncOpenAI, story: Story, **options: Any) -> tuple[Any, Listener]:
    """A run through the helper: the final run as the helper has it, and what it told."""
    listener = Listener()
    async with client.beta.threads.runs.stream(
        thread_id=story.thread_id,
        assistant_id=story.assistant_id,
        event_handler=listener,
        **options,
    ) as stream:
        await stream.until_done()
    assert listener.ended
    return await stream.get_final_run(), listener


async def test_answer(client: openai.AsyncOpenAI, story: Story) -> None:
    """Deltas, snapshots and final objects are those that are stored."""
    story.engine.says("one two three")
    run, listener = await listen(client, story)
    assert "".join(listener.texts) == "one two three"
    assert listener.done_texts == ["one two three"]
    assert listener.statuses == ["queued", "queued", "in_progress", "completed"]
    stored = await client.beta.threads.runs.retrieve(run.id, thread_id=story.thread_id)
    assert stored == run


async def test_calls_and_outputs(client: openai.AsyncOpenAI, story: Story) -> None:
    """Parallel calls come whole, each once; the stream of the submission goes on from there."""
    story.engine.says("Let me look.\n" + CALLS)
    story.engine.says("It is noon and sunny.")
    waiting, listener = await listen(client, story, tools=[WEATHER, TIME])
    asked = waiting.required_action.submit_tool_outputs.tool_calls
    assert listener.calls == {call.id: call.function.arguments for call in asked}
    assert listener.done_calls == listener.calls
    assert listener.done_texts == ["Let me look."]
    second = Listener()
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=waiting.id,
        thread_id=story.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": "ok"} for call in asked],
        event_handler=second,
    ) as stream:
        await stream.until_done()
    assert second.done_texts == ["It is noon and sunny."]
    run = await stream.get_final_run()
    assert run.status == "completed"
    [message] = await stream.get_final_messages()
    stored = await client.beta.threads.messages.retrieve(message.id, thread_id=story.thread_id)
    assert stored.content == message.content


async def test_thread_and_run(client: openai.AsyncOpenAI, story: Story) -> None:
    """The helper that creates the thread too."""
    story.engine.says("one two")
    async with client.beta.threads.create_and_run_stream(
        assistant_id=story.assistant_id,
        thread={"messages": [{"role": "user", "content": "Hi"}]},
    ) as stream:
        text = "".join([piece async for piece in stream.text_deltas])
    assert text == "one two"


async def test_raw_stream(client: openai.AsyncOpenAI, story: Story) -> None:
    """`create(stream=True)` gives each event as its own type, and ends."""
    story.engine.says("one two")
    stream = await client.beta.threads.runs.create(
        thread_id=story.thread_id, assistant_id=story.assistant_id, stream=True
    )
    events = [event async for event in stream]
    assert [event.event for event in events][:1] == ["thread.run.created"]
    assert events[-1].event == "thread.run.completed"
    assert events[-1].data.usage is not None  # type: ignore[union-attr]


ENDS: dict[str, tuple[str, Callable[[ScriptedEngine], None]]] = {
    "crash": ("completed", lambda engine: engine.crashes(after=2, text="one two three")),
    "crash in a call": ("completed", lambda engine: engine.crashes(after=4, text=CALLS)),
    "two crashes": ("failed", lambda engine: [engine.crashes(after=n) for n in (2, 1)]),
    "failure": ("failed", lambda engine: engine.fails(EngineError("No luck."), after=1)),
    "limit": ("incomplete", lambda engine: engine.says("more than sixteen letters")),
    "silence": ("completed", lambda engine: engine.says(pieces=[])),
}


@pytest.mark.parametrize("end", ENDS)
async def test_every_end(client: openai.AsyncOpenAI, story: Story, end: str) -> None:
    """However a run ends the helper does not raise, and what it has is what is stored."""
    status, script = ENDS[end]
    script(story.engine)
    limit = {"max_completion_tokens": 16} if end == "limit" else {}
    run, listener = await listen(client, story, tools=[WEATHER, TIME], **limit)
    assert run.status == status
    stored = await client.beta.threads.runs.retrieve(run.id, thread_id=story.thread_id)
    assert stored == run
    messages = await client.beta.threads.messages.list(story.thread_id, run_id=run.id, order="asc")
    assert "".join(listener.texts) == "".join(
        part.text.value  # type: ignore[union-attr]
        for message in messages.data
        for part in message.content
    )


async def test_cancelled(client: openai.AsyncOpenAI, story: Story) -> None:
    """A cancelled run ends the helper's stream with what was said."""
    story.engine.says("one two three", pause_after=2)
    async with client.beta.threads.runs.stream(
        thread_id=story.thread_id, assistant_id=story.assistant_id
    ) as stream:
        async for text in stream.text_deltas:
            if text == " two":
                run = stream.current_run
                assert run is not None
                await client.beta.threads.runs.cancel(run.id, thread_id=story.thread_id)
        assert (await stream.get_final_run()).status == "cancelled"
        [message] = await stream.get_final_messages()
    assert message.content[0].text.value == "one two"  # type: ignore[union-attr]


async def test_broken_off(client: openai.AsyncOpenAI, story: Story) -> None:
    """A stream that ends before its run raises the SDK's own error, with the server's words."""
    story.engine.says("one two three", pause_after=1)
    stream = await client.beta.threads.runs.create(
        thread_id=story.thread_id, assistant_id=story.assistant_id, stream=True
    )
    async for event in stream:
        if event.event == "thread.message.delta":
            break
    await client.beta.threads.delete(story.thread_id)
    with pytest.raises(openai.APIError, match="was deleted"):
        await anext(stream)


async def test_refused(client: openai.AsyncOpenAI, story: Story) -> None:
    """What is wrong before the stream begins is an ordinary error of the SDK."""
    with pytest.raises(openai.NotFoundError):
        await client.beta.threads.runs.create(
            thread_id=story.thread_id, assistant_id="asst_x", stream=True
        )


async def test_polling(client: openai.AsyncOpenAI, story: Story) -> None:
    """The helpers that poll are told to do so often."""
    story.engine.says(CALLS)
    waiting = await client.beta.threads.runs.create_and_poll(
        thread_id=story.thread_id,
        assistant_id=story.assistant_id,
        tools=[WEATHER, TIME],  # type: ignore[list-item]
    )
    assert waiting.status == "requires_action"
    assert waiting.required_action is not None
    run = await client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=waiting.id,
        thread_id=story.thread_id,
        tool_outputs=[
            {"tool_call_id": call.id, "output": "ok"}
            for call in waiting.required_action.submit_tool_outputs.tool_calls
        ],
    )
    assert run.status == "completed"
