"""Runs on a model that a chat endpoint serves, seen from both sides of the server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.clock import Clock
from server.engine import upstream
from server.engine.scripted import ScriptedEngine
from tests.endpoint import (
    Json,
    ScriptedEndpoint,
    call,
    chunk,
    content,
    counted,
    event,
    finished,
    scripted_endpoint,
)
from tests.runs.searching import RETURNS, Searching, annotations, found_in
from tests.runs.story import WEATHER, Story, begin_story, calls_of, granted, text_of
from tests.support import DEADLINE, ManualClock, live_server

ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'
TOO_LONG: Json = {"error": {"message": "Too long.", "code": "context_length_exceeded"}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further attempts come without a pause."""
    monkeypatch.setattr(upstream, "RETRY_AFTER", (0.0, 0.0))
    monkeypatch.setattr(upstream, "SHORTEST_PAUSE", 0.0)


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    """An endpoint that says what it is told to."""
    async with scripted_endpoint() as scripted:
        yield scripted


@contextlib.asynccontextmanager
async def story_on(
    folder: Path, url: str, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Story]:
    """A story on the model `big` of an endpoint, on a server that has a model of its own too."""
    engine = ScriptedEngine()
    own = {f"model__big__{name}": value for name, value in settings.items()}
    async with (
        live_server(folder, engine, clock=clock, model__big__upstream=url, **own) as server,
        begin_story(server, engine, model="big") as begun,
    ):
        yield begun


@pytest.fixture
async def story(tmp_path: Path, endpoint: ScriptedEndpoint) -> AsyncIterator[Story]:
    """A thread that says hello, and an assistant on `big` that may ask for the weather."""
    async with story_on(tmp_path / "data", endpoint.url) as begun:
        yield begun


def said(asked: Json) -> list[tuple[str, str | None]]:
    """Roles and contents of a request's messages."""
    return [(message["role"], message["content"]) for message in asked["messages"]]


