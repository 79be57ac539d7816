"""Limits over HTTP: what is refused, what the refusal says, and who is not touched by it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.access.keys import NewKey
from server.access.limits import OwnLimits
from server.api.deps import ASKING_MODELS
from server.engine.scripted import DEFAULT_ANSWER, ScriptedEngine
from server.runs.state import TERMINAL
from tests.api.wire import answer_of, error_of, letter_counter
from tests.covering import routes
from tests.runs.gate import Gate
from tests.support import DEADLINE, LiveServer, ManualClock, eventually, live_server
from tests.tenants import HELLO, Tenant, tenant

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello! " * 20}]}


@asynccontextmanager
async def limited(folder: Path, clock: ManualClock, **limits: int) -> AsyncIterator[LiveServer]:
    """A server whose time stands still, with limits for all keys, and a model for embeddings."""
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
    given = {f"limits__{name}": most for name, most in limits.items()}
    async with live_server(folder / "data", clock=clock, engines=engines, **given) as server:
        yield server


def refused(response: httpx.Response, kind: str, retry_after: int) -> str:
    """The refusal's text; it is in OpenAI's form and says when to come again."""
    error = error_of(response, 429)
    assert (error["type"], error["param"], error["code"]) == (kind, None, "rate_limit_exceeded")
    assert response.headers["retry-after"] == str(retry_after)
    return str(error["message"])


async def test_requests(tmp_path: Path, clock: ManualClock) -> None:
    """Each request counts; who has none left is refused until one has come in."""
    async with (
        limited(tmp_path, clock, requests_per_minute=6) as server,
        tenant(server) as heavy,
        tenant(server) as other,
    ):
        for _ in range(6):
            answer_of(await heavy.http.get("/v1/assistants"))
        answer = await heavy.http.get("/v1/assistants")
        assert refused(answer, "requests", 10).endswith(
            " on requests per min (RPM): Limit 6, Used 6, Requested 1. Please try again in 10s."
        )
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
        answer_of(await other.http.get("/v1/assistants"))
        clock.advance(10)
        answer_of(await heavy.http.get("/v1/assistants"))
        assert (await heavy.http.get("/v1/assistants")).status_code == 429
        assert (await heavy.http.get("/healthz")).status_code == 200


async def test_headers_of_a_chat_completion(tmp_path: Path, clock: ManualClock) -> None:
    """They tell what is left, after this one; a refusal has them, too, and no other endpoint."""
    async with (
        limited(tmp_path, clock) as server,
        tenant(server, requests_per_minute=3, tokens_per_minute=60_000) as mine,
    ):
        answer = await mine.http.post("/v1/chat/completions", json=CHAT)
        used = answer_of(answer)["usage"]["total_tokens"]
        assert {n: v for n, v in answer.headers.items() if n.startswith("x-ratelimit")} == {
            "x-ratelimit-limit-requests": "3",
            "x-ratelimit-remaining-requests": "2",
            "x-ratelimit-reset-requests": "20s",
            "x-ratelimit-limit-tokens": "60000",
            "x-ratelimit-remaining-tokens": str(60_000 - used),
            "x-ratelimit-reset-tokens": f"{used}ms",
        }
        listed = await mine.http.get("/v1/models")
        assert not [name for name in listed.headers if name.startswith("x-ratelimit")]
        streamed = await mine.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
        over = await mine.http.post("/v1/chat/completions", json=CHAT)
        refused(over, "requests", 20)
        assert over.headers["x-ratelimit-remaining-requests"] == "0"


async def test_tokens_of_chat_completions_and_embeddings(
    tmp_path: Path, clock: ManualClock
) -> None:
    """What models took is taken off; who has overdrawn waits before the next answer."""
    async with limited(tmp_path, clock, tokens_per_minute=60) as server, tenant(server) as mine:
        used = answer_of(await mine.http.post("/v1/chat/completions", json=CHAT))["usage"]
        over = used["total_tokens"] - 60
        assert over > 0
        text = refused(await mine.http.post("/v1/chat/completions", json=CHAT), "tokens", over + 1)
        assert f"(TPM): Limit 60, Used {60 + over}, Requested 1." in text
        embeddings = {"model": "letters", "input": "x" * 100}
        refused(await mine.http.post("/v1/embeddings", json=embeddings), "tokens", over + 1)
        answer_of(await mine.http.get("/v1/assistants"))
        clock.advance(over + 1)
        answer = await mine.http.post("/v1/embeddings", json=embeddings)
        assert answer_of(answer)["usage"]["total_tokens"] == 100
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
        refused(await mine.http.post("/v1/embeddings", json=embeddings), "tokens", 100)


async def test_tokens_of_a_stream_that_is_left(tmp_path: Path, clock: ManualClock) -> None:
    """Who hangs up pays for what was written until then."""
    async with limited(tmp_path, clock, tokens_per_minute=10**6) as server, tenant(server) as mine:
        engine = server.engines["tiny-assistant"]
        assert isinstance(engine, ScriptedEngine)
        engine.says("one two three", pause_after=2)
        body = {**CHAT, "stream": True}
        async with mine.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            await asyncio.wait_for(engine.paused.wait(), DEADLINE)
            assert stream.status_code == 200

        async def left() -> int:
            answer = await mine.http.post("/v1/embeddings", json={"model": "letters", "input": "x"})
            return int(answer.headers["x-ratelimit-remaining-tokens"])

        prompt = len(engine.requests[0].prompt)
        looks = iter(range(1, 10_000))  # each costs a token
        await eventually(left, lambda tokens: 10**6 - tokens - next(looks) > prompt)
        engine.resume()


async def test_tokens_of_runs(tmp_path: Path, clock: ManualClock) -> None:
    """A run's turns count against the key that created it, and no other key waits for it."""
    async with (
        limited(tmp_path, clock, tokens_per_minute=10) as server,
        tenant(server) as heavy,
        tenant(server) as other,
    ):
        run = answer_of(await heavy.queue())
        await eventually(lambda: heavy.status(run), lambda status: status == "completed")
        answer = await heavy.queue()
        assert "on tokens per min (TPM): Limit 10, Used " in error_of(answer, 429)["message"]
        answer_of(await other.queue())


