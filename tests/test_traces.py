"""Traces: which spans there are, how they hang together, and that they repeat nobody's words."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.app import open_traces
from server.config import TracesSettings, load_settings
from server.engine.scripted import ScriptedEngine
from server.logs import facts
from server.trace_export import NotSent, export
from server.traces import TracesUnavailable
from tests.runs.story import HELLO, WEATHER, Json, granted
from tests.scripted_sandbox import ScriptedSandbox
from tests.support import DEADLINE, LiveServer, ManualClock, eventually, live_server

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
CODE = {"type": "code_interpreter"}
USAGE = "gen_ai.usage"


class Told:
    """What was traced."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    async def ended(self, name: str, times: int = 1) -> Sequence[ReadableSpan]:
        """The spans of a name, once there are so many."""

        async def named() -> list[ReadableSpan]:
            return [span for span in self.spans if span.name == name]

        found: Sequence[ReadableSpan] = await eventually(named, lambda found: len(found) == times)
        return found

    def tree(self, under: int | None = None) -> list[Any]:
        """Names with the trees of what is under them."""
        return [
            (span.name, self.tree(span.context.span_id))
            for span in self.spans
            if (span.parent.span_id if span.parent else None) == under
        ]


@pytest.fixture
def told() -> Told:
    """Nothing yet."""
    return Told(InMemorySpanExporter())


@pytest.fixture
async def server(
    tmp_path: Path, engine: ScriptedEngine, told: Told, sandbox: ScriptedSandbox
) -> AsyncIterator[LiveServer]:
    """A server that is traced."""
    traces = export(SimpleSpanProcessor(told._exporter))
    async with live_server(tmp_path, engine, sandbox=sandbox, traces=traces) as live:
        yield live


async def begun(http: httpx.AsyncClient, headers: Json | None = None, **assistant: Any) -> Json:
    """A new run on a new thread."""
    created = granted(await http.post("/v1/assistants", json={"model": "gpt-4o", **assistant}))
    thread = granted(await http.post("/v1/threads", json={"messages": [HELLO]}))
    body = {"assistant_id": created["id"], "max_completion_tokens": 99, "temperature": 0.5}
    url = f"/v1/threads/{thread['id']}/runs"
    return granted(await http.post(url, json=body, headers=headers))


async def test_a_run_is_a_trace(
    http: httpx.AsyncClient, engine: ScriptedEngine, told: Told
) -> None:
    """Under it what its model was asked, with what it cost, and its step."""
    engine.says("One two three.")
    run = await begun(http)
    [claim] = await told.ended("invoke_agent")
    assert told.tree() == [
        ("invoke_agent", [("chat tiny-assistant", []), ("run_step message_creation", [])])
    ]
    assert dict(claim.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": run["assistant_id"],
        "gen_ai.conversation.id": run["thread_id"],
        "gen_ai.request.model": "tiny-assistant",
        "assistants.run.id": run["id"],
        "assistants.run.attempt": 1,
        "assistants.run.status": "completed",
    }
    [chat] = await told.ended("chat tiny-assistant")
    about = dict(chat.attributes or {})
    assert about.pop("gen_ai.response.time_to_first_chunk") > 0
    assert about.pop(f"{USAGE}.input_tokens") > 0
    assert about == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llama.cpp",
        "gen_ai.request.model": "tiny-assistant",
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.output.type": "text",
        "gen_ai.response.finish_reasons": ("stop",),
        f"{USAGE}.output_tokens": 15,
        f"{USAGE}.cache_read.input_tokens": 0,
        f"{USAGE}.reasoning.output_tokens": 0,
    }


async def test_claims_of_a_run_share_its_trace(
    http: httpx.AsyncClient, engine: ScriptedEngine, told: Told
) -> None:
    """Before and after a function was called; another run has another."""
    engine.calls("get_weather", {"city": "Rome"})
    run = await begun(http, tools=[WEATHER])
    [first] = await told.ended("invoke_agent")
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    action = granted(await http.get(url))["required_action"]["submit_tool_outputs"]
    outputs = [{"tool_call_id": call["id"], "output": "Sun."} for call in action["tool_calls"]]
    granted(await http.post(f"{url}/submit_tool_outputs", json={"tool_outputs": outputs}))
    await told.ended("invoke_agent", times=2)
    await begun(http)
    spans = await told.ended("invoke_agent", times=3)
    ids = [span.context.trace_id for span in spans]
    assert ids[0] == ids[1] != ids[2]
    assert (first.attributes or {})["assistants.run.status"] == "requires_action"
    assert [span.parent for span in spans] == [None] * 3


async def test_the_caller_of_a_run_is_its_parent(
    http: httpx.AsyncClient, engine: ScriptedEngine, told: Told
) -> None:
    """Across its claims; of a chat completion, too."""
    engine.calls("get_weather", {"city": "Rome"})
    run = await begun(http, CALLER, tools=[WEATHER])
    await told.ended("invoke_agent")
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    granted(await http.post(f"{url}/cancel"))
    body = {"model": "gpt-4o", "messages": [HELLO]}
    granted(await http.post("/v1/chat/completions", json=body, headers=CALLER))
    await told.ended("chat tiny-assistant", times=2)
    assert {f"{span.context.trace_id:032x}" for span in told.spans} == {TRACE}
    under_caller = [name for name, _ in told.tree(int(SPAN, 16))]
    assert under_caller == ["invoke_agent", "chat tiny-assistant"]


