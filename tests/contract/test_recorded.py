"""Recorded traffic of the hosted API, sent again: our answers are the recorded ones.

Keys, their order, nulls, values and events are compared. Ids are matched up as they appear; times,
scores and counts of tokens may differ; and so may what `deviations` lists. The model is scripted to
say what it said then, and files have the text that was found in them. Runs where
`ASSISTANTS_CONTRACT_DIR` names the folder of the recordings.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engine.scripted import ScriptedEngine
from server.runs.lifecycle import Lifecycle
from tests.contract.deviations import ANY, DEVIATIONS, Json, mended
from tests.scripted_sandbox import ScriptedSandbox
from tests.support import DEADLINE, Event, LiveServer, eventually, live_server, parse_events

CONTRACT = os.environ.get("ASSISTANTS_CONTRACT_DIR")
RECORDED = Path(CONTRACT, "recorded-exchanges.jsonl") if CONTRACT else None
WIRE_PAGE = Path(__file__).parents[2] / "docs" / "wire.md"

AN_ID = re.compile(
    r"(asst|thread|msg|run|step|call)_[A-Za-z0-9]{24}|file-[A-Za-z0-9]{22,24}"
    r"|(vs|vsfb|vsfb_ibj)_[0-9a-f]{32}"
)
COUNTED = re.compile(r"(_at|_tokens|created|usage_bytes|score|file_counts\.\w+)$")
MARKER = re.compile(r"【\d+:(\d+)†[^】]*】")
A_SEARCH = (
    '<tool_call>\n{"name": "file_search", "arguments": {"query": "Filip Carola, favorite"}}\n'
    "</tool_call>"
)


# Answers in which the service was not in step with itself: what was just made is not listed yet,
# or stands in no order among what was made within the same second.
OUT_OF_STEP = {
    "CanEnumerateVectorStores": {5},
    "CanRehydrateGetVectorStoreFilesInBatchPagination": {9, 11},
    "CanTestGetVectorStoreFilesInBatchCollectionOptions": set(range(5, 12)),
}


def recordings() -> Iterator[tuple[str, list[Json]]]:
    """Each recording."""
    if RECORDED is None:
        return
    with RECORDED.open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if _is_ours(row)]
    for source, exchanges in groupby(rows, lambda row: row["source"]):
        name = source.rsplit("/", 1)[-1].partition(".")[0]
        out_of_step = OUT_OF_STEP.get(name, set())
        yield name, [each for each in exchanges if each["i"] not in out_of_step]


def _is_ours(row: Json) -> bool:
    without_beta = ("/v1/files", "/v1/models", "/v1/vector_stores")
    return row["beta"] == "assistants=v2" or row["path"].startswith(without_beta)


def _objects(value: Any) -> Iterator[Json]:
    if isinstance(value, str):
        for event in parse_events(value):
            yield from _objects(event.data if isinstance(event.data, dict) else {})
    elif isinstance(value, dict):
        yield from [value] if "object" in value else []
        yield from _objects(list(value.values()))
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, (dict, list)):
                yield from _objects(part)


RECORDINGS = dict(recordings())


def test_the_page_shows_the_same_deviations() -> None:
    """Row by row."""
    page = WIRE_PAGE.read_text(encoding="utf-8")
    table = page.partition("| --- | --- | --- | --- |\n")[2].partition("\n\n")[0]
    rows = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table.split("\n")]
    assert rows == [(d.what, d.recorded, d.here, d.why) for d in DEVIATIONS]


@pytest.mark.skipif(RECORDED is None, reason="ASSISTANTS_CONTRACT_DIR is not set")
def test_most_recordings_can_be_replayed() -> None:
    """Seventeen conversations and more, five streams among them."""
    exchanges = [exchange for each in RECORDINGS.values() for exchange in each]
    assert len(RECORDINGS) >= 17
    assert len(exchanges) >= 100
    assert sum(isinstance(exchange["response"], str) for exchange in exchanges) == 5


@pytest.mark.parametrize("name", RECORDINGS)
async def test_what_was_answered_then_is_answered_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Request by request, in the recorded order."""
    exchanges = RECORDINGS[name]
    engine = ScriptedEngine()
    script(engine, exchanges)
    sandbox = ScriptedSandbox()
    for code in codes_in(*(exchange["response"] for exchange in exchanges)):
        sandbox.gives(code)  # nothing was told of what it printed
    async with (
        live_server(tmp_path / "data", engine, sandbox=sandbox) as server,
        server.http() as http,
    ):
        gate = Gate(server, monkeypatch)
        replay = Replay(server, http, engine, gate, texts=texts_found(exchanges))
        for exchange in exchanges:
            await replay.step(exchange)


