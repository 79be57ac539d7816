"""Retries that are marked as the SDKs mark them: under a thread they get what was made already."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from server import failpoints
from server.api.once import Posting
from server.api.respond import showing
from server.db.database import DatabaseBusy, Tx
from server.engine.scripted import ScriptedEngine
from server.runs.attempt import Attempt
from server.schemas import CreateMessage, Message
from tests.runs.lossy import lossy_proxy
from tests.runs.story import (
    HELLO,
    Json,
    Story,
    begin_story,
    calls_of,
    granted,
    refusal,
    text_of,
    written,
)
from tests.support import LiveServer, ManualClock, live_server

CALL = written(("get_weather", '{"city": "Rome"}'))
AGAIN: Json = {"role": "user", "content": "Go on."}


async def send(
    story: Story, path: str, body: Json | None = None, number: int = 0, caller: str = "Bearer a"
) -> httpx.Response:
    """One sending of a request under the thread, marked as the SDKs mark it."""
    headers = {"X-Stainless-Retry-Count": str(number), "Authorization": caller}
    url = path if path.startswith("/") else f"{story.url}/{path}"
    return await story.http.post(url, json=body, headers=headers)


async def made(story: Story, path: str, body: Json, number: int = 0, **how: str) -> str:
    """The id of what one sending of a request was answered with."""
    return str(granted(await send(story, path, body, number, **how))["id"])


async def test_a_message_is_added_once(story: Story) -> None:
    """However often it is sent again: each retry gets what the first has made."""
    first = await made(story, "messages", AGAIN)
    assert [await made(story, "messages", AGAIN, n) for n in (1, 2)] == [first] * 2
    assert [m["id"] for m in (await story.messages())[1:]] == [first]


async def test_the_same_words_twice_are_two_messages(story: Story) -> None:
    """What is not marked is a request of its own; and so is a retry whose number was used up."""
    ids = [await made(story, "messages", AGAIN) for _ in range(2)]
    ids += [await made(story, "messages", AGAIN, 1) for _ in range(3)]
    assert ids[2:4] == [ids[1], ids[0]]
    assert ids[4] not in ids[:4]
    assert len(await story.messages()) == 1 + 3


async def test_a_run_is_created_once(story: Story) -> None:
    """A retry gets the run as it is, or its stream from the first event."""
    story.engine.says("one two")
    body = {"assistant_id": story.assistant_id, "additional_messages": [AGAIN]}
    first = await made(story, "runs", body)
    assert await made(story, "runs", body, 1) == first
    run = await story.settled({"id": first})
    assert granted(await send(story, "runs", body, 2)) == run
    streamed = {**body, "stream": True}
    told = await send(story, "runs", streamed)
    assert told.text.startswith("event: thread.run.created\n")
    assert (await send(story, "runs", streamed, 1)).text == told.text
    assert [message["role"] for message in await story.messages()].count("user") == 3


async def test_outputs_are_submitted_once(story: Story) -> None:
    """A retry finds them where they are; what was not submitted is still refused."""
    story.engine.says(CALL)
    story.engine.says("Sunny.")
    run = await story.run()
    output = {"tool_call_id": calls_of(run)[0]["id"], "output": "25 degrees"}
    path, body = f"runs/{run['id']}/submit_tool_outputs", {"tool_outputs": [output]}
    granted(await send(story, path, body))
    run = await story.settled(run)
    assert granted(await send(story, path, body, 1)) == run
    streamed = (await send(story, path, {**body, "stream": True}, 2)).text
    assert streamed.startswith("event: thread.run.step.completed\n")
    assert "do not accept" in refusal(await send(story, path, body))
    other = {"tool_outputs": [{**output, "output": "26 degrees"}]}
    assert "do not accept" in refusal(await send(story, path, other, 1))


async def test_a_run_is_cancelled_once(story: Story) -> None:
    """A retry gets the run that was cancelled; a run that has ended otherwise cannot be."""
    story.engine.says("one two three", pause_after=1)
    run = await story.paused()
    path = f"runs/{run['id']}/cancel"
    granted(await send(story, path))
    assert granted(await send(story, path, number=1))["status"] in ("cancelling", "cancelled")
    run = await story.settled(run)
    assert granted(await send(story, path, number=1)) == run
    assert "Cannot cancel" in refusal(await send(story, path))
    done = await story.run()
    assert "Cannot cancel" in refusal(await send(story, f"runs/{done['id']}/cancel", number=1))


@pytest.mark.parametrize("path", ["/v1/threads", "/v1/threads/runs", "/v1/assistants"])
async def test_what_stands_alone_is_always_made(story: Story, path: str) -> None:
    """Nothing tells whose it was: an orphan does no harm, and a shared thread would."""
    body: Json = {
        "/v1/threads": {},
        "/v1/threads/runs": {"assistant_id": story.assistant_id, "thread": {"messages": [HELLO]}},
        "/v1/assistants": {"model": "gpt-4o"},
    }[path]
    assert len({await made(story, path, body, n) for n in range(3)}) == 3


async def test_another_callers_is_never_given(story: Story) -> None:
    """Whoever sends the same into the same thread, marked as a retry, makes their own."""
    theirs = await made(story, "messages", AGAIN)
    mine = await made(story, "messages", AGAIN, 1, caller="Bearer b")
    assert mine != theirs
    assert await made(story, "messages", AGAIN, 1) == theirs
    assert await made(story, "messages", AGAIN, 2, caller="Bearer b") == mine


async def test_another_body_is_another_request(story: Story) -> None:
    """A retry is matched to the same words only."""
    first = await made(story, "messages", AGAIN)
    assert await made(story, "messages", HELLO, 1) != first


async def test_when_the_conversation_has_gone_on(story: Story) -> None:
    """The same words as in an earlier turn, whose first sending did not arrive, are new words."""
    body = {"assistant_id": story.assistant_id}
    first = await made(story, "messages", AGAIN)
    run = await story.settled({"id": await made(story, "runs", body)})
    second = await made(story, "messages", AGAIN, 1)
    assert second != first
    assert await made(story, "runs", body, 1) != run["id"]


async def test_what_was_refused_for_now_was_not_done(story: Story) -> None:
    """The retry of a sending that was told to come again is new, and can be retried itself."""

    def fail() -> None:
        failpoints.disarm("commit.before")
        raise DatabaseBusy

    first = await made(story, "messages", AGAIN)
    failpoints.arm("commit.before", fail)
    assert (await send(story, "messages", AGAIN)).status_code == 503
    second = await made(story, "messages", AGAIN, 1)
    assert second != first
    assert await made(story, "messages", AGAIN, 2) == second
    failpoints.arm("commit.before", fail)
    assert (await send(story, "messages", AGAIN, 3)).status_code == 503
    assert await made(story, "messages", AGAIN, 4) == second


async def test_another_was_refused_for_now(tmp_path: Path, clock: ManualClock) -> None:
    """With the same key, on the same path, for a limit: a retry of what was done gets that."""
    engine, other = ScriptedEngine(), {**AGAIN, "content": "Stop."}
    limited = live_server(tmp_path, engine, clock=clock, limits__requests_per_minute=10)
    async with limited as server, begin_story(server, engine) as story:
        clock.advance(60)
        first = await made(story, "messages", AGAIN)
        while (answer := await send(story, "messages", other)).status_code == 200:
            pass
        assert answer.status_code == 429
        clock.advance(60)
        assert await made(story, "messages", AGAIN, 1) == first
        newest = await made(story, "messages", other, 1)
        assert await made(story, "messages", other, 2) == newest
        texts = [text_of(message) for message in await story.messages()]
        assert texts.count("Go on.") == 1
        assert texts.count("Stop.") == 9 + 1


async def test_a_retry_comes_soon(tmp_path: Path, clock: ManualClock) -> None:
    """Half an hour later the same words are new ones."""
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        first = await made(story, "messages", AGAIN)
        clock.advance(1800)
        assert await made(story, "messages", AGAIN, 1) == first
        clock.advance(1)
        assert await made(story, "messages", AGAIN, 2) != first


@pytest.mark.parametrize("count", ["", "-1", "x", "1e3", "9999", "\u0661"])
async def test_marks_that_are_none(story: Story, count: str) -> None:
    """They mark no retry, and are no error."""
    headers = {"X-Stainless-Retry-Count": count.encode()}
    url = f"{story.url}/messages"
    ids = {granted(await story.http.post(url, json=AGAIN, headers=headers))["id"] for _ in "ab"}
    assert len(ids) == 2


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not wait before it sends a request again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


class Losses:
    """Loses the answers to some POSTs, never those of a last retry."""

    def __init__(self, retries: int) -> None:
        self.lost = Counter[bytes]()
        self._last = b"x-stainless-retry-count: %d" % retries
        self._random = random.Random(7)

    def __call__(self, head: bytes) -> bool:
        line = head.partition(b"\r\n")[0]
        if (
            not line.startswith(b"POST")
            or self._last in head.lower()
            or self._random.random() < 0.4
        ):
            return False
        self.lost[line.split()[1].rpartition(b"/")[2]] += 1
        return True


async def whole_job(sdk: openai.AsyncOpenAI, assistant_id: str, name: str) -> str:
    """A message, a run with a call, its outputs, and a run that is cancelled; the thread's id."""
    thread = await sdk.beta.threads.create(metadata={"name": name})
    here: Any = {"thread_id": thread.id}
    await sdk.beta.threads.messages.create(**here, role="user", content=name)
    run = await sdk.beta.threads.runs.create_and_poll(**here, assistant_id=assistant_id)
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    outputs: Any = [{"tool_call_id": call.id, "output": name}]
    async with sdk.beta.threads.runs.submit_tool_outputs_stream(
        **here, run_id=run.id, tool_outputs=outputs
    ) as stream:
        await stream.until_done()
    await sdk.beta.threads.messages.create(**here, role="user", content="More.")
    async with sdk.beta.threads.runs.stream(**here, assistant_id=assistant_id) as stream:
        await stream.until_done()
        last = stream.current_run
    assert last is not None
    assert last.status == "requires_action"
    await sdk.beta.threads.runs.cancel(last.id, **here)
    return thread.id


