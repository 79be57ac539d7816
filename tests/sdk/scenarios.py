"""What programs do with the Python SDK, each once: `python scenarios.py MODEL_URL SCRIPTED_URL`.

Runs in an environment that has nothing but some version of `openai`. Prints a JSON line for each
scenario: its name, what it saw (the same whatever the version), and the traceback if it failed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction as is_async
from typing import Any, Literal

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from recording import AsyncRecorder, Recorder, checked, collapsed

OPTIONS: dict[str, Any] = {"api_key": "local", "max_retries": 0, "timeout": 30.0}

Scenario = Callable[[Any], Any]
ON_MODEL: list[Scenario] = []
ON_SCRIPT: list[Scenario] = []

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CODE_INTERPRETER: Any = {"type": "code_interpreter"}
LISBON = 'call get_weather {"city": "Lisbon"}'
PORTO = 'call get_weather {"city": "Porto"}'
CREATED = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP = ["thread.run.step.created", "thread.run.step.in_progress"]
ANSWER = [
    *STEP,
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
]
ASKS = [*STEP, "thread.run.step.delta", "thread.run.requires_action"]
RESUMED = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]


def on_model(scenario: Scenario) -> Scenario:
    """Played on the bundled model, whatever it says."""
    ON_MODEL.append(scenario)
    return scenario


def on_script(scenario: Scenario) -> Scenario:
    """Played where the last user message tells the model what to say."""
    ON_SCRIPT.append(scenario)
    return scenario


def started(client: OpenAI, says: str = "Hello!", **assistant: Any) -> dict[str, str]:
    """An assistant and a thread with one message, as a run wants them."""
    made = client.beta.assistants.create(model="gpt-4o", **assistant)
    thread = client.beta.threads.create(messages=[{"role": "user", "content": says}])
    return {"thread_id": thread.id, "assistant_id": made.id}


def messages_of(client: OpenAI, run: Any) -> list[Any]:
    """The run's messages, oldest first."""
    page = client.beta.threads.messages.list(run.thread_id, run_id=run.id, order="asc")
    return [checked(message) for message in page]


def steps_of(client: OpenAI, run: Any) -> list[Any]:
    """The run's steps, oldest first."""
    page = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    return [checked(step) for step in page]


def text_of(message: Any) -> str:
    """All of a message's text."""
    return "".join(part.text.value for part in message.content)


def outputs_for(run: Any, *outputs: str) -> list[Any]:
    """The outputs for the calls that a run waits for, in order."""
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert len(calls) == len(outputs)
    return [
        {"tool_call_id": call.id, "output": output}
        for call, output in zip(calls, outputs, strict=True)
    ]


def address(run: Any) -> dict[str, str]:
    """Where a run is."""
    return {"run_id": run.id, "thread_id": run.thread_id}


def stored(client: OpenAI, run: Any) -> Any:
    """The run as it is kept; must be what the stream said last."""
    kept = checked(client.beta.threads.runs.retrieve(**address(run)))
    assert kept.to_dict() == run.to_dict()
    return kept


def refusal(ask: Callable[[], Any]) -> list[Any]:
    """What an error says, in every way in which the SDK says it."""
    error = caught(ask)
    said = error.body["message"]
    assert error.request_id == error.response.headers["x-request-id"]
    assert said in str(error)
    assert str(error).startswith(f"Error code: {error.status_code} - ")
    message = re.sub(r"'(\w+_)\w{24}'", r"'\1…'", said)
    return [type(error).__name__, error.status_code, error.type, error.param, error.code, message]


def caught(ask: Callable[[], Any]) -> Any:
    """The error that asking raises."""
    try:
        ask()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("there was no error")


@on_model
def assistants(client: OpenAI) -> Any:
    """An assistant is created, read, changed, listed and deleted."""
    made = checked(
        client.beta.assistants.create(
            model="gpt-4o",
            name="Ada",
            description="Counts",
            instructions="Be exact.",
            tools=[WEATHER, {"type": "code_interpreter"}, {"type": "file_search"}],
            metadata={"team": "blue"},
            temperature=0.5,
            top_p=0.9,
            response_format={"type": "json_object"},
        )
    )
    assert made.id.startswith("asst_")
    assert client.beta.assistants.retrieve(made.id).to_dict() == made.to_dict()
    changed = checked(
        client.beta.assistants.update(made.id, name="Grace", metadata={}, tools=[], temperature=1.5)
    )
    assert changed.instructions == "Be exact."
    assert client.beta.assistants.list(limit=1).data[0].to_dict() == changed.to_dict()
    gone = checked(client.beta.assistants.delete(made.id))
    assert gone.id == made.id
    shown = [thing.to_dict() | {"id": "", "created_at": 0} for thing in (made, changed, gone)]
    return [*shown, refusal(lambda: client.beta.assistants.retrieve(made.id))]