def script(engine: ScriptedEngine, exchanges: list[Json]) -> None:
    """Queue what the model said then, turn by turn."""
    said = [each for exchange in exchanges for each in _objects(exchange["response"])]
    for exchange in exchanges:
        answer = exchange["response"]
        if isinstance(answer, str):
            for turn in _streamed_turns(parse_events(answer)):
                engine.says(pieces=turn)
        elif answer.get("status") == "requires_action" and exchange["method"] == "GET":
            engine.says(_as_calls(answer), pause_after=0)
        elif answer.get("status") == "completed" and answer["object"] == "thread.run":
            steps = [step for step in said if step.get("run_id") == answer["id"]]
            for _ in {
                step["id"] for step in _searches(exchanges) if step["run_id"] == answer["id"]
            }:
                engine.says(A_SEARCH)
            for code in codes_in(steps):
                engine.says(f"Let me see.\n{_as_code(code)}")
            engine.says(_said_by(answer["id"], exchanges), pause_after=0)


def codes_in(*recorded: Any) -> list[str]:
    """The code of all steps that ran any, oldest first."""
    steps = {
        step["id"]: (step["created_at"], call["code_interpreter"]["input"])
        for answer in recorded
        for step in _objects(answer)
        if step["object"] == "thread.run.step" and step["type"] == "tool_calls"
        for call in step["step_details"]["tool_calls"]
        if call["type"] == "code_interpreter"
    }
    return [code for _, code in sorted(steps.values())]


def _as_code(code: str) -> str:
    arguments = json.dumps({"code": code})
    return f'<tool_call>\n{{"name": "code_interpreter", "arguments": {arguments}}}\n</tool_call>'


def _searches(exchanges: list[Json]) -> Iterator[Json]:
    """The steps that searched, each as often as it was told."""
    for exchange in exchanges:
        for step in _objects(exchange["response"]):
            calls = step.get("step_details", {}).get("tool_calls", ())
            if any(call["type"] == "file_search" for call in calls):
                yield step


def texts_found(exchanges: list[Json]) -> dict[str, str]:
    """By file, where a search has found all of it."""
    return {
        result["file_id"]: "".join(part["text"] for part in result["content"])
        for step in _searches(exchanges)
        for call in step["step_details"]["tool_calls"]
        for result in call["file_search"]["results"]
        if "content" in result
    }


def _streamed_turns(events: list[Event]) -> Iterator[list[str]]:
    pieces: list[str] = []
    for event in events:
        if event.name == "thread.message.delta":
            values = (part["text"]["value"] for part in event.data["delta"]["content"])
            pieces += [_as_cited(value) for value in values]
        elif event.name == "thread.run.step.delta":
            yield from ([A_SEARCH] for part in _parts(event.data) if part["type"] == "file_search")
        elif event.name == "thread.message.completed":
            yield pieces
            pieces = []
        elif event.name == "thread.run.step.completed":
            yield from ([_as_code(code)] for code in codes_in(event.data))
        elif event.name == "thread.run.requires_action":
            yield [_as_calls(event.data)]


def _as_calls(run: Json) -> str:
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    written = [
        f'<tool_call>\n{{"name": "{call["function"]["name"]}", '
        f'"arguments": {call["function"]["arguments"]}}}\n</tool_call>'
        for call in calls
    ]
    return "\n".join(written)