@pytest.mark.usefixtures("at_once")
async def test_the_sdk_behind_a_proxy_that_loses_answers(server: LiveServer, story: Story) -> None:
    """Some jobs, most of whose answers are lost once or more: each was done exactly once."""
    retries, jobs = 6, [f"job {number}" for number in range(6)]
    losses, threads = Losses(retries), list[str]()
    async with lossy_proxy(server.url, losses) as url:
        sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="a", max_retries=retries)
        async with sdk:
            for name in jobs:
                for text in (CALL, "Done.", CALL):
                    story.engine.says(text)
                threads.append(await whole_job(sdk, story.assistant_id, name))
    for thread_id, name in zip(threads, jobs, strict=True):
        there = Story(server, story.engine, story.http, story.assistant_id, thread_id)
        texts = [
            m["content"][0]["text"]["value"] for m in await there.messages() if not m["run_id"]
        ]
        assert texts == [name, "More."]
        runs = granted(await story.http.get(f"{there.url}/runs"))["data"]
        assert sorted(run["status"] for run in runs) == ["cancelled", "completed"]
    assert {b"messages", b"runs", b"submit_tool_outputs", b"cancel"} <= losses.lost.keys()


CLIENTS, CALLS, LOST = 100, 100, 0.3
WORDS = CreateMessage(role="user", content="The same words.")
SHOW = showing(Message)


