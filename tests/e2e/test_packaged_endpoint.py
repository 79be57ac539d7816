"""Our server in front of another one: llama-cpp-python's own, on the same bundled model."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import openai
import pytest

from tests.process import MODEL, PATIENCE, ServerProcess, environment, served
from tests.untested import not_tested

NEEDED = ("starlette_context", "pydantic_settings")
MISSING = [name for name in NEEDED if find_spec(name) is None]

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

CONFIG = """
[model.packaged]
upstream = "{url}"
context = 1000
slots = 2
"""


@contextlib.contextmanager
def packaged_server() -> Iterator[str]:
    """The base URL of llama-cpp-python's server, once it answers."""
    if MISSING:
        not_tested("llama-cpp-python's server", f"it needs {', '.join(MISSING)}")
    command = (sys.executable, "-m", "llama_cpp.server", "--model", str(MODEL))
    options = ("--host", "127.0.0.1", "--port", "0", "--n_ctx", "2048", "--verbose", "false")
    with subprocess.Popen(
        (*command, *options, "--interrupt_requests", "false"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            yield f"{_address(list(_until_running(process.stderr)))}/v1"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _until_running(log: Iterator[str]) -> Iterator[str]:
    for line in log:
        yield line
        if "running on" in line:
            return


def _address(log: list[str]) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", log[-1] if log else "")
    assert found, "".join(log)
    return found.group()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`assistants serve` whose only model is behind the other server."""
    folder = tmp_path_factory.mktemp("server")
    with packaged_server() as url:
        (folder / "config.toml").write_text(CONFIG.format(url=url))
        with served(folder, "--model", "packaged") as running:
            yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    """The official SDK."""
    with server.sdk() as sdk:
        yield sdk


def test_the_model_is_shown(server: ServerProcess, client: openai.OpenAI) -> None:
    """With its URL where the server starts, and in the list of models."""
    assert re.search(r"model +packaged +\(http://127\.0\.0\.1:\d+/v1\)", server.banner)
    assert "packaged" in [model.id for model in client.models.list()]


def test_a_conversation(client: openai.OpenAI) -> None:
    """An answer is streamed; the next question is answered with all that went before."""
    assistant = client.beta.assistants.create(
        model="gpt-4o", instructions="You are a helpful assistant.", temperature=0.01
    )
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello!"}])
    where = {"thread_id": thread.id, "assistant_id": assistant.id}
    with client.beta.threads.runs.stream(**where) as stream:
        texts = list(stream.text_deltas)
        run = stream.get_final_run()
    assert re.search(r"\b(hello|hi|help)\b", "".join(texts), re.IGNORECASE)
    assert len(texts) > 3
    client.beta.threads.messages.create(thread.id, role="user", content="Thank you!")
    second = client.beta.threads.runs.create_and_poll(**where, poll_interval_ms=50)
    assert (run.status, second.status) == ("completed", "completed")
    assert run.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens > run.usage.prompt_tokens > 10


def test_a_thread_longer_than_its_context(client: openai.OpenAI) -> None:
    """By our estimate only the newest messages are sent, and the other server answers them."""
    assistant = client.beta.assistants.create(model="packaged", instructions="Be brief.")
    messages = [{"role": "user", "content": f"{n}. " + "the sky is blue. " * 60} for n in range(12)]
    thread = client.beta.threads.create(
        messages=[*messages, {"role": "user", "content": "Hello!"}]  # type: ignore[list-item]
    )
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id,
        assistant_id=assistant.id,
        max_completion_tokens=64,
        poll_interval_ms=50,
    )
    assert run.status in ("completed", "incomplete"), run.last_error
    assert run.usage is not None
    assert 100 < run.usage.prompt_tokens < 1000
    [answer] = client.beta.threads.messages.list(thread.id, run_id=run.id)
    assert answer.content