async def test_an_answer(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The conversation goes out; text comes back as it is written, with the usage as counted."""
    endpoint.says("Hello", " there", ".", usage=counted(30, 4, cached=16, reasoning=1))
    told = await story.stream()
    deltas = [e.data["delta"] for e in told if e.name == "thread.message.delta"]
    texts = [part["text"]["value"] for delta in deltas for part in delta["content"]]
    assert texts == ["Hello", " there", "."]
    run = told[-2].data
    assert run["status"] == "completed"
    assert run["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 4,
        "total_tokens": 34,
        "prompt_token_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("completed", "Hello there.")
    assert story.engine.requests == []
    [asked] = endpoint.asked
    assert asked.body["model"] == "big"
    assert said(asked.body) == [("system", "Be kind."), ("user", "Hello!")]
    assert asked.body["max_tokens"] == 2048
    [tool] = asked.body["tools"]
    assert tool["function"]["name"] == "get_weather"


async def test_options_go_along(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    """What a run says of sampling, form, effort and tools, and what the settings say of names."""
    wanted = {
        "temperature": 0.5,
        "top_p": 0.25,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
    }
    names = {"upstream_model": "org/Big-70B", "upstream_limit": "max_completion_tokens"}
    async with story_on(tmp_path / "data", endpoint.url, **names) as story:
        limits = {"tool_choice": "required", "max_completion_tokens": 300}
        run = await story.run(**limits, **wanted, x_sampling={"seed": 7, "stop": ["END"]})
    assert run["status"] == "completed"
    body = endpoint.asked[0].body
    assert {name: body[name] for name in wanted} == wanted
    assert (body["seed"], body["stop"]) == (7, ["END"])
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert (body["model"], body["max_completion_tokens"]) == ("org/Big-70B", 300)
    assert "max_tokens" not in body


async def test_what_a_run_leaves_open_is_left_to_the_endpoint(
    story: Story, endpoint: ScriptedEndpoint
) -> None:
    """No form, effort or choice is sent where none was asked for, and no tools where none are."""
    await story.run(tools=[], tool_choice="none")
    sent = set(endpoint.asked[0].body)
    assert sent.isdisjoint(
        {"response_format", "reasoning_effort", "tool_choice", "tools", "top_k", "seed", "stop"}
    )


async def test_calls_and_their_outputs(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The ids that clients see are ours, distinct, and those that the endpoint is told again."""
    endpoint.chunks(
        content("Let me see.\n"),
        call(0, id="same", name="get_weather", arguments=ROME),
        call(1, id="same", name="get_weather", arguments=OSLO),
        finished("tool_calls"),
        {"choices": [], "usage": counted(40, 20)},
    )
    endpoint.says("Sunny in both.", usage=counted(70, 5))
    run = await story.run()
    assert run["status"] == "requires_action"
    rome, oslo = calls_of(run)
    assert [c["function"]["arguments"] for c in (rome, oslo)] == [ROME, OSLO]
    assert len({rome["id"], oslo["id"], "same"}) == 3
    granted(await story.submit(run, "Sunny.", "Sunny too."))
    run = await story.settled(run)
    assert (run["status"], run["usage"]["total_tokens"]) == ("completed", 135)
    *_, asking, first, second = endpoint.asked[1].body["messages"]
    assert (asking["role"], asking["content"]) == ("assistant", "Let me see.")
    assert [c["id"] for c in asking["tool_calls"]] == [rome["id"], oslo["id"]]
    assert [c["function"]["arguments"] for c in asking["tool_calls"]] == [ROME, OSLO]
    assert first == {"role": "tool", "tool_call_id": rome["id"], "content": "Sunny."}
    assert second == {"role": "tool", "tool_call_id": oslo["id"], "content": "Sunny too."}


async def test_the_sdks_stream_helper(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The official client streams a call and, after its output, the answer."""
    endpoint.calls(("get_weather", ROME))
    endpoint.says("It is ", "sunny.")
    where = {"thread_id": story.thread_id}
    async with story.server.sdk() as client:
        runs = client.beta.threads.runs
        async with runs.stream(assistant_id=story.assistant_id, **where) as stream:
            await stream.until_done()
        waiting = await stream.get_final_run()
        [asked] = waiting.required_action.submit_tool_outputs.tool_calls
        assert (asked.function.name, asked.function.arguments) == ("get_weather", ROME)
        outputs = [{"tool_call_id": asked.id, "output": "Sunny."}]
        async with runs.submit_tool_outputs_stream(
            run_id=waiting.id, tool_outputs=outputs, **where
        ) as stream:
            texts = [text async for text in stream.text_deltas]
        assert "".join(texts) == "It is sunny."
        assert (await stream.get_final_run()).status == "completed"


async def test_one_call_a_turn(story: Story, endpoint: ScriptedEndpoint) -> None:
    """An endpoint that calls in parallel although it must not is interrupted."""
    rest = asyncio.Event()
    endpoint.streams(
        event(call(0, id="a", name="get_weather", arguments=ROME)),
        event(call(1, id="b", name="get_weather", arguments=OSLO)),
        rest,
    )
    run = await story.run(parallel_tool_calls=False)
    assert run["status"] == "requires_action"
    assert [c["function"]["arguments"] for c in calls_of(run)] == [ROME]
    await asyncio.wait_for(endpoint.asked[0].gone.wait(), DEADLINE)


async def test_without_usage_it_is_estimated(story: Story, endpoint: ScriptedEndpoint) -> None:
    """An endpoint that counts nothing costs about what its words are."""
    endpoint.says("a word " * 30)
    run = await story.run()
    assert run["status"] == "completed"
    assert 50 < run["usage"]["completion_tokens"] < 100
    assert run["usage"]["prompt_tokens"] > 10


@pytest.mark.parametrize(
    "usage",
    [
        counted(-1, -1),
        counted(10**30, 4),
        counted(9, 2**31),
        counted(9, 4, cached=-1),
        counted(9, 4, reasoning=10**20),
    ],
)
async def test_usage_that_cannot_be_is_estimated(
    story: Story, endpoint: ScriptedEndpoint, usage: Json
) -> None:
    """As if nothing had been counted; the run ends as any other."""
    endpoint.says("a word " * 30, usage=usage)
    run = await story.run()
    assert run["status"] == "completed"
    assert 50 < run["usage"]["completion_tokens"] < 100
    assert 10 < run["usage"]["prompt_tokens"] < 1000


async def test_an_answer_that_is_cut_off(story: Story, endpoint: ScriptedEndpoint) -> None:
    """`length` makes the run incomplete, as with any model."""
    endpoint.says("One two", finish="length")
    run = await story.run()
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}


async def test_a_context_that_is_full_in_mid_answer(
    story: Story, endpoint: ScriptedEndpoint
) -> None:
    """An error that says so there is the same as `length`; before the first word it is not."""
    full = {"error": {"message": "no more", "type": "exceed_context_size_error"}}
    await story.say("And you?")
    endpoint.chunks(chunk({"role": "assistant"}), full)
    endpoint.chunks(content("One two"), full)
    run = await story.run()
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    [message] = await story.answers(run)
    assert text_of(message) == "One two"
    assert len(endpoint.asked) == 2


async def test_an_answer_that_is_filtered(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The run fails, and its message says why it is incomplete."""
    endpoint.says("One two", finish="content_filter")
    run = await story.run()
    assert run["status"] == "failed"
    assert run["last_error"]["message"] == "A content filter ended the answer."
    [message] = await story.answers(run)
    assert message["incomplete_details"] == {"reason": "content_filter"}
    assert text_of(message) == "One two"


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (401, {"error": "no"}, "server_error", "refused the key for model 'big' (401)"),
        (404, {"error": {"message": "who?"}}, "server_error", "has no model 'big'"),
        (429, {"error": {"message": "later"}}, "rate_limit_exceeded", "answered 429: later"),
        (400, {"error": {"message": "bad role"}}, "invalid_prompt", "answered 400: bad role"),
    ],
)
async def test_a_refusal_fails_the_run(
    story: Story, endpoint: ScriptedEndpoint, status: int, body: Json, code: str, said: str
) -> None:
    """The run's last error names the endpoint and says what it said."""
    endpoint.refuses(status, body)
    run = await story.run()
    assert run["status"] == "failed"
    assert run["last_error"]["code"] == code
    assert f"The endpoint {endpoint.url} " in run["last_error"]["message"]
    assert said in run["last_error"]["message"]
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("to", ["cancelled", "expired"])
async def test_a_run_that_is_put_off_can_end(
    tmp_path: Path, endpoint: ScriptedEndpoint, clock: ManualClock, to: str
) -> None:
    """It does not wait for the endpoint; one that waits long enough goes on, as any other."""
    async with story_on(tmp_path / "data", endpoint.url, clock) as story:
        endpoint.refuses(429, "later", Retry_After="0")
        endpoint.says("Here I am.")
        assert text_of((await story.answers(await story.run()))[0]) == "Here I am."
        endpoint.arrived.clear()
        endpoint.refuses(503, "later", Retry_After="60")
        run = await story.start()
        await asyncio.wait_for(endpoint.arrived.wait(), DEADLINE)
        if to == "cancelled":
            granted(await story.cancel(run))
        else:
            clock.advance(601)
            await story.server.services.executor.sweep()
        run = await story.settled(run)
    assert (run["status"], run["last_error"]) == (to, None)
    assert len(endpoint.asked) == 3