def _as_cited(text: str) -> str:
    """As the model may have written it: markers have the number that it was shown."""
    return MARKER.sub(lambda marker: f"【{int(marker[1]) + 1}†source】", text)


def _said_by(run_id: str, exchanges: list[Json]) -> str:
    for exchange in exchanges:
        for message in _objects(exchange["response"]):
            if message["object"] == "thread.message" and message["run_id"] == run_id:
                return _as_cited(message["content"][0]["text"]["value"])
    return "What it said was not recorded."


def in_progress(value: Any) -> Any:
    """An answer in which it is open how far vector stores have come with their files."""
    if isinstance(value, list):
        return [in_progress(each) for each in value]
    if not isinstance(value, dict):
        return value
    of_store = str(value.get("object")).startswith("vector_store")
    going_on = of_store and value.get("status") in ("in_progress", "completed")
    inner = {key: in_progress(each) for key, each in value.items()}
    return {**inner, "status": ANY} if going_on else inner


class Gate:
    """Keeps runs in the queue while it is closed, as a busy service does."""

    def __init__(self, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = server
        self._closed = False
        claim = Lifecycle.claim
        monkeypatch.setattr(
            Lifecycle,
            "claim",
            lambda *asked: None if self._closed else claim(*asked),
        )

    def close(self) -> None:
        self._closed = True

    def open(self, run_id: str) -> None:
        if self._closed:
            self._closed = False
            self._server.services.executor.queued(run_id, 600.0)


@dataclass
class Replay:
    """One recording against one server; `texts` are files' and `ids` ours, by the recorded ones.

    Lists of the whole account (`of_account`) had more in them than the recording made.
    """

    server: LiveServer
    http: httpx.AsyncClient
    engine: ScriptedEngine
    gate: Gate
    texts: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)
    of_account: bool = False

    async def step(self, exchange: Json) -> None:
        """Send a request again and compare."""
        recorded = exchange["response"]
        if isinstance(recorded, dict) and recorded.get("status") == "queued":
            self.gate.close()
        if exchange["method"] == "GET" and "required_action" in recorded:
            answer = await self._run_when(exchange, recorded["status"])
        else:
            answer = await self._send(exchange)
        assert answer.status_code == exchange["status"], answer.text
        if isinstance(recorded, str):
            self._compare_streams(parse_events(recorded), parse_events(answer.text))
        else:
            assert answer.text.endswith("\n") == exchange["path"].startswith("/v1/files")
            self.of_account = exchange["path"] in ("/v1/assistants", "/v1/models")
            wanted = mended(recorded)
            if exchange["method"] == "GET":
                wanted = in_progress(wanted)
            self.compare(wanted, answer.json(), "")

    async def _send(self, exchange: Json) -> httpx.Response:
        if exchange["method"] == "POST" and exchange["path"] == "/v1/files":
            return await self._upload(exchange["response"])
        if exchange["method"] == "POST" and exchange["path"].endswith("/runs"):
            await self._ready()
        path = self._ours(exchange["path"])
        query = self._ours(exchange["query"])
        body = exchange["request"]
        content = None if body is None else self._ours(json.dumps(body))
        return await self.http.request(
            exchange["method"], f"{path}?{query}" if query else path, content=content
        )

    async def _ready(self) -> None:
        """Return when all files can be found, as they could when runs were recorded."""
        services = self.server.services
        for store_id in await services.db.read(lambda tx: tx.vector_stores.usable_ids()):
            assert await services.ingestor.wait_ready(store_id, DEADLINE)

    async def _upload(self, recorded: Json) -> httpx.Response:
        """A form was not recorded; what it had in it shows in the answers."""
        content = self.texts.get(recorded.get("id", ""), "x" * recorded.get("bytes", 1)).encode()
        purpose = recorded.get("purpose", "world_domination")
        return await self.http.post(
            "/v1/files",
            files={"file": (recorded.get("filename", "a.txt"), content)},
            data={"purpose": purpose},
        )

    async def _run_when(self, exchange: Json, status: str) -> httpx.Response:
        """The run when it has the status that it had when this was recorded."""
        if status != "queued":
            self.gate.open(self.ids[exchange["path"].rsplit("/", 1)[-1]])
        if status == "in_progress":
            await self.engine.paused.wait()

        async def read() -> httpx.Response:
            if status not in ("queued", "in_progress"):
                self.engine.resume()
            return await self._send(exchange)

        found: httpx.Response = await eventually(read, lambda a: a.json()["status"] == status)
        return found

    def _ours(self, text: str | None) -> str:
        return AN_ID.sub(lambda match: self.ids.get(match[0], match[0]), text or "")

    def compare(self, recorded: Any, ours: Any, path: str) -> None:
        """Equal, but for ids, times and counts."""
        if recorded is ANY:
            return
        if isinstance(recorded, dict):
            assert isinstance(ours, dict), path
            assert list(ours) == list(recorded), path
            for key in recorded:
                self.compare(recorded[key], ours[key], f"{path}.{key}")
        elif isinstance(recorded, list):
            self._compare_lists(recorded, ours, path)
        elif path == ".has_more" and self.of_account:
            assert recorded or not ours, path
        elif isinstance(recorded, str) and AN_ID.fullmatch(recorded):
            assert self.ids.setdefault(recorded, ours) == ours, path
        elif COUNTED.search(path):
            assert type(ours) is type(recorded), path
        else:
            assert (type(ours), ours) == (type(recorded), recorded), path

    def _compare_lists(self, recorded: list[Any], ours: Any, path: str) -> None:
        assert bool(ours) == bool(recorded), path
        assert self.of_account or len(ours) == len(recorded), path
        for i, (then, now) in enumerate(zip(recorded, ours, strict=False)):
            self.compare(then, now, f"{path}[{i}]")

    def _compare_streams(self, recorded: list[Event], ours: list[Event]) -> None:
        """The same events in the same order, however the deltas are cut."""
        then, now = _runs_of_deltas(recorded), _runs_of_deltas(ours)
        assert [name for name, _ in now] == [name for name, _ in then]
        for (name, first), (_, second) in zip(then, now, strict=True):
            if name.endswith(".delta"):
                self._compare_deltas(name, mended(first), second)
            else:
                self.compare(mended(first[0]), second[0], f"{name} ")

    def _compare_deltas(self, name: str, recorded: list[Json], ours: list[Json]) -> None:
        assert _said(ours) == _said(recorded)
        self.compare(_mute(recorded[0]), _mute(ours[0]), f"{name} ")
        for then, now in zip(recorded[1:], ours[1:], strict=False):
            self.compare(_mute(then), _mute(now), f"{name} ")


