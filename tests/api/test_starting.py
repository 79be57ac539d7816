"""What a server answers from the moment that it listens until it can work."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.api import starting
from server.app import Entrance, create_app, listen, running
from server.engine.protocol import EngineUnavailable
from server.engine.scripted import ScriptedEngine
from tests.runs.story import HELLO, granted
from tests.support import BETA, DEADLINE, eventually, live_server, settings_for

MESSAGE = "The server is starting. Please retry in a moment."
ERROR = {"message": MESSAGE, "type": "server_error", "param": None, "code": None}


@dataclass(frozen=True, slots=True)
class Start:
    """A server that loads its model until the engine resumes, and a client of it."""

    http: httpx.AsyncClient
    engine: ScriptedEngine
    serving: asyncio.Task[None]

    async def ready(self) -> httpx.Response:
        """Its answer, when it has none but good ones."""
        self.engine.resume()
        return await eventually(
            lambda: self.http.get("/readyz"), lambda answer: answer.status_code == 200
        )


@asynccontextmanager
async def beginning(folder: Path) -> AsyncIterator[Start]:
    """A server as the command line runs it, in the middle of its start."""
    engine, stop, settings = ScriptedEngine(), asyncio.Event(), settings_for(folder)
    engine.slow_to_load = True

    async def serve() -> None:
        parts = running(settings, {settings.models.default: engine})
        async with (
            Entrance(listener, settings.streams, settings.limits) as entrance,
            parts as services,
        ):
            await entrance.serve(create_app(services, settings), stop, 0.0)

    with listen("127.0.0.1", 0, settings.streams.send_buffer) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(serve())
        http = httpx.AsyncClient(base_url=url, headers=BETA, timeout=DEADLINE, trust_env=False)
        async with http:
            await asyncio.wait_for(engine.loading.wait(), DEADLINE)
            yield Start(http, engine, serving)
            engine.resume()
            stop.set()
            await asyncio.wait_for(asyncio.wait({serving}), DEADLINE)
    gc.unfreeze()


async def test_probes(tmp_path: Path) -> None:
    """It lives, so that nobody ends it, and is not ready, so that nobody is sent there."""
    async with beginning(tmp_path) as start:
        alive = await start.http.get("/healthz")
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        ready = await start.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
        asked = await start.http.head("/readyz")
        assert (asked.status_code, asked.content) == (503, b"")
        assert (await start.ready()).json()["status"] == "ready"


async def test_callers_are_told_to_come_again(tmp_path: Path) -> None:
    """In OpenAI's form of an error, which the files' endpoints have in their own."""
    async with beginning(tmp_path) as start:
        urls = ("/v1/threads", "/v1/files", "/v1/nothing", "/metrics")
        for method, url in product(("GET", "POST", "DELETE"), urls):
            refused = await start.http.request(method, url, content=b"x" * 100_000)
            assert refused.status_code == 503
            assert refused.json()["error"] == ERROR
            assert refused.headers["retry-after"] == "5"
            assert refused.headers["x-request-id"].startswith("req_")
            assert ("detail" in refused.json()) == (url == "/v1/files")


async def test_an_sdk_waits_for_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call is answered as if there had been nothing."""
    monkeypatch.setattr(starting, "COME_AGAIN", {"retry-after": "0.01"})
    async with beginning(tmp_path) as start:

        async def go_on(_: httpx.Response) -> None:
            start.engine.resume()

        start.http.event_hooks["response"] = [go_on]
        options: dict[str, Any] = {"base_url": f"{start.http.base_url}/v1", "api_key": "local"}
        sdk = openai.AsyncOpenAI(max_retries=1000, http_client=start.http, **options)
        assert (await sdk.beta.assistants.create(model="gpt-4o")).id


async def test_garbage_collections_pass_over_what_stays(tmp_path: Path) -> None:
    """To look through all that a server consists of would hold up every stream."""
    async with beginning(tmp_path) as start:
        assert gc.get_freeze_count() == 0
        await start.ready()
        assert gc.get_freeze_count() > 100_000
        collected = len(gc.get_objects())
    assert collected < 100_000


async def test_no_connection_is_lost(tmp_path: Path) -> None:
    """Whoever is connected before the server can work is answered there also afterwards."""
    async with beginning(tmp_path) as start:
        told = [await start.http.get("/v1/models"), await start.ready()]
        told.append(await start.http.get("/v1/models"))
        streams = [answer.extensions["network_stream"] for answer in told]
        assert len({stream.get_extra_info("client_addr") for stream in streams}) == 1
        assert [answer.status_code for answer in told] == [503, 200, 200]


@pytest.mark.parametrize("root", ["/v1", "/openai"])
async def test_what_was_refused_repeats_nothing(tmp_path: Path, root: str) -> None:
    """A message that was told to come again is another one than its like from before the start."""
    async with live_server(tmp_path) as server, server.http() as http:
        thread = f"{root}/threads/{granted(await http.post('/v1/threads', json={}))['id']}"
        first = granted(await http.post(f"{thread}/messages", json=HELLO))
    async with beginning(tmp_path) as start:
        refused = await start.http.post(f"{thread}/messages", json=HELLO)
        assert refused.status_code == 503
        await start.ready()
        again = {"x-stainless-retry-count": "1"}
        second = granted(await start.http.post(f"{thread}/messages", json=HELLO, headers=again))
    assert second["id"] != first["id"]


async def test_a_start_that_fails(tmp_path: Path) -> None:
    """Ends with its error at once, whoever is connected."""
    async with beginning(tmp_path) as start:
        assert (await start.http.get("/healthz")).status_code == 200
        start.engine.unusable = "Its file is gone."
        start.engine.resume()
        with pytest.raises(EngineUnavailable, match="Its file is gone"):
            await asyncio.wait_for(asyncio.shield(start.serving), DEADLINE)
        with pytest.raises(httpx.ConnectError):
            await start.http.get("/healthz")