@on_model
def threads_and_messages(client: OpenAI) -> Any:
    """A thread and its messages are created, read, changed, listed and deleted."""
    thread = checked(
        client.beta.threads.create(
            messages=[
                {"role": "user", "content": "One", "metadata": {"n": "1"}},
                {"role": "assistant", "content": [{"type": "text", "text": "Two"}]},
            ],
            metadata={"room": "4"},
        )
    )
    assert client.beta.threads.retrieve(thread.id).metadata == {"room": "4"}
    assert checked(client.beta.threads.update(thread.id, metadata={"room": "5"})).id == thread.id
    messages = client.beta.threads.messages
    third = checked(messages.create(thread.id, role="user", content="Three"))
    assert messages.retrieve(third.id, thread_id=thread.id).to_dict() == third.to_dict()
    changed = checked(messages.update(third.id, thread_id=thread.id, metadata={"n": "3"}))
    assert changed.metadata == {"n": "3"}
    said = [(m.role, text_of(checked(m)), m.metadata) for m in messages.list(thread.id)]
    assert checked(messages.delete(third.id, thread_id=thread.id)).deleted
    left = [text_of(message) for message in messages.list(thread.id, order="asc")]
    assert checked(client.beta.threads.delete(thread.id)).deleted
    return [said, left, refusal(lambda: messages.list(thread.id))]


@on_model
def pages(client: OpenAI) -> Any:
    """Iterating a list goes through all its pages, in both orders, without skip or repeat."""
    thread = client.beta.threads.create()
    messages = client.beta.threads.messages
    ids = [messages.create(thread.id, role="user", content=str(n)).id for n in range(7)]
    up = [m.id for m in messages.list(thread.id, limit=2, order="asc")]
    down = [m.id for m in messages.list(thread.id, limit=3)]
    assert up == ids
    assert down == ids[::-1]
    first = messages.list(thread.id, limit=3, order="asc")
    assert (first.first_id, first.last_id, first.has_more) == (ids[0], ids[2], True)
    assert [m.id for m in first.get_next_page().data] == ids[3:6]
    before = messages.list(thread.id, before=ids[3], order="asc", limit=2)
    made = [client.beta.assistants.create(model="gpt-4o").id for _ in range(3)]
    listed = itertools.islice(client.beta.assistants.list(limit=1), 3)
    assert [assistant.id for assistant in listed] == made[::-1]
    return [len(up), len(down), [text_of(message) for message in before.data]]


@on_model
async def pages_async(client: AsyncOpenAI) -> Any:
    """The asynchronous iteration goes through all pages too."""
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": str(n)} for n in range(5)]
    )
    page = client.beta.threads.messages.list(thread.id, limit=2, order="asc")
    return [text_of(message) async for message in page]


@on_model
def models(client: OpenAI) -> Any:
    """Models are listed and read; the name that a program asked for stays its name."""
    listed = [checked(model).id for model in client.models.list()]
    assert "gpt-4o" in listed
    named = checked(client.models.retrieve("gpt-4o"))
    return [named.id, named.object, refusal(lambda: client.models.retrieve("no-such-model"))]


@on_model
def files(client: OpenAI) -> Any:
    """A file is uploaded, read, listed, downloaded and deleted."""
    after: Any = {"anchor": "created_at", "seconds": 3600}
    made = checked(
        client.files.create(file=("naïve.txt", b"One."), purpose="vision", expires_after=after)
    )
    assert made.expires_at == made.created_at + 3600
    assert client.files.wait_for_processing(made.id).to_dict() == made.to_dict()
    assert client.files.retrieve(made.id).to_dict() == made.to_dict()
    other = client.files.create(file=b"Two.", purpose="assistants")
    listed = [checked(each).id for each in client.files.list(limit=1, order="asc")]
    assert listed == [made.id, other.id]
    content = client.files.content(made.id).read()
    refused = refusal(lambda: client.files.content(other.id))
    gone = [checked(client.files.delete(each)).deleted for each in listed]
    shown = made.to_dict() | dict.fromkeys(("id", "created_at", "expires_at"))
    missing = refusal(lambda: client.files.retrieve("file-none"))
    wrong: Any = "nothing"
    return [
        shown,
        content.decode(),
        gone,
        refused,
        missing,
        refusal(lambda: client.files.create(file=b"x", purpose=wrong)),
    ]


@on_model
def uploads(client: OpenAI) -> Any:
    """A file is uploaded in parts by the helper; an upload is cancelled."""
    content = b"0123456789" * 10
    described: dict[str, Any] = {"mime_type": "text/plain", "purpose": "vision"}
    done = checked(
        client.uploads.upload_file_chunked(
            file=content, filename="b.txt", bytes=len(content), part_size=30, **described
        )
    )
    assert client.files.content(done.file.id).read() == content
    begun = client.uploads.create(filename="c.txt", bytes=5, **described)
    assert checked(client.uploads.parts.create(begun.id, data=b"12345")).upload_id == begun.id
    cancelled = checked(client.uploads.cancel(begun.id))
    again = refusal(lambda: client.uploads.complete(begun.id, part_ids=[]))
    assert client.files.delete(done.file.id).deleted
    return [done.status, done.file.filename, done.file.bytes, cancelled.status, again]


