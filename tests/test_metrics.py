"""What the server counts, as a scraper sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.clock import SystemClock
from server.config import CodeInterpreterSettings
from server.db.database import DatabaseBusy
from server.engine.scripted import ScriptedEngine
from server.sandbox.pool import SessionPool
from tests.runs.story import HELLO, Json, granted
from tests.scripted_sandbox import ScriptedSandbox
from tests.support import LiveServer, eventually, live_server

LISTED = Path(__file__).parents[1] / "docs" / "metrics.md"
MODEL = 'model="tiny-assistant"'
CODE = {"type": "code_interpreter"}


async def scraped(http: httpx.AsyncClient) -> dict[str, float]:
    """Each sample by its name and labels, as they are written."""
    text = (await http.get("/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


async def finished(http: httpx.AsyncClient, **assistant: Any) -> Json:
    """A run on a new thread, when it is over."""
    created = granted(await http.post("/v1/assistants", json={"model": "gpt-4o", **assistant}))
    thread = granted(await http.post("/v1/threads", json={"messages": [HELLO]}))
    url = f"/v1/threads/{thread['id']}/runs"
    run = granted(await http.post(url, json={"assistant_id": created["id"]}))

    async def read() -> Json:
        return granted(await http.get(f"{url}/{run['id']}"))

    found: Json = await eventually(read, lambda run: run["status"] not in ("queued", "in_progress"))
    return found


async def settled(http: httpx.AsyncClient, wanted: Mapping[str, float]) -> dict[str, float]:
    """The samples, once these have their values: an execution ends after its run."""
    return cast(
        dict[str, float],
        await eventually(
            lambda: scraped(http),
            lambda found: all(found.get(name) == value for name, value in wanted.items()),
        ),
    )


async def test_what_is_listed_is_what_there_is(tmp_path: Path) -> None:
    """docs/metrics.md names every metric with its type and its labels, and no other."""
    sandbox = SessionPool(cast(Any, None), CodeInterpreterSettings(), SystemClock())
    async with live_server(tmp_path, sandbox=sandbox) as server, server.http() as http:
        await finished(http)
        file = {"file": ("a.txt", b"Some words.")}
        made = await http.post("/v1/files", files=file, data={"purpose": "assistants"})
        store = granted(
            await http.post("/v1/vector_stores", json={"file_ids": [made.json()["id"]]})
        )

        async def taken_in() -> int:
            url = f"/v1/vector_stores/{store['id']}"
            return int(granted(await http.get(url))["file_counts"]["completed"])

        await eventually(taken_in, lambda count: count == 1)
        text = (await http.get("/metrics")).text
    there = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue
        counter = "_total" if family.type == "counter" else ""
        labels = {name for sample in family.samples for name in sample.labels if name != "le"}
        there[family.name + counter] = family.type, labels
    rows = re.findall(r"(?m)^\| `(assistants_\w+)` \| (\w+) \| (.*?) \|", LISTED.read_text())
    listed = {name: (kind, {*re.findall(r"`(\w+)`", labels)}) for name, kind, labels in rows}
    assert {name: kind for name, (kind, _) in listed.items()} == {
        name: kind for name, (kind, _) in there.items()
    }
    for name, (_, labels) in there.items():
        assert labels <= listed[name][1], name
    unseen = {name for name, (_, labels) in listed.items() if labels and not there[name][1]}
    assert unseen == {"assistants_sandbox_calls_total", "assistants_sandbox_limits_total"}


async def test_the_work_of_an_engine_shows_in_the_metrics(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """After a run its model's tokens are counted under the model's name."""
    engine.says("One two three.")
    assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Count.")
    thread = await client.beta.threads.create()
    await client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    samples = await settled(http, {f"assistants_run_claim_seconds_count{{{MODEL}}}": 1})
    assert samples[f"assistants_engine_generated_tokens_total{{{MODEL}}}"] == 14
    assert samples[f"assistants_engine_live{{{MODEL}}}"] == 0
    assert samples[f'assistants_run_claims_total{{{MODEL},to="completed"}}'] == 1


async def test_calls_of_models(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Those of runs and of chat completions, by why they ended, and when the first words came."""
    engine.says("One two three.")
    run = await finished(http)
    engine.says("One two", finish="length")
    body = {"model": "gpt-4o", "messages": [HELLO]}
    usage = granted(await http.post("/v1/chat/completions", json=body))["usage"]
    engine.says("never", pause_after=0)
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
    await engine.paused.wait()
    asking.cancel()
    samples = await settled(
        http,
        {
            f'assistants_model_calls_total{{finish_reason="{reason}",{MODEL}}}': 1
            for reason in ("stop", "length", "cancelled")
        },
    )
    written = run["usage"]["completion_tokens"] + usage["completion_tokens"]
    assert samples[f'assistants_model_tokens_total{{kind="completion",{MODEL}}}'] == written
    assert samples[f"assistants_model_first_token_seconds_count{{{MODEL}}}"] == 2
    assert samples[f"assistants_model_token_seconds_count{{{MODEL}}}"] == 2
    assert samples[f"assistants_model_first_token_seconds_sum{{{MODEL}}}"] > 0


