"""Several files, each served under its name by a worker of its own, in little memory."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.gguf_files import write_bert
from tests.process import MODEL, ServerProcess, served

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

MEMORY = 300 << 20  # holds two of these at their smallest, and not three
MODELS = {MODEL.stem, "second", "third", "vanished", "broken", "vectors"}
CONFIG = f"""
[models]
memory = {MEMORY}

[model.second]
path = "files/second.gguf"
slots = 2
cache_type_k = "q8_0"
cache_type_v = "q8_0"
context = 1024

[model.vanished]
path = "files/vanished.gguf"

[model.late]
path = "files/late.gguf"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with files in the settings, in `models`, and in its data folder."""
    folder = tmp_path_factory.mktemp("models")
    for place in ("files", "models", "data/models"):
        (folder / place).mkdir(parents=True)
    shutil.copy(MODEL, folder / "files" / "second.gguf")
    shutil.copy(MODEL, folder / "data" / "models" / "third.gguf")
    write_bert(folder / "models" / "vectors.gguf")
    (folder / "models" / "broken.gguf").write_bytes(MODEL.read_bytes()[:1_000_000])
    (folder / "config.toml").write_text(CONFIG)
    with served(folder) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    """The official SDK."""
    with server.sdk() as sdk:
        yield sdk


def states(client: openai.OpenAI) -> dict[str, str]:
    """How each model of this test stands: the checkout's folder may have others."""
    listed = {m.id: m.state for m in client.models.list().data}  # type: ignore[attr-defined]
    return {name: state for name, state in listed.items() if name in MODELS}


def ask(client: openai.OpenAI, model: str) -> Any:
    """Greet a model, in a run to its end."""
    assistant = client.beta.assistants.create(model=model)
    thread = {"messages": [{"role": "user", "content": "Hello!"}]}
    return client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread=thread,  # type: ignore[arg-type]
        temperature=0,
    )


def memory_of(server: ServerProcess) -> dict[str, int]:
    """What each model is counted with, from the metrics."""
    text = httpx.get(server.url.removesuffix("/v1") + "/metrics", trust_env=False).text
    found = re.findall(r'assistants_engine_memory_bytes\{model="(.+)"\} (\S+)', text)
    return {name: int(float(size)) for name, size in found}


def workers(server: ServerProcess) -> dict[str, int]:
    """The resident memory of each worker, by its process."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    sizes = {}
    for child in children:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{child}/status").read_text())
        sizes[child] = int(found[1]) * 1024 if found else 0
    return sizes


def test_models_come_and_go_as_they_are_used(server: ServerProcess, client: openai.OpenAI) -> None:
    """Each answers; what was idle for longest goes; nothing takes more than it was counted with."""
    assert states(client) == {
        MODEL.stem: "ready",
        "second": "unloaded",
        "third": "unloaded",
        "vanished": "failed",
        "broken": "failed",
        "vectors": "unloaded",
    }
    assert ask(client, "second").status == "completed"
    assert client.models.retrieve("second").context_length == 1024  # type: ignore[attr-defined]
    assert ask(client, MODEL.stem).status == "completed"
    assert ask(client, "third").status == "completed"
    assert states(client) | {"broken": "", "vanished": ""} == {
        MODEL.stem: "ready",
        "second": "unloaded",
        "third": "ready",
        "vanished": "",
        "broken": "",
        "vectors": "unloaded",
    }
    counted = memory_of(server)
    assert 0 < sum(counted.values()) <= MEMORY
    assert counted["second"] == 0
    assert len(workers(server)) == 2
    assert sum(workers(server).values()) <= sum(counted.values())


def test_runs_on_a_file_that_cannot_be_used_say_why(client: openai.OpenAI) -> None:
    """In their last error, as the list does."""
    run = ask(client, "broken")
    assert run.status == "failed"
    assert run.last_error.code == "server_error"
    assert run.last_error.message == "models/broken.gguf is cut off: its last tensors are missing."
    assert client.models.retrieve("broken").error == run.last_error.message  # type: ignore[attr-defined]
    assert ask(client, "vanished").last_error.message == "There is no file files/vanished.gguf."


def test_the_banner_says_what_cannot_be_used(server: ServerProcess) -> None:
    """In the words of the list, and not that it is loaded when it is first used."""
    why = "models/broken.gguf is cut off: its last tensors are missing."
    assert f"  model    broken  ({why})\n" in server.banner
    assert "  model    vectors  (loaded when it is first used)\n" in server.banner


def test_embeddings_of_the_official_client(client: openai.OpenAI) -> None:
    """The SDK asks for base64, and gives numbers."""
    texts = ["hello world", "the cat sat", "hello world"]
    answer = client.embeddings.create(model="vectors", input=texts)
    first, second, third = (item.embedding for item in answer.data)
    assert len(first) == 32
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-5)
    assert first == pytest.approx(third, abs=1e-4)
    assert first != pytest.approx(second, abs=1e-2)
    assert answer.usage.prompt_tokens == 4 + 5 + 4
    with pytest.raises(openai.BadRequestError, match="Text 0 has 66 tokens; the model reads 64"):
        client.embeddings.create(model="vectors", input="hello " * 64)
    assert states(client)["vectors"] == "ready"


def test_an_embedding_model_whose_file_comes_late(
    server: ServerProcess, client: openai.OpenAI
) -> None:
    """What it does is known when it is there, and not taken for writing before; nor afterwards."""
    file = server.log.parent / "files" / "late.gguf"
    with pytest.raises(openai.InternalServerError, match="There is no file files/late"):
        client.embeddings.create(model="late", input="hello")
    write_bert(file)
    assert len(client.embeddings.create(model="late", input="hello").data[0].embedding) == 32
    with pytest.raises(openai.BadRequestError, match="The model 'late' makes embeddings"):
        ask(client, "late")
