"""A thread that returns pays only for its new tokens, and the usage says so truthfully."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.beta import Assistant
from openai.types.beta.threads import Run

from tests.process import MODEL, ServerProcess, served

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

INSTRUCTIONS = "You are a helpful assistant of a small shop for tea and coffee. " * 8
# What can be new to the model in a later prompt: the end of the turn before, the user's next words.
NEW_TOKENS = 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a server and its successors keep their data."""
    return tmp_path / "server"


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    """`assistants serve` on the bundled model."""
    with served(folder) as running:
        yield running


def assistant_of(client: openai.OpenAI) -> Assistant:
    """One with instructions that are worth keeping."""
    return client.beta.assistants.create(model="tiny-assistant", instructions=INSTRUCTIONS)


def ask(client: openai.OpenAI, assistant_id: str, thread_id: str, text: str) -> Run:
    """One more turn of a thread; the run at its end."""
    client.beta.threads.messages.create(thread_id, role="user", content=text)
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread_id,
        assistant_id=assistant_id,
        extra_body={"max_completion_tokens": 60, "temperature": 0},
    )
    assert run.status in ("completed", "incomplete"), run.last_error
    return run


def cached(run: Run) -> int:
    """Tokens of the run's prompt that were not computed."""
    assert run.usage is not None
    details = run.usage.model_extra["prompt_token_details"]  # type: ignore[index]
    return int(details["cached_tokens"])


def new(run: Run) -> int:
    """Tokens of the run's prompt that were computed."""
    assert run.usage is not None
    return run.usage.prompt_tokens - cached(run)


def test_later_turns_compute_only_what_is_new(server: ServerProcess) -> None:
    """What the model wrote itself is not computed again either."""
    with server.sdk() as client:
        assistant = assistant_of(client)
        thread = client.beta.threads.create()
        runs = [
            ask(client, assistant.id, thread.id, text)
            for text in ("Hello!", "Who are you?", "Thank you!", "What can you do?")
        ]
        steps = client.beta.threads.runs.steps.list(runs[-1].id, thread_id=thread.id)
    assert cached(runs[0]) == 0
    assert all(0 < new(run) <= NEW_TOKENS for run in runs[1:])
    usage = steps.data[0].usage
    assert usage is not None
    assert usage.model_extra["prompt_token_details"] == {"cached_tokens": cached(runs[-1])}  # type: ignore[index]


def test_other_threads_begin_behind_the_instructions(server: ServerProcess) -> None:
    """What an assistant's threads have in common is computed once."""
    with server.sdk() as client:
        assistant = assistant_of(client)
        first, second = (client.beta.threads.create() for _ in range(2))
        computed = new(ask(client, assistant.id, first.id, "Hello!"))
        run = ask(client, assistant.id, second.id, "Good morning to you!")
    assert cached(run) > 0.7 * computed
    assert new(run) <= NEW_TOKENS


def test_what_is_said_of_one_user_is_not_kept_for_others(server: ServerProcess) -> None:
    """Additional instructions are their thread's own; the assistant's before them are not."""
    with server.sdk() as client:
        assistant = assistant_of(client)
        found = []
        for name in ("Berta", "Someone else", "Berta"):
            thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello!"}])
            run = client.beta.threads.runs.create_and_poll(
                thread_id=thread.id,
                assistant_id=assistant.id,
                additional_instructions=f"{name} is the user, and lives in the old mill.",
            )
            client.beta.threads.delete(thread.id)
            found.append(cached(run))
    assert found[0] == 0
    assert found[1] > 64
    assert found[2] == found[1]


def test_a_thread_resumes_after_a_restart(folder: Path) -> None:
    """Its tokens were saved when the server stopped, and are found by the next one."""
    with served(folder) as server, server.sdk() as client:
        assistant = assistant_of(client)
        thread = client.beta.threads.create()
        ask(client, assistant.id, thread.id, "Hello!")
        assert server.end() == 0
    with served(folder) as server, server.sdk() as client:
        run = ask(client, assistant.id, thread.id, "Who are you?")
        assert new(run) <= NEW_TOKENS
        assert cached(run) > 64


def snapshots(folder: Path, thread_id: str) -> list[Path]:
    """The files that hold something of a thread."""
    return list((folder / "data" / "cache").glob(f"*/{thread_id}.*"))


def test_a_deleted_thread_leaves_nothing_behind(folder: Path) -> None:
    """Neither in the files of the server that deletes it, nor for one that finds them later."""
    with served(folder) as server, server.sdk() as client:
        assistant = assistant_of(client)
        gone, kept = (client.beta.threads.create() for _ in range(2))
        for thread in (gone, kept):
            ask(client, assistant.id, thread.id, "Hello!")
        assert server.end() == 0
    assert snapshots(folder, gone.id)
    with served(folder) as server, server.sdk() as client:
        client.beta.threads.delete(gone.id)
        assert server.end() == 0
    assert not snapshots(folder, gone.id)
    assert snapshots(folder, kept.id)


def test_what_a_killed_server_left_of_deleted_threads_is_removed(folder: Path) -> None:
    """A snapshot whose thread is not in the database any more is an orphan."""
    with served(folder) as server, server.sdk() as client:
        assistant = assistant_of(client)
        thread = client.beta.threads.create()
        ask(client, assistant.id, thread.id, "Hello!")
        assert server.end() == 0
    (kept,) = snapshots(folder, thread.id)
    orphan = kept.with_name(kept.name.replace(thread.id, "thread_gone"))
    os.link(kept, orphan)
    with served(folder) as server, server.sdk() as client:
        assert cached(ask(client, assistant.id, thread.id, "Who are you?")) > 64
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert not orphan.exists()
