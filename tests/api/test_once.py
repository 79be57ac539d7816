"""POSTs with an `Idempotency-Key`: they take effect once, and are answered alike ever after."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import httpx
import pytest

from server import failpoints
from server.engine.scripted import ScriptedEngine
from tests.api.wire import HELLO, SMALLEST, Json, World, answer_of, error_of, refused
from tests.covering import covers, routes
from tests.runs.story import Story, begin_story, calls_of, written
from tests.support import DEADLINE, LiveServer, ManualClock, live_server, parse_events

KEY = "Idempotency-Key"
KEYED = [
    route
    for route, operation in routes()
    if any(each["name"] == KEY for each in operation.get("parameters", ()))
]
OUTPUTS = {"tool_outputs": [{"tool_call_id": "call_x", "output": "x"}]}
CALL = written(("get_weather", '{"city": "Rome"}'))
UNKEYED = {
    "POST /v1/chat/completions",
    "POST /v1/embeddings",
    "POST /v1/files",
    "POST /v1/uploads",
    "POST /v1/uploads/{upload_id}/cancel",
    "POST /v1/uploads/{upload_id}/complete",
    "POST /v1/uploads/{upload_id}/parts",
    "POST /v1/vector_stores/{vector_store_id}/search",
}
numbers = count()
shares_the_server = pytest.mark.asyncio(loop_scope="session")


def new_key() -> str:
    """A key that no test has used."""
    return f"key-{next(numbers)}"


async def sent(spare: World, route: str, **headers: str) -> httpx.Response:
    """A small request of a route, on what is there."""
    body = dict(OUTPUTS if route.endswith("submit_tool_outputs") else SMALLEST.get(route, {}))
    if "assistant_id" in body:
        body["assistant_id"] = spare.assistant_id
    return await spare.send(route, body, headers=headers)


def is_replayed(answer: httpx.Response) -> bool:
    """Whether the answer says that it was given before."""
    return answer.headers.get("idempotent-replayed") == "true"


def test_what_takes_a_key() -> None:
    """Everything that changes rows at one stroke: all POSTs, but for files, models and searches."""
    posts = {route for route, _ in routes() if route.startswith("POST")}
    assert {*KEYED} == posts - UNKEYED


@shares_the_server
@pytest.mark.parametrize(
    "route", [pytest.param(route, marks=covers(route, KEY, "taken", "default")) for route in KEYED]
)
async def test_the_same_key_gets_the_same_answer(spare: World, route: str) -> None:
    """To the byte and with its status, also where the first answer was a refusal."""
    key = new_key()
    first, again = [await sent(spare, route, **{KEY: key}) for _ in range(2)]
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (is_replayed(first), is_replayed(again)) == (False, True)
    assert not is_replayed(await sent(spare, route))


@shares_the_server
@pytest.mark.parametrize("route", ["/v1/assistants", "/v1/assistants/{assistant_id}"])
async def test_a_model_that_is_not_served_is_a_refusal_to_be_kept(spare: World, route: str) -> None:
    """With the same key it is given again, and what else is asked for is refused."""
    url, key = spare.url(f"POST {route}"), new_key()
    first, again, other = [
        await spare.http.post(url, json={"model": model}, headers={KEY: key})
        for model in ("none", "none", "gpt-4o")
    ]
    assert error_of(first)["code"] == "model_not_found"
    assert (again.status_code, again.content) == (400, first.content)
    assert is_replayed(again)
    assert error_of(other)["code"] == "idempotency_key_reused"


@shares_the_server
@pytest.mark.parametrize(
    "route", [pytest.param(route, marks=covers(route, KEY, "limit")) for route in KEYED]
)
async def test_keys_have_1_to_255_characters(spare: World, route: str) -> None:
    """And may be anything that a header may be."""
    longest = new_key().ljust(255, "~")
    assert KEY not in (await sent(spare, route, **{KEY: longest})).text
    for key in ("", f"{longest}~"):
        refused(
            await sent(spare, route, **{KEY: key}),
            f"Invalid 'Idempotency-Key': expected 1 to 255 characters, but got {len(key)}.",
            KEY,
            "invalid_value",
        )


@shares_the_server
async def test_a_key_is_for_one_request(spare: World) -> None:
    """With another body, or at another URL, it is refused with a 400, which no SDK repeats."""
    key, thread_id = new_key(), await spare.thread()
    url = f"/v1/threads/{thread_id}/messages"
    answer_of(await spare.http.post(url, json=HELLO, headers={KEY: key}))
    other = {**HELLO, "content": "Bye!"}
    for path, body in ((url, other), ("/v1/threads", {}), (f"{url}?a=b", HELLO)):
        error = error_of(await spare.http.post(path, json=body, headers={KEY: key}))
        assert (error["param"], error["code"]) == (KEY, "idempotency_key_reused")
    assert len(answer_of(await spare.http.get(url))["data"]) == 1


@shares_the_server
async def test_a_key_is_its_callers(spare: World) -> None:
    """What another caller sends with the same key is another request."""
    key = new_key()
    ids = set()
    for caller in ("Bearer a", "Bearer b", "Bearer a"):
        headers = {KEY: key, "Authorization": caller}
        ids.add(answer_of(await spare.http.post("/v1/threads", json={}, headers=headers))["id"])
    assert len(ids) == 2


@shares_the_server
async def test_what_is_wrong_with_a_request_is_not_kept(spare: World) -> None:
    """A body that does not fit the schema is told off before its key means anything."""
    headers = {KEY: new_key()}
    error_of(await spare.http.post("/v1/threads", json={"x": 1}, headers=headers))
    answer_of(await spare.http.post("/v1/threads", json={}, headers=headers))


@shares_the_server
async def test_at_once_with_one_key(spare: World) -> None:
    """Whoever comes while the first is under way waits for its answer."""
    thread_id, headers = await spare.thread(), {KEY: new_key()}
    url = f"/v1/threads/{thread_id}/messages"
    answers = await asyncio.gather(
        *(spare.http.post(url, json=HELLO, headers=headers) for _ in range(20))
    )
    assert len({answer.content for answer in answers}) == 1
    assert sum(map(is_replayed, answers)) == 19
    assert len(answer_of(await spare.http.get(url))["data"]) == 1


async def test_a_fault_is_not_kept(http: httpx.AsyncClient) -> None:
    """Nothing was done then, so the same key may do it."""

    def fail() -> None:
        failpoints.disarm("commit.before")
        raise ZeroDivisionError

    headers = {KEY: new_key()}
    failpoints.arm("commit.before", fail)
    assert (await http.post("/v1/threads", json={}, headers=headers)).status_code == 500
    created = await http.post("/v1/threads", json={}, headers=headers)
    assert not is_replayed(created)
    assert is_replayed(await http.post("/v1/threads", json={}, headers=headers))


async def test_keys_are_forgotten(tmp_path: Path, clock: ManualClock) -> None:
    """After a day, or when the project has too many newer ones; then nothing of them is left."""
    over = {"limits__idempotency_keys": 3, "limits__idempotency_lifetime": 100}
    async with live_server(tmp_path, clock=clock, **over) as server, server.http() as http:

        async def thread(key: str) -> bool:
            """Whether the request was answered before."""
            answer = await http.post("/v1/threads", json={}, headers={KEY: key})
            return is_replayed(answer)

        kept = server.services.kept_answers
        assert [await thread(key) for key in "aabcde"] == [False, True, False, False, False, False]
        await kept.sweep()
        assert [await thread(key) for key in "eda"] == [True, True, False]
        clock.advance(100)
        assert [await thread(key) for key in "ee"] == [False, True]
        await kept.sweep()
        left = await server.services.db.read(lambda tx: tx.kept_answers.every())
        assert len(left) == 1


async def test_nothing_of_a_refused_request_is_left(story: Story) -> None:
    """What a verb did before it refused is undone, though its refusal is kept."""
    headers = {KEY: new_key()}
    thread = {"messages": [HELLO]}
    body = {"assistant_id": story.assistant_id, "model": "llama-9", "thread": thread}
    threads = "SELECT count(*) FROM thread"
    before = await scalar(story.server, threads)
    for _ in range(2):
        answer = await story.http.post("/v1/threads/runs", json=body, headers=headers)
        assert error_of(answer)["code"] == "model_not_found"
    assert await scalar(story.server, threads) == before


async def scalar(server: LiveServer, query: str) -> object:
    """The one value that a query finds."""
    return await server.services.db.read(lambda tx: tx.queries.raw.execute(query).fetchone()[0])


@pytest.fixture
async def story(server: LiveServer, engine: ScriptedEngine) -> object:
    """A thread that says hello, and an assistant that may ask for the weather."""
    async with begin_story(server, engine) as begun:
        yield begun


async def stream(story: Story, path: str, body: Json, key: str) -> str:
    """What a stream says, to its end."""
    answer = await story.http.post(path, json={**body, "stream": True}, headers={KEY: key})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    return answer.text


@pytest.mark.parametrize("path", ["/v1/threads/runs", "runs"])
async def test_a_stream_is_attached_again_from_its_first_event(story: Story, path: str) -> None:
    """The second stream of a key says what the first did; there is one run."""
    url = path if path.startswith("/") else f"{story.url}/{path}"
    body: Json = {"assistant_id": story.assistant_id}
    if path.startswith("/"):
        body["thread"] = {"messages": [HELLO]}
    story.engine.says("one two three")
    key = new_key()
    first = await stream(story, url, body, key)
    again = await story.http.post(url, json={**body, "stream": True}, headers={KEY: key})
    assert again.text == first
    assert again.headers["idempotent-replayed"] == "true"
    assert parse_events(first)[-2].name == "thread.run.completed"
    assert await scalar(story.server, "SELECT count(*) FROM run") == 1


@pytest.mark.parametrize("path", ["/v1/threads/runs", "runs"])
@pytest.mark.parametrize("said", ["one two three", CALL])
async def test_a_stream_that_is_rebuilt_begins_as_the_first_did(
    tmp_path: Path, path: str, said: str
) -> None:
    """Though another server has it: with the thread that its request made, and the deadline."""
    engine, key = ScriptedEngine(), new_key()
    engine.says(said)
    async with (
        live_server(tmp_path, engine) as server,
        begin_story(server, engine) as story,
    ):
        body: Json = {"assistant_id": story.assistant_id}
        url = path if path.startswith("/") else f"{story.url}/{path}"
        if path.startswith("/"):
            body["thread"] = {"messages": [HELLO], "metadata": {"k": "v"}}
        first = parse_events(await stream(story, url, body, key))
    async with live_server(tmp_path, engine) as server, server.http() as http:
        again = Story(server, engine, http, story.assistant_id, story.thread_id)
        rebuilt = parse_events(await stream(again, url, body, key))
    begun = 4 if path.startswith("/") else 3
    assert first[0].name == ("thread.created" if path.startswith("/") else "thread.run.created")
    assert first[begun - 1].name == "thread.run.in_progress"
    assert rebuilt[: begun + 2] == first[: begun + 2]
    assert rebuilt[-2:] == first[-2:]


async def test_a_stream_is_attached_while_it_runs(story: Story) -> None:
    """Both readers have all of it, though one came later."""
    story.engine.says("one two three", pause_after=1)
    body, key = {"assistant_id": story.assistant_id}, new_key()
    first = asyncio.create_task(stream(story, f"{story.url}/runs", body, key))
    await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)
    second = asyncio.create_task(stream(story, f"{story.url}/runs", body, key))
    story.engine.resume()
    assert await first == await second


async def test_outputs_submitted_again_with_their_key(story: Story) -> None:
    """The stream begins where the outputs went in, and not with the run."""
    story.engine.says(CALL)
    story.engine.says("Sunny.")
    run = await story.run()
    call_id = calls_of(run)[0]["id"]
    body = {"tool_outputs": [{"tool_call_id": call_id, "output": "25 degrees"}]}
    url, key = f"{story.url}/runs/{run['id']}/submit_tool_outputs", new_key()
    first = await stream(story, url, body, key)
    assert await stream(story, url, body, key) == first
    assert parse_events(first)[0].name == "thread.run.step.completed"


async def test_a_stream_whose_thread_was_deleted(story: Story, engine: ScriptedEngine) -> None:
    """It is not given out again, though its events are still held."""
    engine.says("one two three")
    url, body, key = f"{story.url}/runs", {"assistant_id": story.assistant_id}, new_key()
    await stream(story, url, body, key)
    await story.http.delete(story.url)
    gone = await story.http.post(url, json={**body, "stream": True}, headers={KEY: key})
    assert error_of(gone, 404)["message"].startswith("No run found")


async def test_a_stream_after_a_restart(tmp_path: Path, engine: ScriptedEngine) -> None:
    """It is rebuilt, with one delta for each part. That of a run that is gone is not found."""
    engine.says("one two three")
    key = new_key()
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        url, body = f"{story.url}/runs", {"assistant_id": story.assistant_id}
        first = parse_events(await stream(story, url, body, key))
    async with live_server(tmp_path, engine) as server, server.http() as http:
        again = await http.post(url, json={**body, "stream": True}, headers={KEY: key})
        told = [event.name for event in parse_events(again.text)]
        assert told == list(dict.fromkeys(event.name for event in first))
    async with live_server(tmp_path, engine) as server, server.http() as http:
        await http.delete(story.url)
        gone = await http.post(url, json={**body, "stream": True}, headers={KEY: key})
        assert error_of(gone, 404)["message"].startswith("No run found")