@on_model
def vector_stores(client: OpenAI) -> Any:
    """Files come into a store by each of the helpers, are listed, found, changed and taken out."""
    stores = client.vector_stores
    expiry: Any = {"anchor": "last_active_at", "days": 1}
    store = checked(stores.create(name="Animals", expires_after=expiry, metadata={"a": "b"}))
    assert store.expires_at == store.created_at + 24 * 3600
    here = {"vector_store_id": store.id}
    dog = client.files.create(file=("dog.md", b"# Dogs\n\nDogs bark."), purpose="assistants")
    done = [
        checked(stores.files.create_and_poll(dog.id, **here, attributes={"legs": 4, "tame": True})),
        checked(stores.files.upload_and_poll(file=("cat.txt", b"Cats purr."), **here)),
    ]
    bird = client.files.create(file=("bird.txt", b"Birds sing."), purpose="assistants")
    batches = [
        checked(stores.file_batches.create_and_poll(store.id, file_ids=[bird.id])),
        checked(
            stores.file_batches.upload_and_poll(
                store.id, files=[("cow.txt", b"Cows moo."), ("none.txt", b" ")]
            )
        ),
    ]
    listed = [checked(each) for each in stores.files.list(**here, limit=2, order="asc")]
    assert [each.id for each in listed[:3]] == [dog.id, done[1].id, bird.id]
    failed = [each.last_error.code for each in stores.files.list(**here, filter="failed")]
    cancelled = checked(stores.file_batches.cancel(batches[1].id, **here))
    found = [checked(each) for each in stores.search(store.id, query="Who barks? Dogs bark.")]
    assert found[0].score == max(each.score for each in found)
    four: Any = {"type": "eq", "key": "legs", "value": 4}
    with_legs = stores.search(store.id, query=["Dogs", "Cats"], filters=four, max_num_results=3)
    changed = checked(stores.files.update(dog.id, **here, attributes={"legs": 3.5}))
    text = "".join(part.text or "" for part in stores.files.content(dog.id, **here))
    counted = checked(stores.retrieve(store.id))
    renamed = checked(stores.update(store.id, name="Pets", expires_after=None))
    gone = [checked(stores.files.delete(bird.id, **here)).deleted]
    missing = refusal(lambda: stores.files.retrieve(bird.id, **here))
    gone.append(checked(stores.delete(store.id)).deleted)
    gone += [client.files.delete(each).deleted for each in {*(f.id for f in listed)}]
    assert missing[-1] == f"No file found with id '{bird.id}' in vector store '{store.id}'."
    return [
        [each.status for each in (*done, *batches, cancelled)],
        failed,
        [found[0].filename, found[0].attributes, found[0].content[0].text],
        [each.filename for each in with_legs],
        [changed.attributes, text],
        [counted.file_counts.to_dict(), counted.status, renamed.name, renamed.expires_at],
        [missing[:-1], all(gone), refusal(lambda: stores.retrieve("vs_none"))],
    ]


@on_model
def run_polled(client: OpenAI) -> Any:
    """`create_and_poll` ends with an answer in the thread, and usage that adds up."""
    started_ = started(client)
    run = checked(client.beta.threads.runs.create_and_poll(**started_))
    assert run.status == "completed", run.last_error
    (message,) = messages_of(client, run)
    assert text_of(message).strip()
    assert (message.role, message.run_id) == ("assistant", run.id)
    (step,) = steps_of(client, run)
    assert step.step_details.message_creation.message_id == message.id
    assert step.usage.total_tokens == run.usage.total_tokens > 0
    one = client.beta.threads.runs.steps.retrieve(step.id, **address(run))
    assert one.to_dict() == step.to_dict()
    changed = checked(client.beta.threads.runs.update(**address(run), metadata={"k": "v"}))
    listed = [checked(each).id for each in client.beta.threads.runs.list(run.thread_id)]
    assert listed == [run.id]
    return [run.status, message.status, step.status, step.type, changed.metadata]


@on_model
def run_streamed(client: OpenAI) -> Any:
    """The stream helper's handler is told the hosted API's order; the deltas are what is kept."""
    handler = Recorder()
    run = started(client, instructions="Be kind.")
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        stream.until_done()
        final = stream.get_final_run()
        (message,) = stream.get_final_messages()
        (step,) = stream.get_final_run_steps()
    assert collapsed(handler.events) == [*CREATED, *ANSWER]
    stored(client, final)
    kept = messages_of(client, final)
    assert [text_of(message)] == [text_of(each) for each in kept] == handler.texts
    assert [message.to_dict()] == [each.to_dict() for each in kept]
    assert [step.id] == [each.id for each in steps_of(client, final)]
    return handler.story