def _runs_of_deltas(events: list[Event]) -> list[tuple[str, list[Any]]]:
    """Events, with all deltas that follow each other in one."""
    found: list[tuple[str, list[Any]]] = []
    for event in events:
        if found and event.name.endswith(".delta") and found[-1][0] == event.name:
            found[-1][1].append(event.data)
        else:
            found.append((event.name, [event.data]))
    return found


def _parts(delta: Json) -> list[Json]:
    content = delta["delta"]
    found: list[Json] = content.get("content") or content["step_details"]["tool_calls"]
    return found


def _said(deltas: list[Json]) -> str:
    """All text and all arguments of some deltas, put together."""
    parts = [part for delta in deltas for part in _parts(delta) if part["type"] != "file_search"]
    return "".join(into[key] for into, key in map(_text_of, parts))


def _text_of(part: Json) -> tuple[Json, str]:
    """Where the text of a delta's part is."""
    if part["type"] == "text":
        return part["text"], "value"
    if part["type"] == "code_interpreter":
        return part["code_interpreter"], "input"
    return part["function"], "arguments"


def _mute(delta: Json) -> Json:
    """A delta without what it says, which may be cut elsewhere."""
    muted: Json = json.loads(json.dumps(delta))
    for part in _parts(muted):
        if part["type"] != "file_search":
            into, key = _text_of(part)
            into[key] = ""
    return muted
