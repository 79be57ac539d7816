"""The server with the model that is measured, as users run it, and questions to it."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import openai
from cases import Answer, Case
from corpus.scene import Message

ROOT = Path(__file__).parents[2]
AT_ONCE = 8
LONGEST = 400  # tokens of an answer


@contextmanager
def served(model: Path) -> Iterator["Server"]:
    """A server on a free port, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--model", str(model.absolute())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout
        banner = ""
        for line in process.stdout:
            banner += line
            if line.startswith("Ready."):
                break
        found = re.search(r"http://\S+/v1", banner)
        try:
            if not found:
                raise RuntimeError(f"the server did not start: {banner}")
            yield Server(found[0], model.stem)
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


@dataclass(slots=True)
class Server:
    """Answers conversations, several at once. Counts the tokens of the answers."""

    url: str
    model: str
    temperature: float = 0.0
    tokens: int = 0

    def answers(self, cases: list[Case]) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(self.answer, cases))

    def answer(self, case: Case) -> Answer:
        return self.from_files(case) if case.files else self.from_messages(case)

    def from_files(self, case: Case) -> Answer:
        """Of a run that searches the case's files."""
        client = openai.OpenAI(base_url=self.url, api_key="local", timeout=120)
        store = client.vector_stores.create()
        client.vector_stores.file_batches.upload_and_poll(
            store.id,
            files=[(name, text.encode()) for name, text in case.files],
            poll_interval_ms=50,
        )
        instructions, question = (message["content"] for message in case.messages)
        assistant = client.beta.assistants.create(
            model=self.model, instructions=instructions, tools=[{"type": "file_search"}]
        )
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": question}]},
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
            temperature=self.temperature,
            max_completion_tokens=LONGEST,
            poll_interval_ms=50,
        )
        self.tokens += run.usage.completion_tokens if run.usage else 0
        messages = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data
        parts = [part for message in messages for part in message.content if part.type == "text"]
        ids = [
            note.file_citation.file_id
            for part in parts
            for note in part.text.annotations
            if note.type == "file_citation"
        ]
        cited = tuple(client.files.retrieve(each).filename for each in ids)
        return Answer(" ".join(part.text.value for part in parts), cited=cited)

    def from_messages(self, case: Case) -> Answer:
        body = {
            "model": self.model,
            "messages": list(on_the_wire(case.messages)),
            "temperature": self.temperature,
            "max_completion_tokens": LONGEST,
            **({"tools": case.tools} if case.tools else {}),
        }
        request = Request(
            f"{self.url}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=120) as response:
            completion = json.load(response)
        self.tokens += completion["usage"]["completion_tokens"]
        return answer_of(completion["choices"][0]["message"])


def answer_of(message: dict[str, Any]) -> Answer:
    made = [call["function"] for call in message.get("tool_calls") or []]
    calls = tuple((call["name"], parsed(call["arguments"])) for call in made)
    return Answer(message.get("content") or "", calls)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def on_the_wire(messages: list[Message]) -> Iterator[Message]:
    """The messages as a client sends them: calls with ids, and results that name them."""
    waiting: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            yield {**message, "tool_call_id": waiting.pop(0)}
        elif message.get("tool_calls"):
            waiting = [f"call_{place}_{number}" for number in range(len(message["tool_calls"]))]
            calls = [
                sent(call["function"], name)
                for call, name in zip(message["tool_calls"], waiting, strict=True)
            ]
            yield {**message, "tool_calls": calls}
        else:
            yield message


def sent(function: dict[str, Any], call_id: str) -> dict[str, Any]:
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