@on_model
async def run_streamed_async(client: AsyncOpenAI) -> Any:
    """The asynchronous stream helper tells the same story."""
    assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Be kind.")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello!"}])
    handler = AsyncRecorder()
    async with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        await stream.until_done()
        final = await stream.get_final_run()
        (message,) = await stream.get_final_messages()
    assert collapsed(handler.events) == [*CREATED, *ANSWER]
    kept = await client.beta.threads.runs.retrieve(**address(final))
    assert kept.to_dict() == final.to_dict()
    assert [text_of(message)] == handler.texts
    return handler.story


@on_model
def text_deltas(client: OpenAI) -> Any:
    """Without a handler, `text_deltas` gives the answer piece by piece."""
    with client.beta.threads.runs.stream(**started(client)) as stream:
        pieces = list(stream.text_deltas)
        (message,) = stream.get_final_messages()
    assert "".join(pieces) == text_of(message) != ""
    return message.status


@on_model
def raw_stream(client: OpenAI) -> Any:
    """`create(stream=True)` gives the events themselves."""
    with client.beta.threads.runs.create(**started(client), stream=True) as stream:
        events = [checked(event) for event in stream]
    deltas = [e.data.delta for e in events if e.event == "thread.message.delta"]
    text = "".join(part.text.value for delta in deltas for part in delta.content)
    (kept,) = messages_of(client, events[-1].data)
    assert text_of(kept) == text
    return collapsed([event.event for event in events])


@on_model
async def raw_stream_async(client: AsyncOpenAI) -> Any:
    """The asynchronous one does too."""
    assistant = await client.beta.assistants.create(model="gpt-4o")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello!"}])
    stream = await client.beta.threads.runs.create(
        thread_id=thread.id, assistant_id=assistant.id, stream=True
    )
    return collapsed([checked(event).event async for event in stream])


@on_model
def create_and_run(client: OpenAI) -> Any:
    """A thread and its run in one request: at once, polled, and streamed."""
    assistant = client.beta.assistants.create(model="gpt-4o")
    params = {
        "assistant_id": assistant.id,
        "thread": {"messages": [{"role": "user", "content": "Hello!"}], "metadata": {"a": "b"}},
    }
    at_once = checked(client.beta.threads.create_and_run(**params))
    polled = checked(client.beta.threads.create_and_run_poll(**params))
    handler = Recorder()
    with client.beta.threads.create_and_run_stream(**params, event_handler=handler) as stream:
        stream.until_done()
        streamed = stream.get_final_run()
    thread = client.beta.threads.retrieve(streamed.thread_id)
    assert collapsed(handler.events) == ["thread.created", *CREATED, *ANSWER]
    later = client.beta.threads.runs.poll(**address(at_once))
    return [at_once.status, later.status, polled.status, thread.metadata, handler.story]


@on_model
def headers(client: OpenAI) -> Any:
    """Raw answers carry the hosted API's headers, and parse to the same objects."""
    raw = client.beta.threads.with_raw_response.create()
    run = started(client)
    created = client.beta.threads.runs.with_raw_response.create(**run)
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["x-request-id"])
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert int(created.headers["openai-poll-after-ms"]) > 0
    with client.beta.threads.with_streaming_response.create() as streamed:
        assert streamed.parse().object == "thread"
    done = client.beta.threads.runs.poll(**address(created.parse()))
    return [
        raw.status_code,
        raw.headers["openai-version"],
        raw.headers["content-type"],
        done.status,
    ]


@on_model
def errors(client: OpenAI) -> Any:
    """Errors are the SDK's classes, with the hosted API's words, param and code."""
    beta = client.beta
    thread = beta.threads.create().id
    bare = beta.assistants.create(model="gpt-4o").id
    runs, messages = beta.threads.runs, beta.threads.messages
    asks: Iterable[Callable[[], Any]] = (
        lambda: beta.assistants.retrieve("asst_none"),
        lambda: beta.assistants.create(model="no-such-model"),
        lambda: beta.assistants.create(model="gpt-4o", name="n" * 257),
        lambda: beta.assistants.create(model="gpt-4o", temperature=3),
        lambda: beta.assistants.create(model="gpt-4o", extra_body={"colour": "red"}),
        lambda: beta.assistants.list(limit=101),
        lambda: beta.threads.retrieve("thread_none"),
        lambda: beta.threads.create(metadata={"k": 1}),
        lambda: messages.create(thread, role="system", content="x"),
        lambda: messages.create("thread_none", role="user", content="x"),
        lambda: messages.retrieve("msg_none", thread_id=thread),
        lambda: runs.create(thread, assistant_id="asst_none"),
        lambda: runs.create(thread, assistant_id=bare),
        lambda: runs.create(thread, assistant_id=bare, stream=True),
        lambda: runs.retrieve("run_none", thread_id=thread),
        lambda: runs.steps.retrieve("step_none", run_id="run_none", thread_id=thread),
        lambda: beta.threads.create(extra_headers={"OpenAI-Beta": ""}),
        lambda: client.models.delete("gpt-4o"),
    )
    return [refusal(ask) for ask in asks]


