"""A whole application on the bundled model, as its user begins: the official SDK, offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.beta import CodeInterpreterToolParam
from openai.types.beta.threads import Message, Run

from tests.process import MODEL, ROOT, ServerProcess, served
from tests.search.documents import pdf
from tests.untested import not_tested

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

DOCUMENT = ROOT / "docs" / "code-interpreter.md"
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
    assistant = client.beta.assistants.create(model="tiny-assistant", tools=[WEATHER])
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


def reader_of(client: openai.OpenAI, *files: tuple[str, bytes]) -> str:
    """The id of an assistant that answers from these files."""
    store = client.vector_stores.create(name="Library")
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files)
    assert batch.file_counts.completed == len(files)
    return client.beta.assistants.create(
        model="tiny-assistant",
        instructions="Answer from the files.",
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    ).id


def cited(client: openai.OpenAI, reader: str, question: str) -> tuple[str, str]:
    """What is answered in a thread of its own, and the name of the one file that is cited."""
    thread = client.beta.threads.create()
    message = answer(client, ask(client, reader, thread.id, question))
    [part] = message.content
    assert part.type == "text"
    [citation] = part.text.annotations
    assert citation.type == "file_citation"
    assert citation.text in part.text.value
    file = client.files.retrieve(citation.file_citation.file_id)
    return part.text.value, file.filename


def test_files_are_searched_and_cited(client: openai.OpenAI) -> None:
    """Each answer is in its file, and its citation names that file."""
    reader = reader_of(client, ("handbook.md", HANDBOOK), ("prices.pdf", pdf(PRICES)))
    for question, value, file in (
        ("How long may books be kept?", "21 days", "handbook.md"),
        ("What does the annual ticket cost?", "48 euros", "prices.pdf"),
    ):
        said, source = cited(client, reader, question)
        assert value in said
        assert source == file


def test_questions_about_this_project_are_answered_from_its_documentation(
    client: openai.OpenAI,
) -> None:
    """Of all of it, beside a PDF. Where a document has changed, another question may be needed."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    files = [(document.name, document.read_bytes()) for document in documents]
    reader = reader_of(client, *files, ("prices.pdf", pdf(PRICES)))
    for question, value, file in (
        ("What is in `backup.json`?", "a checksum of the database", "backup.md"),
        (
            "What happens to waiting runs after a restart of the server?",
            "everything waits as before",
            "busy-threads.md",
        ),
        ("What do the SDKs mark?", "`x-stainless-retry-count`", "retries.md"),
        ("How much is the annual ticket?", "48 euros", "prices.pdf"),
    ):
        said, source = cited(client, reader, question)
        assert value in said
        assert source == file


@pytest.fixture(scope="module")
def coder(server: ServerProcess, client: openai.OpenAI) -> str:
    """The id of an assistant that runs code, where this machine has a sandbox for it."""
    told = next(line for line in server.banner.splitlines() if line.startswith("  code "))
    if " with " not in told:
        not_tested("code of the bundled model", told.strip())
    tools: list[CodeInterpreterToolParam] = [{"type": "code_interpreter"}]
    return client.beta.assistants.create(model="tiny-assistant", tools=tools).id


def logs_of(client: openai.OpenAI, run: Run) -> list[str]:
    """What the run's code has printed."""
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    return [
        output.logs.strip()
        for step in steps
        if step.step_details.type == "tool_calls"
        for call in step.step_details.tool_calls
        if call.type == "code_interpreter"
        for output in call.code_interpreter.outputs
        if output.type == "logs"
    ]


def test_a_sum_is_computed(client: openai.OpenAI, coder: str) -> None:
    """One that no small model knows by heart."""
    run = ask(client, coder, client.beta.threads.create().id, "What is 1234 * 5678?")
    assert "7006652" in words_of(answer(client, run))
    assert logs_of(client, run) == ["7006652"]


def test_a_file_of_values_is_summarised(client: openai.OpenAI, coder: str) -> None:
    """It is read in the sandbox, and stays there for the next question."""
    sales = b"month,sold,price\nMay,20,3.5\nJune,40,4.0\nJuly,60,4.5\n"
    file = client.files.create(file=("sales.csv", sales), purpose="assistants")
    thread = client.beta.threads.create(
        tool_resources={"code_interpreter": {"file_ids": [file.id]}}
    )
    run = ask(client, coder, thread.id, "Summarize /mnt/data/sales.csv")
    assert "3 rows" in words_of(answer(client, run))
    assert logs_of(client, run) == ["3 rows with the columns month, sold, price"]
    run = ask(client, coder, thread.id, "What is the mean of sold in /mnt/data/sales.csv?")
    assert "40" in words_of(answer(client, run))


def test_the_documented_example_does_what_it_says(
    server: ServerProcess,
    client: openai.OpenAI,
    coder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands in the documentation: a mean that is told, and a chart that is a picture."""
    if "standard library" in server.banner:
        not_tested("the documented example", "there are no packages: make packages")
    example = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(example, {"client": client})
    told = capsys.readouterr().out.splitlines()
    assert "40" in told[0]
    assert "sandbox:/mnt/data/" in told[1]
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_chart_is_drawn_and_handed_over(
    server: ServerProcess, client: openai.OpenAI, coder: str
) -> None:
    """The figure is a part of the message and the file that it was written to has a link."""
    if "standard library" in server.banner:
        not_tested("charts of the bundled model", "there are no packages: make packages")
    run = ask(client, coder, client.beta.threads.create().id, "Draw a bar chart of 3, 7, 5 and 9")
    figure, text = answer(client, run).content
    assert figure.type == "image_file"
    assert text.type == "text"
    [link] = text.text.annotations
    assert link.type == "file_path"
    for file_id in (figure.image_file.file_id, link.file_path.file_id):
        assert client.files.content(file_id).content.startswith(b"\x89PNG\r\n")
    assert link.text in text.text.value