@pytest.mark.parametrize(
    "header", ["", "00-1-2-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", "x" * 999]
)
async def test_a_header_that_makes_no_sense_is_no_parent(
    http: httpx.AsyncClient, told: Told, header: str
) -> None:
    """The run is traced all the same."""
    await begun(http, {"traceparent": header})
    [claim] = await told.ended("invoke_agent")
    assert claim.parent is None


async def test_tools_are_under_their_step(
    http: httpx.AsyncClient, engine: ScriptedEngine, told: Told, sandbox: ScriptedSandbox
) -> None:
    """Between two calls of the model."""
    engine.calls("code_interpreter", {"code": "print(1)"})
    engine.says("It is 1.")
    await begun(http, tools=[CODE])
    await told.ended("invoke_agent")
    assert told.tree() == [
        (
            "invoke_agent",
            [
                ("chat tiny-assistant", []),
                ("run_step tool_calls", [("execute_tool code_interpreter", [])]),
                ("chat tiny-assistant", []),
                ("run_step message_creation", []),
            ],
        )
    ]
    [tool] = await told.ended("execute_tool code_interpreter")
    about = dict(tool.attributes or {})
    assert about.pop("gen_ai.tool.call.id").startswith("call_")
    assert about == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "code_interpreter",
        "gen_ai.tool.type": "extension",
        "assistants.tool.calls": 1,
    }


async def test_what_fails_says_so_without_words(
    http: httpx.AsyncClient, engine: ScriptedEngine, told: Told, sandbox: ScriptedSandbox
) -> None:
    """Tools, calls of models, and runs."""
    secret = "the words of somebody"
    sandbox.refuses("1", secret)
    engine.calls("code_interpreter", {"code": "1"})
    await begun(http, tools=[CODE], instructions=secret, name=secret, metadata={"a": secret})
    await told.ended("invoke_agent", times=1)
    engine.crashes(text=secret)
    engine.crashes(text=secret)
    await begun(http)
    await told.ended("invoke_agent", times=3)
    failed = [span for span in told.spans if not span.status.is_ok]
    assert sorted(span.name for span in failed) == [
        "chat tiny-assistant",
        "chat tiny-assistant",
        "execute_tool code_interpreter",
        "invoke_agent",
        "invoke_agent",
    ]
    assert all((span.attributes or {}).get("error.type") for span in failed)
    assert secret not in "".join(span.to_json() for span in told.spans)
    assert not any(span.events for span in told.spans)


async def test_without_tracing_no_run_has_a_caller(tmp_path: Path) -> None:
    """The header is not even looked at."""
    async with live_server(tmp_path) as server, server.http() as http:
        run = await begun(http, CALLER)
        row = await server.services.db.read(lambda tx: tx.runs.by_id(run["id"]))
    assert row is not None
    assert row.traceparent is None


def test_traces_are_off_unless_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they need an extra, and without it the server says which."""
    assert not open_traces(load_settings(None, {}, {}).traces).on
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "server.trace_export")
    with pytest.raises(TracesUnavailable, match=r"pip install 'assistants-server\[traces\]'"):
        open_traces(TracesSettings(enabled=True))


async def test_spans_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTLP to where the environment says, the last ones at the end."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{collector.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
        try:
            async with live_server(tmp_path, traces__enabled=True) as server, server.http() as http:
                run = await begun(http)
                await asyncio.sleep(0)
                found = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"

                async def status() -> str:
                    return str(granted(await http.get(found))["status"])

                await eventually(status, lambda status: status == "completed")
        finally:
            collector.shutdown()
            thread.join()
    [(path, body)] = received
    assert path == "/v1/traces"
    assert run["id"].encode() in body
    assert b"ours" in body


async def test_without_a_collector_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the type of the error; the exporter's own lines, with its words and the URL, are none."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")  # seconds: time for a second attempt
        traces = export()
        traces.begin("work", {}).end()
        await traces.close()
    [line] = caplog.records
    assert (line.levelname, line.message) == ("WARNING", "traces.not_sent")
    assert facts(line) == {"reason": "ConnectionError"}


def test_a_stop_does_not_wait_for_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sending the last spans takes too long, they are lost."""
    monkeypatch.setattr("server.trace_export.LAST_SPANS", 0.05)
    gone = Event()

    class Deaf(SimpleSpanProcessor):
        def shutdown(self) -> None:
            gone.wait()

    traces = export(Deaf(InMemorySpanExporter()))
    asyncio.run(asyncio.wait_for(traces.close(), DEADLINE))
    gone.set()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((OSError("words"), "spans"), "OSError"),
        (("spans", 404, "Not Found"), "Not Found"),
        (("spans", 418, "what the collector says"), "unknown"),
        ((), "unknown"),
    ],
)
def test_lost_spans_are_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, words: tuple[object, ...], reason: str
) -> None:
    """Not with every attempt, and with nobody's words."""
    clock = ManualClock()
    said = logging.LogRecord("x", logging.ERROR, "", 0, "%s" * len(words), words, None)
    not_sent = NotSent(clock.monotonic)
    for seconds, lines in ((0, 1), (59, 1), (1, 2), (30, 2)):
        clock.advance(seconds)
        assert not not_sent.filter(said)
        assert [facts(line) for line in caplog.records] == [{"reason": reason}] * lines