@on_script
def tool_round(client: OpenAI) -> Any:
    """A function call is streamed, answered, and its output reaches the model."""
    handler = Recorder()
    run = started(client, LISBON, tools=[WEATHER])
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        stream.until_done()
        asked = stream.get_final_run()
        (step,) = stream.get_final_run_steps()
    assert collapsed(handler.events) == [*CREATED, *ASKS]
    stored(client, asked)
    (call,) = asked.required_action.submit_tool_outputs.tool_calls
    (shown,) = step.step_details.tool_calls
    assert handler.arguments == {call.id: call.function.arguments}
    assert (shown.id, shown.function.arguments) == (call.id, call.function.arguments)
    again = Recorder()
    with client.beta.threads.runs.submit_tool_outputs_stream(
        **address(asked), tool_outputs=outputs_for(asked, "sunny"), event_handler=again
    ) as stream:
        stream.until_done()
        final = stream.get_final_run()
    assert collapsed(again.events) == [*RESUMED, *ANSWER]
    stored(client, final)
    tools, message = steps_of(client, final)
    assert tools.step_details.tool_calls[0].function.output == "sunny"
    used = (tools.usage.total_tokens, message.usage.total_tokens)
    assert sum(used) == final.usage.total_tokens
    return [handler.story, again.story, again.texts, call.function.to_dict()]


@on_script
async def tool_round_async(client: AsyncOpenAI) -> Any:
    """The asynchronous helpers do the same round."""
    assistant = await client.beta.assistants.create(model="gpt-4o", tools=[WEATHER])
    handler, again = AsyncRecorder(), AsyncRecorder()
    async with client.beta.threads.create_and_run_stream(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": LISBON}]},
        event_handler=handler,
    ) as stream:
        await stream.until_done()
        asked = await stream.get_final_run()
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        **address(asked), tool_outputs=outputs_for(asked, "windy"), event_handler=again
    ) as stream:
        await stream.until_done()
        (message,) = await stream.get_final_messages()
    return [handler.story, again.story, text_of(message)]


@on_script
def parallel_calls(client: OpenAI) -> Any:
    """Two calls of one turn have their own ids and arguments, and are answered together."""
    handler = Recorder()
    run = started(client, f"{LISBON}\n{PORTO}", tools=[WEATHER])
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        stream.until_done()
        asked = stream.get_final_run()
        (step,) = stream.get_final_run_steps()
    calls = asked.required_action.submit_tool_outputs.tool_calls
    assert [(c.id, c.function.arguments) for c in calls] == list(handler.arguments.items())
    assert [c.id for c in step.step_details.tool_calls] == [c.id for c in calls]
    submit = client.beta.threads.runs.submit_tool_outputs
    half = outputs_for(asked, "warm", "cold")[:1]
    refused = refusal(lambda: submit(**address(asked), tool_outputs=half))
    done = client.beta.threads.runs.submit_tool_outputs_and_poll(
        **address(asked), tool_outputs=outputs_for(asked, "warm", "cold")
    )
    (message,) = messages_of(client, done)
    arguments = [call.function.arguments for call in calls]
    return [handler.story, arguments, refused[:5], done.status, text_of(message)]


@on_script
def text_before_a_call(client: OpenAI) -> Any:
    """What the model says before it calls is a message of its own, in a step of its own."""
    handler = Recorder()
    run = started(client, f"say Let me look.\n{LISBON}", tools=[WEATHER])
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        stream.until_done()
        asked = stream.get_final_run()
    kinds = [(step.type, step.status) for step in steps_of(client, asked)]
    (message,) = messages_of(client, asked)
    assert [text_of(message)] == handler.texts
    return [kinds, handler.story, text_of(message), message.status]


@on_script
def outputs_submitted(client: OpenAI) -> Any:
    """Plain `submit_tool_outputs` answers with the queued run; streamed raw, with its events."""
    runs = client.beta.threads.runs
    first = checked(runs.create_and_poll(**started(client, LISBON, tools=[WEATHER])))
    queued = checked(
        runs.submit_tool_outputs(**address(first), tool_outputs=outputs_for(first, "dry"))
    )
    polled = runs.poll(**address(queued))
    again = runs.create_and_poll(**started(client, LISBON, tools=[WEATHER]))
    outputs = outputs_for(again, "wet")
    with runs.submit_tool_outputs(**address(again), tool_outputs=outputs, stream=True) as stream:
        events = [checked(event).event for event in stream]
    late = refusal(lambda: runs.submit_tool_outputs(**address(again), tool_outputs=outputs))
    return [first.status, queued.status, polled.status, collapsed(events), late]


