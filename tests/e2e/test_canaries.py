"""Nothing that clients send is in the log or in the metrics, whatever the level of the log."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.covering import Json, body_schema, form_schema, members, routes
from tests.process import served
from tests.support import BETA, DEADLINE

VARIANTS = 4  # of a union, its members in turn
DEPTH = 5  # of what may lead back to itself


class Canaries:
    """Words that are nowhere else, each sent once."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.sent: list[str] = []

    def new(self) -> str:
        self.sent.append(f"kanari{next(self._numbers):05d}xyz")
        return self.sent[-1]

    def value(self, schema: Json, variant: int, known: Json, depth: int = DEPTH) -> Any:
        """What fits a schema, with a canary wherever there may be a text."""
        choices = [each for each in members(schema) if each.get("type") != "null"]
        if not choices or depth == 0:
            return self.new()
        each = choices[variant % len(choices)]
        if "const" in each or "enum" in each:
            return each.get("const", each.get("enum", [None])[0])
        match each.get("type"):
            case "integer" | "number":
                return each.get("minimum", 1)
            case "boolean":
                return False
            case "array":
                return [self.value(each.get("items", {}), variant, known, depth - 1)]
            case "object":
                return self._object(each, variant, known, depth - 1)
        return self.new()

    def _object(self, schema: Json, variant: int, known: Json, depth: int) -> Json:
        found = {
            name: known[name] if name in known else self.value(each, variant, known, depth)
            for name, each in schema.get("properties", {}).items()
        }
        return found or {self.new(): self.new()}

    def spoiled(self, value: Any) -> Any:
        """The same with a canary in every place."""
        if isinstance(value, dict):
            return {name: self.spoiled(each) for name, each in value.items()} | {self.new(): 1}
        return [self.spoiled(each) for each in value] if isinstance(value, list) else self.new()


@pytest.fixture
def canaries() -> Canaries:
    """None was sent yet."""
    return Canaries()


def bodies(canaries: Canaries, operation: Json, known: Json) -> Iterator[Json]:
    """What a route takes, and what it refuses."""
    schema = body_schema(operation)
    for variant in range(VARIANTS) if schema else ():
        body = canaries.value(schema, variant, known)
        yield body
        yield {name: each for name, each in body.items() if name in schema.get("required", ())}
        yield canaries.spoiled(body)


def call_all(http: httpx.Client, canaries: Canaries, known: Json) -> None:
    """Every route with every field, and with canaries for ids, queries and headers."""
    for route, operation in routes():
        method, _, path = route.partition(" ")
        if method == "DELETE" or path == "/metrics":
            continue
        url = path.format(**{name: canaries.new() for name in PATH}, **known)
        lost = path.format(**{name: canaries.new() for name in (*PATH, *known)})
        for body in bodies(canaries, operation, known):
            http.request(method, url, json=body)
        for name, each in form_schema(operation).get("properties", {}).items():
            file = {"file": (canaries.new(), canaries.new().encode(), canaries.new())}
            form = {name: json.dumps(canaries.value(each, 0, known))}
            http.request(method, url, data=form, files=file)
        query = {each["name"]: canaries.new() for each in operation.get("parameters", ())}
        http.request(method, url, params=query)
        http.request(method, lost, params={f"metadata[{canaries.new()}]": canaries.new()})
        http.request(method, url, headers={name: canaries.new() for name in HEADERS})
        http.request(method, url, content=f'{{"{canaries.new()}": {canaries.new()}')


PATH = ("message_id", "step_id", "upload_id", "batch_id", "vector_store_id")
HEADERS = (
    "authorization",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "idempotency-key",
    "last-event-id",
    "traceparent",
    "user-agent",
    "x-request-id",
)


def one_of_everything(http: httpx.Client, canaries: Canaries) -> Json:
    """Objects that are full of canaries, by the names of their ids."""
    word = canaries.new

    def made(path: str, body: Json) -> Json:
        answer = http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    file = http.post(
        "/v1/files",
        data={"purpose": "assistants"},
        files={"file": (f"{word()}.txt", f"{word()} and {word()}.".encode())},
    ).json()
    store = made("/v1/vector_stores", {"name": word(), "file_ids": [file["id"]]})
    function = {"name": word(), "description": word(), "parameters": {"type": "object"}}
    assistant = made(
        "/v1/assistants",
        {
            "model": "gpt-4o",
            "instructions": word(),
            "tools": [{"type": "file_search"}, {"type": "function", "function": function}],
            "tool_resources": {"file_search": {"vector_store_ids": [store["id"]]}},
            "metadata": {word(): word()},
        },
    )
    thread = made("/v1/threads", {"messages": [{"role": "user", "content": f"{word()}?"}]})
    url = f"/v1/threads/{thread['id']}/runs"
    run = made(url, {"assistant_id": assistant["id"], "additional_instructions": word()})
    deadline = time.monotonic() + DEADLINE
    while run["status"] in ("queued", "in_progress") and time.monotonic() < deadline:
        run = http.get(f"{url}/{run['id']}").json()
    return {
        "assistant_id": assistant["id"],
        "thread_id": thread["id"],
        "run_id": run["id"],
        "file_id": file["id"],
        "file_ids": [file["id"]],
        "vector_store_ids": [store["id"]],
        "model": "gpt-4o",
        "stream": False,
    }


def test_what_clients_send_is_not_logged(tmp_path: Path, canaries: Canaries) -> None:
    """Nor counted by its name: every field of every route, taken or refused, and a whole run."""
    settings = {
        "ASSISTANTS_LOGGING__LEVEL": "debug",
        "ASSISTANTS_RUNS__COMPLETION_CAP": "16",
    }
    with served(tmp_path, **settings) as server:
        base = server.url.removesuffix("/v1")
        with httpx.Client(base_url=base, headers=BETA, timeout=DEADLINE, trust_env=False) as http:
            known = one_of_everything(http, canaries)
            call_all(http, canaries, known)
            http.get(f"/v1/{canaries.new()}")
            metrics = http.get("/metrics").text
            http.get("/readyz")
        assert server.end() == 0
    said = server.log.read_text() + metrics
    assert len(canaries.sent) > 1000
    assert [word for word in canaries.sent if word in said] == []
    assert known["run_id"] in said
    assert " debug request " in said