async def test_the_queue(tmp_path: Path) -> None:
    """Active runs by model and status, none where there are none."""
    engine = ScriptedEngine(slots=1)
    engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine) as server, server.http() as http:
        waiting = [asyncio.create_task(finished(http)) for _ in range(3)]
        busy = {
            f'assistants_runs{{{MODEL},status="queued"}}': 2,
            f'assistants_runs{{{MODEL},status="in_progress"}}': 1,
            f'assistants_runs{{{MODEL},status="requires_action"}}': 0,
        }
        await settled(http, busy)
        await engine.paused.wait()
        engine.resume()
        await asyncio.gather(*waiting)
        await settled(http, dict.fromkeys(busy, 0))


async def test_the_database(http: httpx.AsyncClient, server: LiveServer) -> None:
    """Units by how they ended, and how long commits take."""
    before = await scraped(http)
    granted(await http.post("/v1/threads", json={}))
    await http.post("/v1/threads/thread_x", json={"metadata": {}})
    after = await scraped(http)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more('assistants_database_writes_total{outcome="committed"}') == 1
    assert more('assistants_database_writes_total{outcome="refused"}') == 1
    assert more("assistants_database_commit_seconds_count") == 1
    assert after["assistants_database_waiting_writes"] == 0


async def test_metrics_without_a_database(
    http: httpx.AsyncClient, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would tell is left out."""

    async def busy(_: object) -> None:
        raise DatabaseBusy

    monkeypatch.setattr(server.services.db, "read", busy)
    samples = await scraped(http)
    assert "assistants_open_streams" in samples
    assert not [name for name in samples if name.startswith("assistants_runs{")]


async def test_files_on_their_way_into_stores(http: httpx.AsyncClient) -> None:
    """By what became of them."""
    for name, content in ("a.txt", b"Some words."), ("a.pdf", b"no PDF"):
        form = {"files": {"file": (name, content)}, "data": {"purpose": "assistants"}}
        file = granted(await http.post("/v1/files", **form))  # type: ignore[arg-type]
        granted(await http.post("/v1/vector_stores", json={"file_ids": [file["id"]]}))
    await settled(
        http,
        {
            'assistants_ingestion_files_total{outcome="completed"}': 1,
            'assistants_ingestion_files_total{outcome="invalid_file"}': 1,
            "assistants_ingestion_seconds_count": 2,
            "assistants_ingestion_waiting_files": 0,
        },
    )


async def test_calls_of_code(tmp_path: Path, engine: ScriptedEngine) -> None:
    """By how they ended, and which limits they hit."""
    sandbox = ScriptedSandbox()
    sandbox.hits("fill", "disk")
    sandbox.crashes("die")
    sandbox.refuses("none", "There is no room.")
    for code in ("print()", "die", "fill", "none"):
        engine.calls("code_interpreter", {"code": code})
        engine.says("Done.")
    async with live_server(tmp_path, engine, sandbox=sandbox) as server, server.http() as http:
        for _ in range(4):
            await finished(http, tools=[CODE])
            engine.requests.clear()
        ends = ("completed", "crashed", "unavailable", "limit")
        counted = {f'assistants_sandbox_calls_total{{outcome="{end}"}}': 1 for end in ends}
        samples = await settled(http, counted)
    limits = {name for name in samples if name.startswith("assistants_sandbox_limits_total")}
    assert limits == {'assistants_sandbox_limits_total{limit="disk"}'}


@pytest.mark.parametrize("path", ["/v1/nothing/x1", "/y1", "/v1/threads/z1"])
async def test_labels_are_few(http: httpx.AsyncClient, path: str) -> None:
    """What clients make up is no label."""
    await http.get(path)
    text = (await http.get("/metrics")).text
    assert path.rsplit("/", 1)[-1] not in text