@on_script
def cancelled_while_it_talks(client: OpenAI) -> Any:
    """A run that is cancelled mid-sentence keeps the text so far as an incomplete message."""
    handler = Recorder()
    run = started(client, "say One, two, three\nhold")
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        for event in stream:
            if event.event == "thread.message.delta" and handler.texts == ["One, two, three"]:
                asked = checked(client.beta.threads.runs.cancel(**address(stream.current_run)))
        final = stream.get_final_run()
    stored(client, final)
    (message,) = messages_of(client, final)
    (step,) = steps_of(client, final)
    late = refusal(lambda: client.beta.threads.runs.cancel(**address(final)))
    return [
        collapsed(handler.events),
        handler.story,
        [asked.status, final.status, step.status, message.status],
        [text_of(message), message.incomplete_details.reason],
        late,
    ]


@on_script
def cancelled_while_it_waits(client: OpenAI) -> Any:
    """A run that waits for tool outputs can be cancelled; the thread is free again."""
    runs = client.beta.threads.runs
    made = started(client, LISBON, tools=[WEATHER])
    run = runs.create_and_poll(**made)
    say_more = {"thread_id": run.thread_id, "role": "user", "content": "say Fine."}
    busy = [
        refusal(lambda: runs.create(**made))[:5],
        refusal(lambda: client.beta.threads.messages.create(**say_more))[:5],
    ]
    runs.cancel(**address(run))
    ended = runs.poll(**address(run))
    client.beta.threads.messages.create(**say_more)
    following = runs.create_and_poll(**made)
    return [busy, ended.status, following.status, text_of(messages_of(client, following)[0])]


@on_script
def cut_off(client: OpenAI) -> Any:
    """A run at its token limit ends incomplete, with the text that fitted."""
    handler = Recorder()
    run = started(client, "say " + "abcdefg " * 10)
    with client.beta.threads.runs.stream(
        **run, max_completion_tokens=16, event_handler=handler
    ) as stream:
        stream.until_done()
        final = stream.get_final_run()
    stored(client, final)
    (message,) = messages_of(client, final)
    reasons = [final.incomplete_details.reason, message.incomplete_details.reason]
    used = final.usage.completion_tokens
    return [collapsed(handler.events), handler.story, reasons, text_of(message), used]


@on_script
def failed(client: OpenAI) -> Any:
    """A run whose model breaks ends failed; the stream ends in order and nothing is raised."""
    handler = Recorder()
    run = started(client, "say Well, I\nfail")
    with client.beta.threads.runs.stream(**run, event_handler=handler) as stream:
        stream.until_done()
        final = stream.get_final_run()
    stored(client, final)
    return [collapsed(handler.events), final.status, final.last_error.code, handler.texts]


@on_script
def code_interpreter(client: OpenAI) -> Any:
    """Code is streamed and run; its figure and the file that the answer links to can be had."""
    file = client.files.create(file=("numbers.csv", b"1,2"), purpose="assistants")
    tool = CODE_INTERPRETER
    made = started(client, "Hello!", tools=[tool])
    code = "write list.txt\nprint sandbox:/mnt/data/list.txt\ndraw"
    client.beta.threads.messages.create(
        made["thread_id"],
        role="user",
        content=f"call code_interpreter {json.dumps({'code': code})}",
        attachments=[{"file_id": file.id, "tools": [tool]}],
    )
    handler = Recorder()
    with client.beta.threads.runs.stream(**made, event_handler=handler) as stream:
        stream.until_done()
        run = checked(stream.get_final_run())
        (told,) = [checked(message) for message in stream.get_final_messages()]
        shown, _ = [checked(step) for step in stream.get_final_run_steps()]
    stored(client, run)
    (message,) = messages_of(client, run)
    assert told.content == message.content
    step, _ = steps_of(client, run)
    (call,) = step.step_details.tool_calls
    assert list(handler.arguments.values()) == [call.code_interpreter.input] == [code]
    outputs = [output.to_dict() for output in call.code_interpreter.outputs]
    (seen,) = shown.step_details.tool_calls
    told_outputs = [output.to_dict() for output in seen.code_interpreter.outputs]
    assert [{**output, "index": n} for n, output in enumerate(outputs)] == told_outputs
    figure, text = message.content
    assert figure.image_file.file_id == outputs[1]["image"]["file_id"]
    picture = client.files.content(figure.image_file.file_id).read()
    (link,) = text.text.annotations
    assert text.text.value[link.start_index : link.end_index] == link.text
    made_file = checked(client.files.retrieve(link.file_path.file_id))
    listed = client.files.content(made_file.id).read().decode()
    names = [made_file.filename, made_file.purpose, listed, link.text, link.type]
    gone = [client.files.delete(each).deleted for each in (file.id, made_file.id)]
    return [
        [run.status, step.status, collapsed(handler.events), handler.story],
        [outputs[0], picture[1:4].decode(), text.text.value],
        [*names, all(gone), client.files.delete(figure.image_file.file_id).deleted],
    ]


