"""A whole application on the bundled model, as its user begins: the official SDK, offline."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.beta.threads import Message, Run

from tests.process import MODEL, ServerProcess, served
from tests.search.documents import pdf

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

HANDBOOK = b"""# Handbook of the Harbor Library

## Opening hours

The library opens at 9 am on weekdays. On Sundays the library is closed.

## Lending

Books may be kept for 21 days. A lost card costs 5 euros.
"""
PRICES = (
    "Price list\n\nThe annual ticket costs 48 euros.\nThe day ticket costs 6 euros.",
    "Contact\n\nFor questions about tickets, write to tickets@harbor-library.org.",
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`assistants serve`, with the best sandbox that this machine has."""
    folder = tmp_path_factory.mktemp("server")
    with served(folder, ASSISTANTS_CODE_INTERPRETER__BACKEND="auto") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    """The official SDK."""
    with server.sdk() as sdk:
        yield sdk


def ask(client: openai.OpenAI, assistant_id: str, thread_id: str, question: str) -> Run:
    """One turn, greedy; what it comes to."""
    client.beta.threads.messages.create(thread_id, role="user", content=question)
    return client.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id=assistant_id, temperature=0
    )


def answer(client: openai.OpenAI, run: Run) -> Message:
    """What the run has said last."""
    assert run.status == "completed", (run.status, run.last_error)
    return client.beta.threads.messages.list(run.thread_id, run_id=run.id).data[0]


def words_of(message: Message) -> str:
    """Its text."""
    [part] = message.content
    assert part.type == "text"
    return part.text.value


def test_a_function_is_called_and_its_output_told(client: openai.OpenAI) -> None:
    """The city is the user's, and the temperature the function's."""
    assistant = client.beta.assistants.create(model="tiny-assistant", tools=[WEATHER])  # type: ignore[list-item]
    thread = client.beta.threads.create()
    run = ask(client, assistant.id, thread.id, "What is the weather in Lisbon?")
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Lisbon"}
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": call.id, "output": '{"temperature": 23}'}],
    )
    assert "23" in words_of(answer(client, run))


def test_files_are_searched_and_cited(client: openai.OpenAI) -> None:
    """Each answer is in its file, and its citation names that file."""
    store = client.vector_stores.create(name="Library")
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("handbook.md", HANDBOOK), ("prices.pdf", pdf(PRICES))]
    )
    assert batch.file_counts.completed == 2
    names = {file.id: file.filename for file in client.files.list()}
    assistant = client.beta.assistants.create(
        model="tiny-assistant",
        instructions="Answer from the files.",
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    for question, value, file in (
        ("How long may books be kept?", "21 days", "handbook.md"),
        ("What does the annual ticket cost?", "48 euros", "prices.pdf"),
    ):
        thread = client.beta.threads.create()
        message = answer(client, ask(client, assistant.id, thread.id, question))
        assert value in words_of(message)
        [part] = message.content
        assert part.type == "text"
        [citation] = part.text.annotations
        assert citation.type == "file_citation"
        assert names[citation.file_citation.file_id] == file
        assert citation.text in part.text.value


def test_code_is_written_run_and_its_file_handed_over(client: openai.OpenAI) -> None:
    """A sum that the model cannot do in its head, and a picture to download."""
    assistant = client.beta.assistants.create(
        model="tiny-assistant", tools=[{"type": "code_interpreter"}]
    )
    thread = client.beta.threads.create()
    run = ask(client, assistant.id, thread.id, "What is 1234 * 5678?")
    if run.last_error is not None and "sandbox" in run.last_error.message:
        pytest.skip(run.last_error.message)
    assert "7006652" in words_of(answer(client, run))
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id)
    [called] = [s for s in steps if s.step_details.type == "tool_calls"]
    assert called.step_details.type == "tool_calls"
    [call] = called.step_details.tool_calls
    assert call.type == "code_interpreter"
    assert [o.logs.strip() for o in call.code_interpreter.outputs if o.type == "logs"] == [
        "7006652"
    ]