async def test_tokens_of_a_run_whose_thread_is_deleted(tmp_path: Path, clock: ManualClock) -> None:
    """What was written until then was taken all the same."""
    async with (
        limited(tmp_path, clock, tokens_per_minute=10) as server,
        tenant(server) as heavy,
    ):
        engine = server.engines["tiny-assistant"]
        assert isinstance(engine, ScriptedEngine)
        engine.says("one two three", pause_after=2)
        run = answer_of(await heavy.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        answer_of(await heavy.http.delete(f"/v1/threads/{run['thread_id']}"))
        engine.resume()

        async def allowed() -> int:
            return (await heavy.queue()).status_code

        assert await eventually(allowed, lambda status: status == 429)


async def test_runs_at_once(tmp_path: Path, clock: ManualClock) -> None:
    """Of one key so many runs are active; one that ends, in whatever way, makes room."""
    async with (
        limited(tmp_path, clock) as server,
        tenant(server, concurrent_runs=2) as heavy,
        tenant(server) as other,
    ):
        engine = server.engines["tiny-assistant"]
        assert isinstance(engine, ScriptedEngine)
        engine.says("one", pause_after=0)
        engine.says("two", pause_after=0)
        first, _ = answer_of(await heavy.queue()), answer_of(await heavy.queue())
        text = refused(await heavy.queue(), "requests", 5)
        assert text.startswith("Rate limit reached: at most 2 runs can be active at once.")
        answer_of(await other.queue())
        await heavy.http.post(f"/v1/threads/{first['thread_id']}/runs/{first['id']}/cancel")
        engine.resume()
        await eventually(lambda: heavy.status(first), lambda status: status == "cancelled")
        answer_of(await heavy.queue())


@pytest.fixture
async def one_at_once(tmp_path: Path) -> AsyncIterator[tuple[Tenant, ScriptedEngine]]:
    """A key that may have one run at a time; the model takes two, and pauses in its first."""
    engine = ScriptedEngine(slots=2)
    engine.says("one two", pause_after=1)
    async with (
        live_server(tmp_path / "data", engine) as server,
        tenant(server, concurrent_runs=1) as mine,
    ):
        yield mine, engine


async def test_a_run_that_waits_is_none_at_once(
    one_at_once: tuple[Tenant, ScriptedEngine],
) -> None:
    """A key at its limit may have runs wait for its active one; each counts from its turn on."""
    mine, engine = one_at_once
    active = answer_of(await mine.queue())
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    waiting = [answer_of(await mine.follow(active, "queue")) for _ in range(3)]
    refused(await mine.queue(), "requests", 5)
    engine.says("three", pause_after=0)
    engine.resume()
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    assert await mine.status(active) == "completed"
    refused(await mine.queue(), "requests", 5)
    engine.resume()
    await ended(mine, waiting[-1])
    assert [await mine.status(run) for run in waiting] == ["completed"] * 3
    answer_of(await mine.queue())


async def test_no_other_run_gets_the_place(one_at_once: tuple[Tenant, ScriptedEngine]) -> None:
    """One that is asked for elsewhere while the place is handed on is refused."""
    mine, engine = one_at_once
    active = answer_of(await mine.queue())
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    waiting = answer_of(await mine.follow(active, "queue"))
    engine.says("three", pause_after=0)
    with Gate("run.completed") as gate:
        engine.resume()
        await gate.reached.wait()
        elsewhere = asyncio.create_task(mine.queue())
        await gate.open()
        refused(await elsewhere, "requests", 5)
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    engine.resume()
    await ended(mine, waiting)


async def test_what_interrupts_has_the_place_of_what_it_interrupts(tmp_path: Path) -> None:
    """Whether that one is told to end, or, as one that nobody executes, has ended at once."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path / "data", engine) as server,
        tenant(server, concurrent_runs=1) as mine,
        tenant(server) as other,
    ):
        engine.says("one two", pause_after=1)
        first = answer_of(await mine.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        second = answer_of(await mine.follow(first, "interrupt"))
        await ended(mine, second)
        assert await mine.status(first) == "cancelled"
        engine.says("one two", pause_after=1)
        engine.paused.clear()
        answer_of(await other.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        first = answer_of(await mine.queue())
        second = answer_of(await mine.follow(first, "interrupt"))
        assert second["expires_at"] is not None
        assert await mine.status(first) == "cancelled"
        engine.resume()
        await ended(mine, second)


async def test_a_race_for_one_run_at_once(one_at_once: tuple[Tenant, ScriptedEngine]) -> None:
    """In many threads: in one of them a run begins and the others wait; all else is refused."""
    mine, engine = one_at_once
    threads = [
        answer_of(await mine.http.post("/v1/threads", json={"messages": [HELLO]}))["id"]
        for _ in range(4)
    ]
    answers = await asyncio.gather(
        *(mine.follow({"thread_id": thread}, "queue") for _ in range(6) for thread in threads)
    )
    kept = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(kept) == 6
    assert len({run["thread_id"] for run in kept}) == 1
    assert {answer.status_code for answer in answers} == {200, 429}
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    engine.resume()
    for run in kept:
        await ended(mine, run)


async def test_turns_come_whatever_the_keys(one_at_once: tuple[Tenant, ScriptedEngine]) -> None:
    """A run that waited for another key's has its turn, though its own key has a run elsewhere."""
    mine, engine = one_at_once
    engine.says("three four", pause_after=1)
    _, secret = await mine.server.services.keys.create(NewKey(project=mine.project))
    async with mine.server.http() as http:
        http.headers["Authorization"] = f"Bearer {secret}"
        colleague = dataclasses.replace(mine, http=http)
        elsewhere = answer_of(await mine.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        engine.paused.clear()
        theirs = answer_of(await colleague.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        waiting = answer_of(await mine.follow(theirs, "queue"))
        last = answer_of(await colleague.follow(theirs, "queue"))
        answer_of(await http.post(f"/v1/threads/{theirs['thread_id']}/runs/{theirs['id']}/cancel"))
        for run in (theirs, waiting, last):
            await ended(mine, run)
        assert await mine.status(waiting) == "completed"
        assert await mine.status(elsewhere) == "in_progress"
        refused(await mine.queue(), "requests", 5)
        engine.resume()
        await ended(mine, elsewhere)
        answer_of(await mine.queue())


async def ended(owner: Tenant, run: dict[str, Any]) -> None:
    """Wait for a run's end."""
    await eventually(lambda: owner.status(run), TERMINAL.__contains__)


async def test_chat_completions_at_once(tmp_path: Path, clock: ManualClock) -> None:
    """They are counted apart from runs; a client that is gone makes room."""
    async with limited(tmp_path, clock) as server, tenant(server, concurrent_runs=1) as mine:
        engine = server.engines["tiny-assistant"]
        assert isinstance(engine, ScriptedEngine)
        engine.says("one two", pause_after=1)
        body = {**CHAT, "stream": True}
        async with mine.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            assert stream.status_code == 200
            over = await mine.http.post("/v1/chat/completions", json=CHAT)
            assert "at most 1 chat completions" in refused(over, "requests", 5)
            answer_of(await mine.queue())
        engine.resume()

        async def status() -> int:
            return (await mine.http.post("/v1/chat/completions", json=CHAT)).status_code

        await eventually(status, lambda status: status == 200)


async def test_limits_of_one_key(tmp_path: Path, clock: ManualClock) -> None:
    """Its own hold instead of all keys' limits, also none; the others of all keys stay."""
    async with (
        limited(tmp_path, clock, requests_per_minute=1, concurrent_runs=1) as server,
        tenant(server, requests_per_minute=0) as free,
    ):
        for _ in range(5):
            answer_of(await free.http.get("/v1/assistants"))
        key = server.services.keys.find(free.http.headers["Authorization"].split()[1])
        assert key is not None
        assert key.allowance.limits.model_dump() == {
            "requests_per_minute": 0,
            "tokens_per_minute": 0,
            "concurrent_runs": 1,
        }


async def test_limits_outlive_the_server(tmp_path: Path, clock: ManualClock) -> None:
    """What a key was created with holds after a restart."""
    async with limited(tmp_path, clock) as server:
        _, secret = await server.services.keys.create(
            NewKey(limits=OwnLimits(requests_per_minute=7))
        )
    async with limited(tmp_path, clock) as server:
        key = server.services.keys.find(secret)
        assert key is not None
        assert key.allowance.limits.requests_per_minute == 7


async def test_limits_without_keys(tmp_path: Path, clock: ManualClock) -> None:
    """All who call an open server have one allowance between them."""
    async with limited(tmp_path, clock, requests_per_minute=2) as server, server.http() as http:
        for bearer in ("sk-one", "sk-two"):
            headers = {"Authorization": f"Bearer {bearer}"}
            answer_of(await http.get("/v1/models", headers=headers))
        text = refused(await http.get("/v1/models"), "requests", 30)
        assert text.startswith("Rate limit reached for this server on requests per min")


async def test_the_sdk_raises_its_own_error(tmp_path: Path, clock: ManualClock) -> None:
    """And finds in it when to come again."""
    async with (
        limited(tmp_path, clock, requests_per_minute=1) as server,
        server.sdk(api_key="local") as sdk,
    ):
        await sdk.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.models.list()
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "60"


async def test_objects_of_a_project(tmp_path: Path, clock: ManualClock) -> None:
    """So many of a kind, however they are made; another project has room of its own."""
    most = dict.fromkeys(("assistants", "threads", "files", "vector_stores"), 2)
    most = {f"project_{kind}": number for kind, number in most.items()}
    async with (
        limited(tmp_path, clock, **most) as server,
        tenant(server) as full,
        tenant(server) as other,
    ):
        file = {"file": ("a.txt", b"x")}
        form = {"data": {"purpose": "assistants"}, "files": file}
        with_store = {"tool_resources": {"file_search": {"vector_stores": [{}]}}}
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("assistant", "/v1/assistants", {"json": {"model": "gpt-4o"}}),
            ("file", "/v1/files", form),
            ("vector store", "/v1/vector_stores", {"json": {}}),
        ]
        for kind, url, request in asked:
            while (answer := await full.http.post(url, **request)).status_code == 200:
                made = answer.json()["id"]
            error = error_of(answer)
            assert error["code"] == "object_limit_exceeded"
            assert error["message"].startswith(f"A project can have at most 2 {kind}s. ")
            assert len((await full.http.get(url)).json()["data"]) == 2
            answer_of(await other.http.post(url, **request))
            assert (await full.http.delete(f"{url}/{made}")).status_code == 200
            answer_of(await full.http.post(url, **request))
        answer_of(await full.http.post("/v1/threads", json={}))
        nested = error_of(await full.http.post("/v1/threads", json=with_store))
        assert "2 vector stores" in nested["message"]
        answer_of(await full.queue())
        assert "2 threads" in error_of(await full.queue())["message"]


async def test_queue_is_bounded(tmp_path: Path) -> None:
    """Of ten times as many runs as may wait, the rest is refused and leaves nothing behind.

    Another project's runs still find room, up to the bound of all.
    """
    engine = ScriptedEngine(slots=1)
    bounds: dict[str, Any] = {"runs__project_queue": 20, "runs__queue": 25}
    async with (
        live_server(tmp_path / "data", engine, **bounds) as server,
        tenant(server) as heavy,
        tenant(server) as other,
    ):
        engine.says(DEFAULT_ANSWER, pause_after=0)
        answer_of(await heavy.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        answers = await asyncio.gather(*(heavy.queue() for _ in range(200)))
        kept = [answer for answer in answers if answer.status_code == 200]
        over = [answer for answer in answers if answer.status_code != 200]
        assert len(kept) == 20
        text = f"The queue of project {heavy.project} is full: at most 20 runs can wait. "
        assert {refused(answer, "requests", 5) for answer in over} == {
            f"{text}Please try again in 5s."
        }
        more = [await other.queue() for _ in range(7)]
        assert [answer.status_code for answer in more] == [200] * 5 + [429] * 2
        assert "The queue of this server is full: at most 25" in more[-1].text
        active = await server.services.db.read(lambda tx: tx.runs.active())
        assert len(active) == 26
        assert len(server.services.bus._logs) == 26
        engine.resume()
        last = answer_of(kept[-1])
        await eventually(lambda: heavy.status(last), lambda status: status == "completed")
        await eventually(lambda: other.status(more[4].json()), lambda status: status == "completed")
        answer_of(await heavy.queue())


async def test_runs_that_wait_in_their_threads_are_in_the_queue(tmp_path: Path) -> None:
    """They count as those that wait for a model; what is refused for it interrupts nothing."""
    engine = ScriptedEngine(slots=2)
    bounds: dict[str, Any] = {"runs__project_queue": 10, "runs__queue": 12}
    async with (
        live_server(tmp_path / "data", engine, **bounds) as server,
        tenant(server) as heavy,
        tenant(server) as other,
    ):
        for _ in range(2):
            engine.says("one two", pause_after=1)
        active = [answer_of(await heavy.queue()) for _ in range(2)]
        for run in active:
            await eventually(partial(heavy.status, run), lambda status: status == "in_progress")
        answers = await asyncio.gather(
            *(heavy.follow(active[number % 2], "queue") for number in range(40))
        )
        kept = [answer.json() for answer in answers if answer.status_code == 200]
        assert len(kept) == 10
        over = next(answer for answer in answers if answer.status_code != 200)
        assert "is full: at most 10 runs can wait." in refused(over, "requests", 5)
        assert (await heavy.queue()).status_code == 429
        assert (await heavy.follow(active[0], "interrupt")).status_code == 429
        assert await heavy.status(active[0]) == "in_progress"
        more = [await other.queue() for _ in range(4)]
        assert [answer.status_code for answer in more] == [200] * 2 + [429] * 2
        engine.resume()
        for run in kept:
            await ended(heavy, run)
        answer_of(await heavy.queue())


def test_routes_that_ask_models_exist() -> None:
    """Those that count tokens are named in one place, by routes that there are."""
    assert {f"POST {path}" for path in ASKING_MODELS} <= {route for route, _ in routes()}