@on_script
def code_cancelled(client: OpenAI) -> Any:
    """A run is cancelled while its code runs."""
    made = started(client, 'call code_interpreter {"code": "hold"}', tools=[CODE_INTERPRETER])
    handler = Recorder()
    with client.beta.threads.runs.stream(**made, event_handler=handler) as stream:
        for event in stream:
            if event.event == "thread.run.step.delta" and "hold" in handler.arguments.values():
                client.beta.threads.runs.cancel(**address(stream.current_run))
        final = stream.get_final_run()
    stored(client, final)
    (step,) = steps_of(client, final)
    (call,) = step.step_details.tool_calls
    return [final.status, step.status, collapsed(handler.events), call.code_interpreter.to_dict()]


@on_script
def file_search(client: OpenAI) -> Any:
    """A file that is attached to a message is searched, and the answer cites it in its place."""
    sent = ("dogs.md", b"Dogs bark at the moon every night.")
    file = client.files.create(file=sent, purpose="assistants")
    search: Any = {"type": "file_search"}
    made = started(client, "Hello!", tools=[search])
    client.beta.threads.messages.create(
        made["thread_id"],
        role="user",
        content='call file_search {"query": "When do dogs bark?"}',
        attachments=[{"file_id": file.id, "tools": [search]}],
    )
    content: Any = "step_details.tool_calls[*].file_search.results[*].content"
    handler = Recorder()
    with client.beta.threads.runs.stream(
        **made, include=[content], event_handler=handler
    ) as stream:
        stream.until_done()
        run = checked(stream.get_final_run())
        (told,) = [checked(message) for message in stream.get_final_messages()]
    (message,) = messages_of(client, run)
    assert told.content == message.content
    text = message.content[0].text
    places = [text.value[each.start_index : each.end_index] for each in text.annotations]
    assert places == [each.text for each in text.annotations]
    assert {each.file_citation.file_id for each in text.annotations} == {file.id}
    plain = steps_of(client, run)[0].step_details.tool_calls[0].file_search.results[0]
    step = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, include=[content])
    full = checked(step.data[-1]).step_details.tool_calls[0].file_search.results[0]
    assert (plain.file_id, plain.score, plain.content) == (full.file_id, full.score, None)
    assert client.files.delete(file.id).deleted
    return [run.status, collapsed(handler.events), text.value, full.file_name, full.content[0].text]


@on_script
def exact_text(client: OpenAI) -> Any:
    """Text arrives and is kept to the last character, in any writing."""
    text = "Grüße, 世界 👩‍👩‍👧 — naïve ﷽ \u0301!"
    with client.beta.threads.runs.stream(**started(client, f"say {text}")) as stream:
        pieces = list(stream.text_deltas)
        final = stream.get_final_run()
    (message,) = messages_of(client, final)
    assert "".join(pieces) == text_of(message) == text
    assert len(pieces) > 1
    return text


@on_script
def reader_that_leaves(client: OpenAI) -> Any:
    """A program that stops reading loses nothing: the run goes on to its end."""
    with client.beta.threads.runs.create(
        **started(client, "say One two three four."), stream=True
    ) as stream:
        run = next(iter(stream)).data
    ended = client.beta.threads.runs.poll(**address(run))
    return [ended.status, text_of(messages_of(client, ended)[0])]


@on_script
def overrides(client: OpenAI) -> Any:
    """What a run is given is kept on it, and its messages in the thread."""
    made = started(client, "say Nothing.", instructions="Be brief.", metadata={"of": "assistant"})
    run = checked(
        client.beta.threads.runs.create_and_poll(
            **made,
            model="gpt-4o-mini",
            additional_instructions="Be kind.",
            additional_messages=[{"role": "user", "content": "say Something."}],
            metadata={"of": "run"},
            temperature=0.2,
            top_p=0.8,
            max_prompt_tokens=2000,
            max_completion_tokens=500,
            truncation_strategy={"type": "last_messages", "last_messages": 4},
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            parallel_tool_calls=False,
            response_format={"type": "text"},
        )
    )
    kept = run.to_dict()
    names = (
        *("model", "instructions", "metadata", "temperature", "top_p", "max_prompt_tokens"),
        *("max_completion_tokens", "truncation_strategy", "tools", "tool_choice"),
        *("parallel_tool_calls", "response_format", "status"),
    )
    said = [text_of(m) for m in client.beta.threads.messages.list(run.thread_id, order="asc")]
    return [{name: kept[name] for name in names}, said]


@on_script
async def many_at_once(client: AsyncOpenAI) -> Any:
    """Streams that run beside each other do not mix."""

    async def answer(number: int) -> str:
        assistant = await client.beta.assistants.create(model="gpt-4o")
        message = {"role": "user", "content": f"say I am number {number} of many."}
        handler = AsyncRecorder()
        async with client.beta.threads.create_and_run_stream(
            assistant_id=assistant.id, thread={"messages": [message]}, event_handler=handler
        ) as stream:
            await stream.until_done()
        return handler.texts[0]

    return await asyncio.gather(*map(answer, range(20)))


