"""The main job: an unchanged program of the official SDK runs an assistant on the local model."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.process import MODEL, ROOT, ServerProcess, served

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

WEATHER: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name."}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`assistants serve` on the bundled model."""
    with served(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    """The official SDK."""
    with server.sdk() as sdk:
        yield sdk


def test_readme(server: ServerProcess) -> None:
    """The README's first program, as it is but for the port, is greeted back by the model."""
    readme = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert program
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(program[1].replace("http://127.0.0.1:8000/v1", server.url), names)
    names["client"].close()
    assert re.search(r"\b(hello|hi|help)\b", printed.getvalue(), re.IGNORECASE)


def test_conversation(client: openai.OpenAI) -> None:
    """Turn after turn on one thread, each run sees and keeps what went before."""
    assistant = client.beta.assistants.create(model="gpt-4o", instructions="You are helpful.")
    thread = client.beta.threads.create()
    sizes = []
    for said in ("Hello!", "My name is Anna.", "What is my name?"):
        client.beta.threads.messages.create(thread.id, role="user", content=said)
        run = client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        assert run.status == "completed", run.last_error
        assert run.usage
        sizes.append(run.usage.prompt_tokens)
    assert sizes == sorted(set(sizes))
    roles = [message.role for message in client.beta.threads.messages.list(thread.id)]
    assert roles == ["assistant", "user"] * 3


CHOICE: dict[str, object] = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def test_an_answer_with_a_form(client: openai.OpenAI) -> None:
    """Even a tiny model that would say hello answers with JSON of the schema."""
    assistant = client.beta.assistants.create(
        model="gpt-4o",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "choice", "schema": CHOICE, "strict": True},
        },
    )
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Hello!"}]}
    )
    assert run.status == "completed", run.last_error
    (message,) = client.beta.threads.messages.list(run.thread_id, run_id=run.id)
    answer = json.loads(message.content[0].text.value)
    assert answer.keys() == {"colour", "count"}
    assert answer["colour"] in ("red", "green")
    assert 1 <= answer["count"] <= 9


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "choose"}}], ids=str
)
def test_a_call_that_must_be_made(client: openai.OpenAI, choice: Any) -> None:
    """To a greeting the model calls a function, with valid arguments, since it has to."""
    choose = {"type": "function", "function": {"name": "choose", "parameters": CHOICE}}
    assistant = client.beta.assistants.create(model="gpt-4o", tools=[choose])
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Hello!"}]},
        tool_choice=choice,
        parallel_tool_calls=False,
    )
    assert run.status == "requires_action", run.last_error
    (call,) = run.required_action.submit_tool_outputs.tool_calls
    assert call.function.name == "choose"
    arguments = json.loads(call.function.arguments)
    assert arguments["colour"] in ("red", "green")
    assert 1 <= arguments["count"] <= 9
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": "done"}],
    )
    assert run.status in ("requires_action", "completed"), run.last_error


def test_tool_round(client: openai.OpenAI) -> None:
    """The model calls a function with what the user named, and tells what came back."""
    assistant = client.beta.assistants.create(model="gpt-4o", tools=[WEATHER])
    question = {"role": "user", "content": "What is the weather in Rome?"}
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [question]}, temperature=0
    )
    assert run.status == "requires_action", run.last_error
    (call,) = run.required_action.submit_tool_outputs.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    weather = json.dumps({"temperature": 21, "condition": "sunny"})
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": weather}],
    )
    assert run.status == "completed", run.last_error
    (message,) = client.beta.threads.messages.list(run.thread_id, run_id=run.id)
    assert "21" in message.content[0].text.value
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]