class Client:
    """Adds the same words to a thread, many times, and sends them again where an answer is lost."""

    def __init__(self, server: LiveServer, thread_id: str, name: str, *, keyed: bool) -> None:
        self.ids: list[str] = []
        self._server = server
        self._thread_id = thread_id
        self._name = name
        self._keyed = keyed
        self._random = random.Random(name)

    async def live(self) -> None:
        """All its calls, one after the other."""
        for number in range(CALLS):
            self.ids.append(await self._call(f"{self._name} {number}" if self._keyed else None))

    async def _call(self, key: str | None) -> str:
        for number in range(100):
            message_id = await self._send(key, number)
            if self._random.random() >= LOST:
                break
        return message_id

    async def _send(self, key: str | None, number: int) -> str:
        attempt = Attempt("asked" if self._keyed else self._name, 0 if key else number)
        services = self._server.services

        def add(tx: Tx) -> Any:
            return services.lifecycle.add_message(tx, "default", self._thread_id, WORDS, attempt)

        post = Posting(services.db, services.kept_answers, key, lambda: attempt)
        answer = await post.answer("default", add, SHOW)
        message_id: str = orjson.loads(answer.body)["id"]
        return message_id


async def test_ten_thousand_calls_with_lost_answers(server: LiveServer, story: Story) -> None:
    """A third of all answers is lost; nothing is done twice, and nobody gets what another made.

    With keys the clients are one caller; without, each is one. Some have a thread of their own.
    """
    shared = await story.another()
    clients = [
        Client(
            server,
            (await story.another()).thread_id if number % 4 == 0 else shared.thread_id,
            f"client {number}",
            keyed=number % 2 == 1,
        )
        for number in range(CLIENTS)
    ]
    await asyncio.gather(*(client.live() for client in clients))
    ids = [message_id for client in clients for message_id in client.ids]
    assert len({*ids}) == len(ids) == CLIENTS * CALLS
    rows = await server.services.db.read(lambda tx: tx.messages.every(role="user"))
    assert {row.id for row in rows} >= {*ids}
    assert len(rows) == len(ids) + 1, "the first is of the story's own thread"


@pytest.mark.parametrize("point", ["commit.before", "commit.after"])
@pytest.mark.parametrize("headers", [{"Idempotency-Key": "a"}, {"X-Stainless-Retry-Count": "1"}])
async def test_killed_at_the_commit(
    tmp_path: Path, engine: ScriptedEngine, point: str, headers: dict[str, str]
) -> None:
    """Whether the server died before or after it: after the restart a retry leaves one message."""
    data, left = tmp_path / "data", tmp_path / "left"

    def die() -> None:
        """What a process leaves that is killed here."""
        failpoints.disarm(point)
        shutil.copytree(data, left, ignore=shutil.ignore_patterns("*.sock"))

    async with live_server(data, engine) as server, begin_story(server, engine) as story:
        first = {name: value for name, value in headers.items() if name == "Idempotency-Key"}
        failpoints.arm(point, die)
        await story.http.post(f"{story.url}/messages", json=AGAIN, headers=first)
    async with live_server(left, engine) as server, server.http() as http:
        there = Story(server, engine, http, story.assistant_id, story.thread_id)
        assert len(await there.messages()) == (1 if point == "commit.before" else 2)
        ids = {
            granted(await http.post(f"{story.url}/messages", json=AGAIN, headers=headers))["id"]
            for _ in range(1 if "X-Stainless-Retry-Count" in headers else 2)
        }
        assert [message["id"] for message in (await there.messages())[1:]] == [*ids]