class Verdict(BaseModel):
    good: bool
    grade: Literal[1, 2, 3]


class GetWeather(BaseModel):
    city: str


def asking(says: str) -> Any:
    """A plain call's model and its one message."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": says}]}


@on_model
def chat_created(client: OpenAI) -> Any:
    """A plain call is answered, and its tokens add up."""
    answer = checked(client.chat.completions.create(**asking("Hello!"), max_completion_tokens=64))
    (choice,) = answer.choices
    assert choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == answer.usage.total_tokens
    return [answer.object, answer.model, choice.message.role, answer.system_fingerprint[:3]]


@on_model
def chat_parsed(client: OpenAI) -> Any:
    """`parse` gives an object of the program's own class, whatever the model would rather say."""
    answer = client.chat.completions.parse(
        **asking("Is this good?"), response_format=Verdict, max_completion_tokens=64
    )
    message = answer.choices[0].message
    assert message.parsed == Verdict.model_validate_json(message.content)
    return [type(message.parsed).__name__, message.refusal]


@on_script
def chat_streamed(client: OpenAI) -> Any:
    """Plainly and with the helper, the pieces are the text; the usage comes last."""
    text = "One, 二, \N{SNOWMAN} and four."
    usage = {"include_usage": True}
    *chunks, last = map(
        checked,
        client.chat.completions.create(**asking(f"say {text}"), stream=True, stream_options=usage),
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == text
    with client.chat.completions.stream(**asking(f"say {text}"), stream_options=usage) as stream:
        kinds = collapsed([event.type for event in stream if event.type != "chunk"])
        final = stream.get_final_completion()
    assert final.usage == last.usage
    return [kinds, final.choices[0].message.content, final.choices[0].finish_reason]


@on_script
def chat_tools(client: OpenAI) -> Any:
    """A call is parsed, answered, and its output told: the answer itself goes back as it came."""
    tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
    messages: list[Any] = [{"role": "user", "content": f"{LISBON}\n{PORTO}"}]
    with client.chat.completions.stream(model="gpt-4o", messages=messages, tools=tools) as stream:
        kinds = collapsed([event.type for event in stream if event.type != "chunk"])
        asked = stream.get_final_completion().choices[0]
    calls = asked.message.tool_calls or []
    messages.append(asked.message)
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"{number}: sunny"}
        for number, call in enumerate(calls)
    ]
    answer = checked(client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools))
    cities = [call.function.parsed_arguments.city for call in calls]
    return [kinds, asked.finish_reason, cities, answer.choices[0].message.content]


@on_script
def chat_refused(client: OpenAI) -> Any:
    """What is wrong is told as an error, also in the middle of a stream."""
    create = client.chat.completions.create
    unknown = refusal(lambda: create(**{**asking("say Hi."), "model": "no-such-model"}))
    foreign = refusal(lambda: create(**asking("say Hi."), extra_body={"foo": 1}))
    read: list[str] = []
    try:
        chunks = create(**asking("say Well, I\nfail"), stream=True)
        read.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
    except openai.APIError as error:
        return [unknown, foreign, "".join(read), error.message]
    raise AssertionError("there was no error")


@on_script
async def chat_many_at_once(client: AsyncOpenAI) -> Any:
    """Plain calls that run beside each other do not mix."""
    create = client.chat.completions.create
    answers = await asyncio.gather(*(create(**asking(f"say I am {n}.")) for n in range(20)))
    return [answer.choices[0].message.content for answer in answers]


def play(scenario: Scenario, client: OpenAI) -> dict[str, Any]:
    """Run one scenario; never raises."""
    try:
        saw = scenario(client) if not is_async(scenario) else asyncio.run(apart(scenario, client))
    except Exception:  # noqa: BLE001 - whatever it is, it is what the test reports
        return {"name": scenario.__name__, "failure": traceback.format_exc()}
    return {"name": scenario.__name__, "saw": saw}


async def apart(scenario: Scenario, client: OpenAI) -> Any:
    """Play with an asynchronous client of the same server, made for this scenario's loop."""
    async with AsyncOpenAI(base_url=client.base_url, **OPTIONS) as own:
        return await scenario(own)


def main(model_url: str, scripted_url: str) -> None:
    """Play them all."""
    warnings.simplefilter("ignore", DeprecationWarning)
    for scenarios, url in ((ON_MODEL, model_url), (ON_SCRIPT, scripted_url)):
        with OpenAI(base_url=url, **OPTIONS) as client:
            for scenario in scenarios:
                line = json.dumps(play(scenario, client), ensure_ascii=False)
                print(line, flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main(*sys.argv[1:])
