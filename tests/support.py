"""A whole server inside the test's own loop, and what tests say to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from server.api.deps import Services
from server.app import HttpServer, create_app, listen, running
from server.clock import Clock
from server.config import Settings, load_settings
from server.engine.protocol import Engine
from server.engine.scripted import ScriptedEngine
from server.sandbox.values import Sandbox
from server.traces import Traces

BETA = {"OpenAI-Beta": "assistants=v2"}
DEADLINE = 20.0


class ManualClock:
    """A clock that a test sets; both hands stand still unless moved."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.wall = now
        self.ticks = 1000.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Time passes, on both hands."""
        self.wall += int(seconds)
        self.ticks += seconds


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that answers on loopback."""

    url: str
    services: Services
    settings: Settings
    engines: Mapping[str, Engine]

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        """The official client, without its retries, so that a test sees each answer."""
        options = {"max_retries": 0, "api_key": "local", **options}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **options)

    def http(self, **options: Any) -> httpx.AsyncClient:
        """A bare HTTP client that sends the beta header."""
        return httpx.AsyncClient(
            base_url=self.url, headers=BETA, timeout=DEADLINE, trust_env=False, **options
        )


def settings_for(data_dir: Path, **overrides: object) -> Settings:
    """The defaults on a data folder, without sessions for code; a key is `section__name`."""
    overrides = {"code_interpreter__backend": "off", **overrides}
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_settings(None, {}, {"server.data_dir": str(data_dir), **given})


@contextlib.asynccontextmanager
async def live_server(
    data_dir: Path,
    engine: Engine | None = None,
    *,
    clock: Clock | None = None,
    engines: Mapping[str, Engine] | None = None,
    sandbox: Sandbox | None = None,
    traces: Traces | None = None,
    **overrides: object,
) -> AsyncIterator[LiveServer]:
    """A server over a scripted engine, or the one given, under the bundled model's name."""
    settings = settings_for(data_dir, **{"server__shutdown_grace": 0.0, **overrides})
    if engines is None:
        engines = {settings.models.default: engine or ScriptedEngine()}
    parts = running(settings, engines, clock=clock, sandbox=sandbox, traces=traces)
    async with parts as services:
        app = create_app(services, settings)
        with listen("127.0.0.1", 0, settings.streams.send_buffer) as listener:
            config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
            http = HttpServer(config, settings.streams.stuck_after, settings.limits.body_timeout)
            task = asyncio.create_task(http.serve(sockets=[listener]))
            try:
                port = listener.getsockname()[1]
                yield LiveServer(f"http://127.0.0.1:{port}", services, settings, engines)
            finally:
                await services.executor.stop(0.0)
                await services.completions.stop(0.0)
                http.stop()
                await task


async def eventually(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Await `read()` until its value is wanted; for what has no event to wait for."""
    async with asyncio.timeout(DEADLINE):
        while not wanted(value := await read()):  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.01)
    return value


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `data` is parsed, but for `[DONE]`."""

    name: str
    data: Any


def parse_events(text: str) -> list[Event]:
    """The events of a stream, strictly in the hosted API's form: LF, one `event:`, one `data:`."""
    assert "\r" not in text
    events = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith((":", "id:"))]
        if not lines:
            continue
        event, data = lines
        assert event.startswith("event: ")
        assert data.startswith("data: ")
        body = data.removeprefix("data: ")
        events.append(
            Event(event.removeprefix("event: "), body if body == "[DONE]" else json.loads(body))
        )
    return events