async def test_a_lost_answer_is_asked_for_again(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The run is queued again once; what was said is kept as incomplete, and not told again."""
    endpoint.streams(event(content("One two")), broken=True)
    endpoint.says("One two three.")
    run = await story.run()
    assert (run["status"], run["last_error"]) == ("completed", None)
    lost, message = await story.answers(run)
    assert (lost["status"], text_of(lost)) == ("incomplete", "One two")
    assert text_of(message) == "One two three."
    assert endpoint.asked[0].body["messages"] == endpoint.asked[1].body["messages"]


async def test_an_endpoint_that_fails_twice(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The run fails and says how."""
    endpoint.refuses(500, {"error": {"message": "out of memory"}})
    endpoint.refuses(500, {"error": {"message": "out of memory"}})
    run = await story.run()
    assert run["status"] == "failed"
    assert run["last_error"]["code"] == "server_error"
    assert run["last_error"]["message"].endswith("answered 500: out of memory")


async def test_an_endpoint_that_is_down(tmp_path: Path) -> None:
    """The server is ready without it and lists its model; a run says that it is not reachable."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with story_on(tmp_path / "data", url) as story:
            assert (await story.http.get("/readyz")).status_code == 200
            models = granted(await story.http.get("/v1/models"))["data"]
            [big] = [model for model in models if model["id"] == "big"]
            assert (big["state"], big["context_length"]) == ("ready", 32_768)
            run = await story.run()
    assert run["status"] == "failed"
    assert run["last_error"]["code"] == "server_error"
    assert run["last_error"]["message"].startswith(f"The endpoint {url} cannot be reached: ")


async def test_cancel_closes_the_connection(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The endpoint stops to write for nobody; what it has said is kept."""
    endpoint.streams(event(content("One two")), asyncio.Event())
    run = await story.start()
    async with story.server.sdk() as client:
        await _first_delta(client, story, run)
    granted(await story.cancel(run))
    await asyncio.wait_for(endpoint.asked[0].gone.wait(), DEADLINE)
    run = await story.settled(run)
    assert run["status"] == "cancelled"
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("incomplete", "One two")


async def _first_delta(client: openai.AsyncOpenAI, story: Story, run: Json) -> None:
    """Wait until the run has said something."""
    url = f"{story.server.url}{story.url}/runs/{run['id']}/events"
    async with asyncio.timeout(DEADLINE), story.http.stream("GET", url) as response:
        async for line in response.aiter_lines():
            if line == "event: thread.message.delta":
                return


async def test_a_thread_that_is_deleted(story: Story, endpoint: ScriptedEndpoint) -> None:
    """Its run ends, and the endpoint is not kept busy for it."""
    endpoint.streams(event(content("One two")), asyncio.Event())
    await story.start()
    await asyncio.wait_for(endpoint.arrived.wait(), DEADLINE)
    granted(await story.http.delete(story.url))
    await asyncio.wait_for(endpoint.asked[0].gone.wait(), DEADLINE)


async def test_a_thread_that_is_too_long(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    """The oldest messages stay away, by estimate; room is left for the answer."""
    async with story_on(tmp_path / "data", endpoint.url, context=600) as story:
        for number in range(40):
            await story.say(f"{number:02}" + "." * 88)
        run = await story.run()
    assert run["status"] == "completed"
    texts = [text or "" for _, text in said(endpoint.asked[0].body)]
    assert texts[0] == "Be kind."
    assert texts[-1].startswith("39")
    assert 2 < len(texts) < 14
    assert 150 <= endpoint.asked[0].body["max_tokens"] < 600


async def test_what_the_endpoint_finds_too_long_is_shortened(
    story: Story, endpoint: ScriptedEndpoint
) -> None:
    """It knows its tokens better than we do: the older half is left away, until it fits."""
    for number in range(7):
        await story.say(f"number {number}")
    endpoint.refuses(400, TOO_LONG)
    endpoint.refuses(400, TOO_LONG)
    run = await story.run()
    assert run["status"] == "completed"
    assert [len(asked.body["messages"]) for asked in endpoint.asked] == [9, 5, 3]
    assert said(endpoint.asked[-1].body)[-1] == ("user", "number 6")


async def test_a_message_that_fits_nowhere(story: Story, endpoint: ScriptedEndpoint) -> None:
    """Where even the newest message alone is too long, the run is incomplete."""
    endpoint.refuses(400, TOO_LONG)
    run = await story.run()
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
    assert run["usage"]["total_tokens"] == 0


async def test_a_runs_own_prompt_limit(story: Story, endpoint: ScriptedEndpoint) -> None:
    """It is held to by estimate, and without asking where nothing would fit."""
    for number in range(20):
        await story.say(f"{number:02}" + "." * 300)
    run = await story.run(tools=[], max_prompt_tokens=400)
    assert run["status"] == "completed"
    assert len(endpoint.asked[0].body["messages"]) == 4
    await story.say("." * 3000)
    run = await story.run(tools=[], max_prompt_tokens=400)
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
    assert len(endpoint.asked) == 1


async def test_the_estimate_follows_the_endpoints_count(
    story: Story, endpoint: ScriptedEndpoint
) -> None:
    """An endpoint whose tokens are a byte each soon gets no more bytes than a run has tokens."""
    for number in range(20):
        await story.say(f"{number:02}" + "." * 300)
    await story.run(tools=[], max_prompt_tokens=2000)
    assert _bytes_of(endpoint.asked[-1].body) > 4000
    for _ in range(10):
        endpoint.says("Hm.", usage=counted(6700, 1))
        await story.run(tools=[])
    await story.run(tools=[], max_prompt_tokens=2000)
    assert 1000 < _bytes_of(endpoint.asked[-1].body) < 2000


def _bytes_of(asked: Json) -> int:
    return sum(len(text or "") for _, text in said(asked))


async def test_the_key_is_read_from_the_environment(
    tmp_path: Path, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings name the variable; the key itself is in none of them."""
    monkeypatch.setenv("BIG_KEY", "sk-secret")
    async with story_on(tmp_path / "data", endpoint.url, upstream_key="BIG_KEY") as story:
        await story.run()
        assert "sk-secret" not in repr(story.server.settings)
    assert endpoint.asked[0].headers["authorization"] == "Bearer sk-secret"


async def test_no_more_runs_than_slots(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    """The others wait in the queue and not at the endpoint."""
    go = asyncio.Event()
    endpoint.streams(event(content("One")), go, event(finished("stop")))
    async with story_on(tmp_path / "data", endpoint.url, slots=1) as story:
        other = await story.another({"role": "user", "content": "And me?"})
        first, second = await story.start(), None
        await asyncio.wait_for(endpoint.arrived.wait(), DEADLINE)
        second = await other.start()
        assert (await other.now(second))["status"] == "queued"
        assert len(endpoint.asked) == 1
        go.set()
        assert (await story.settled(first))["status"] == "completed"
        assert (await other.settled(second))["status"] == "completed"
    assert len(endpoint.asked) == 2


async def test_an_endpoint_can_be_the_only_model(
    tmp_path: Path, endpoint: ScriptedEndpoint
) -> None:
    """Then the names that applications use stand for it."""
    model = {"models__default": "big", "model__big__upstream": endpoint.url}
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path / "data", engines={}, **model) as server,
        begin_story(server, engine, model="gpt-4o", tools=[WEATHER]) as story,
    ):
        run = await story.run()
    assert (run["status"], run["model"]) == ("completed", "gpt-4o")
    assert len(endpoint.asked) == 1


async def test_files_are_searched_for_an_endpoint(story: Story, endpoint: ScriptedEndpoint) -> None:
    """The server answers the call, under an id of its own; what the endpoint cites is annotated."""
    searching = Searching.of(story)
    await searching.search_in(await searching.store(returns=RETURNS))
    endpoint.chunks(
        call(0, id="theirs", name="file_search", arguments='{"query": "things returned"}'),
        finished("tool_calls"),
        {"choices": [], "usage": counted(40, 20)},
    )
    endpoint.says("For a month ", "[", "1", "]", ".", usage=counted(90, 5))
    run = await searching.run()
    assert (run["status"], run["usage"]["total_tokens"]) == ("completed", 155)
    first, second = (asked.body for asked in endpoint.asked)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["file_search", "get_weather"]
    search, _ = await searching.steps(run)
    [found] = found_in(search)
    *_, asked, told = second["messages"]
    [called] = asked["tool_calls"]
    assert called["function"] == {
        "name": "file_search",
        "arguments": '{"query": "things returned"}',
    }
    assert called["id"] == told["tool_call_id"] == search["step_details"]["tool_calls"][0]["id"]
    assert told["content"] == f"[1] returns.md\n{RETURNS.rstrip()}"
    [answer] = await searching.answers(run)
    assert text_of(answer) == "For a month 【0:0†returns.md】."
    assert annotations(answer)[0]["file_citation"] == {"file_id": found["file_id"]}
