"""Threads with an active run: what is new in them is refused, waits its turn, or interrupts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.administer import administer
from server.engine.protocol import EngineError
from server.engine.scripted import DEFAULT_ANSWER, ScriptedEngine
from tests.covering import covers
from tests.runs.gate import Gate
from tests.runs.story import Json, Story, begin_story, granted, refusal, text_of, written
from tests.support import (
    DEADLINE,
    LiveServer,
    ManualClock,
    eventually,
    live_server,
    parse_events,
)
from tests.tenants import tenant

HEADER = "X-Busy-Policy"
MESSAGES = "POST /v1/threads/{thread_id}/messages"
RUNS = "POST /v1/threads/{thread_id}/runs"
QUEUE, INTERRUPT = "queue", "interrupt"
CALL = written(("get_weather", '{"city": "Rome"}'))


async def texts(story: Story) -> list[str]:
    """What the thread shows, oldest first."""
    return [text_of(message) for message in await story.messages()]


@pytest.fixture
async def busy(story: Story) -> tuple[Story, Json]:
    """A thread whose run has said a word and pauses."""
    story.engine.says("one two", pause_after=1)
    return story, await story.paused()


@covers(RUNS, HEADER, "default")
@covers(MESSAGES, HEADER, "default")
async def test_refused_unless_told_otherwise(busy: tuple[Story, Json]) -> None:
    """As the hosted API did: 400 for runs and for messages, by default and by name."""
    story, run = busy
    for answer in (await story.create(), await story.create(busy="error")):
        assert refusal(answer) == f"Thread {story.thread_id} already has an active run {run['id']}."
    for answer in (await story.say("More."), await story.say("More.", busy="error")):
        assert refusal(answer).startswith("Can't add messages to")


@covers(RUNS, HEADER, "limit")
@covers(MESSAGES, HEADER, "limit")
async def test_a_policy_that_is_none(story: Story) -> None:
    """The error tells which there are."""
    for answer in (await story.create(busy="wait"), await story.say("More.", busy="wait")):
        assert refusal(answer) == (
            "Invalid value: 'wait'. Supported values are: 'error', 'queue', and 'interrupt'."
        )
        assert answer.json()["error"]["param"] == HEADER


async def test_where_no_run_is_active(story: Story) -> None:
    """Every policy is the same: nothing waits."""
    for policy in ("error", QUEUE, INTERRUPT):
        granted(await story.say(policy, busy=policy))
        assert (await texts(story))[-1] == policy
        run = granted(await story.create(busy=policy))
        assert run["expires_at"] is not None
        assert (await story.settled(run))["status"] == "completed"


@covers(RUNS, HEADER, "taken")
@covers(MESSAGES, HEADER, "taken")
async def test_in_order(busy: tuple[Story, Json]) -> None:
    """Messages and runs come as they were sent, each message before the run that followed it."""
    story, run = busy
    engine = story.engine
    for text in ("first answer", "second answer"):
        engine.says(text)
    granted(await story.say("first", busy=QUEUE))
    first = granted(await story.create(busy=QUEUE))
    granted(await story.say("second", busy=QUEUE))
    second = granted(await story.create(busy=QUEUE))
    last = granted(await story.say("last", busy=QUEUE))
    for waiting in (first, second):
        assert (waiting["status"], waiting["started_at"], waiting["expires_at"]) == (
            "queued",
            None,
            None,
        )
        assert await story.now(waiting) == waiting
    assert await texts(story) == ["Hello!", ""]
    engine.resume()
    for each in (run, first, second):
        assert (await story.settled(each))["status"] == "completed"
    assert await texts(story) == [
        "Hello!",
        "one two",
        "first",
        "first answer",
        "second",
        "second answer",
        "last",
    ]
    assert (await story.messages())[-1] == last
    sent = ("<|im_start|>user\nfirst", "<|im_start|>user\nsecond", "<|im_start|>user\nlast")
    known = [[message in prompt for message in sent] for prompt in engine.prompts]
    assert known == [[False] * 3, [True, False, False], [True, True, False]]


async def test_a_waiting_message_is_there_for_who_knows_it(busy: tuple[Story, Json]) -> None:
    """It can be read, changed and deleted by its id before it is shown."""
    story, run = busy
    first, second = [granted(await story.say(text, busy=QUEUE)) for text in ("first", "second")]
    url = f"{story.url}/messages/{first['id']}"
    assert granted(await story.http.get(url)) == first
    changed = granted(await story.http.post(url, json={"metadata": {"a": "b"}}))
    granted(await story.http.delete(f"{story.url}/messages/{second['id']}"))
    assert await texts(story) == ["Hello!", ""]
    story.engine.resume()
    await story.settled(run)
    assert (await story.messages())[-1] == changed


async def test_additional_messages_wait_with_their_run(busy: tuple[Story, Json]) -> None:
    """They are shown when it begins."""
    story, run = busy
    story.engine.says("answer")
    more = [{"role": "user", "content": text} for text in ("a", "b")]
    waiting = granted(await story.create(busy=QUEUE, additional_messages=more))
    assert await texts(story) == ["Hello!", ""]
    story.engine.resume()
    await story.settled(run)
    await story.settled(waiting)
    assert (await texts(story))[2:] == ["a", "b", "answer"]


async def test_a_waiting_run_can_be_streamed(busy: tuple[Story, Json]) -> None:
    """Its stream begins at once, and goes on when its turn comes."""
    story, _ = busy
    story.engine.says("answer")
    streaming = asyncio.create_task(story.create(busy=QUEUE, stream=True))
    await eventually(story.readers, lambda readers: readers == 1)
    story.engine.resume()
    told = parse_events((await streaming).text)
    assert [event.name for event in told[:3]] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
    ]
    assert told[-2].name == "thread.run.completed"


async def test_interrupted(busy: tuple[Story, Json]) -> None:
    """The active run is cancelled and keeps its words; then comes what has interrupted it."""
    story, run = busy
    story.engine.says("answer")
    granted(await story.say("Stop.", busy=INTERRUPT))
    waiting = granted(await story.create(busy=INTERRUPT))
    assert (await story.settled(run))["status"] == "cancelled"
    assert (await story.settled(waiting))["status"] == "completed"
    assert await texts(story) == ["Hello!", "one", "Stop.", "answer"]


async def test_interrupted_where_nobody_works(story: Story) -> None:
    """A run that waits for outputs is cancelled at once, and nothing has to wait."""
    story.engine.says(CALL)
    story.engine.says(CALL)
    run = await story.run()
    granted(await story.say("Never mind.", busy=INTERRUPT))
    assert (await story.now(run))["status"] == "cancelled"
    assert await texts(story) == ["Hello!", "Never mind."]
    run = await story.run()
    other = granted(await story.create(busy=INTERRUPT))
    assert (await story.now(run))["status"] == "cancelled"
    assert other["expires_at"] is not None
    assert (await story.settled(other))["status"] == "completed"


async def test_interrupted_twice(busy: tuple[Story, Json]) -> None:
    """What has interrupted a run is interrupted itself, while it answers."""
    story, run = busy
    story.engine.paused.clear()
    story.engine.says("two", pause_after=0)
    second = granted(await story.create(busy=INTERRUPT))
    await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)
    await story.settled(run)
    third = granted(await story.create(busy=INTERRUPT))
    ends = [(await story.settled(each))["status"] for each in (run, second, third)]
    assert ends == ["cancelled", "cancelled", "completed"]


async def test_interrupted_twice_at_once(busy: tuple[Story, Json]) -> None:
    """The same where the first run has still to end."""
    story, run = busy
    with Gate("run.cancelling") as gate:
        one = asyncio.create_task(story.create(busy=INTERRUPT))
        await gate.reached.wait()
        two = asyncio.create_task(story.create(busy=INTERRUPT))
        await gate.open()
        second, third = granted(await one), granted(await two)
    ends = [(await story.settled(each))["status"] for each in (run, second, third)]
    assert ends == ["cancelled", "cancelled", "completed"]


async def test_what_interrupts_goes_behind_what_waits(busy: tuple[Story, Json]) -> None:
    """It ends the active run only."""
    story, run = busy
    for text in ("first answer", "second answer"):
        story.engine.says(text)
    first = granted(await story.create(busy=QUEUE))
    second = granted(await story.create(busy=INTERRUPT))
    assert (await story.settled(run))["status"] == "cancelled"
    for each in (first, second):
        assert (await story.settled(each))["status"] == "completed"
    assert (await texts(story))[1:] == ["one", "first answer", "second answer"]


async def test_a_refused_run_interrupts_nothing(busy: tuple[Story, Json]) -> None:
    """All or nothing."""
    story, run = busy
    assert "does not exist" in refusal(await story.create(busy=INTERRUPT, model="llama-9"))
    story.engine.resume()
    assert (await story.settled(run))["status"] == "completed"


async def test_a_waiting_run_is_cancelled(busy: tuple[Story, Json]) -> None:
    """At once, without a word; those behind it keep their places, and so does the active run."""
    story, run = busy
    story.engine.says("answer")
    first = granted(await story.create(busy=QUEUE))
    granted(await story.say("More.", busy=QUEUE))
    second = granted(await story.create(busy=QUEUE))
    assert granted(await story.cancel(first))["status"] == "cancelling"
    assert (await story.settled(first))["status"] == "cancelled"
    assert await texts(story) == ["Hello!", ""]
    story.engine.resume()
    for each in (run, second):
        assert (await story.settled(each))["status"] == "completed"
    assert (await texts(story))[2:] == ["More.", "answer"]


@pytest.mark.parametrize("end", ["failed", "incomplete", "cancelled"])
async def test_however_the_active_run_ends(busy: tuple[Story, Json], end: str) -> None:
    """The next one begins."""
    story, _ = busy
    story.engine.resume()
    await eventually(story.running, lambda running: running == 0)
    match end:
        case "failed":
            story.engine.fails(EngineError("No luck."), after=1)
        case "incomplete":
            story.engine.says("one two", finish="length")
        case "cancelled":
            story.engine.says("one two", pause_after=1)
    with Gate("run.in_progress") as gate:
        run = await story.start()
        await gate.reached.wait()
        wanting = asyncio.create_task(story.create(busy=QUEUE))
        await gate.open()
        waiting = granted(await wanting)
    assert waiting["expires_at"] is None
    if end == "cancelled":
        await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)  # or it says nothing of that
        granted(await story.cancel(run))
    assert (await story.settled(run))["status"] == end
    assert (await story.settled(waiting))["status"] == "completed"


async def test_deleted_with_its_thread(busy: tuple[Story, Json]) -> None:
    """The streams of waiting runs break off like that of the active one."""
    story, _ = busy
    streaming = asyncio.create_task(story.create(busy=QUEUE, stream=True))
    await eventually(story.readers, lambda readers: readers == 1)
    granted(await story.http.delete(story.url))
    told = parse_events((await streaming).text)
    assert [event.name for event in told[-2:]] == ["error", "done"]
    assert "was deleted" in told[-2].data["error"]["message"]


async def test_only_so_many_wait(tmp_path: Path, engine: ScriptedEngine) -> None:
    """Runs and messages together, also those of one request; what was taken is not lost."""
    async with (
        live_server(tmp_path, engine, runs__busy_waiting=2) as server,
        begin_story(server, engine) as story,
    ):
        engine.says("one two", pause_after=1)
        run = await story.paused()
        granted(await story.say("More.", busy=QUEUE))
        more = [{"role": "user", "content": "And this."}]
        both = await story.create(busy=QUEUE, additional_messages=more)
        assert "cannot take 2 more at once" in refusal(both)
        waiting = granted(await story.create(busy=QUEUE))
        for answer in (await story.create(busy=QUEUE), await story.say("Too much.", busy=QUEUE)):
            assert refusal(answer).startswith(f"Thread {story.thread_id} has 2 runs and messages")
            assert answer.json()["error"]["code"] == "thread_queue_full"
        engine.resume()
        for each in (run, waiting):
            assert (await story.settled(each))["status"] == "completed"
        assert (await texts(story))[2] == "More."


async def test_by_setting(tmp_path: Path, engine: ScriptedEngine) -> None:
    """A server may have things wait by default; a request may still say otherwise."""
    async with (
        live_server(tmp_path, engine, runs__busy_policy=QUEUE) as server,
        begin_story(server, engine) as story,
    ):
        engine.says("one two", pause_after=1)
        run = await story.paused()
        waiting = await story.start()
        granted(await story.say("More."))
        assert "already has" in refusal(await story.create(busy="error"))
        engine.resume()
        for each in (run, waiting):
            assert (await story.settled(each))["status"] == "completed"


async def set_policy(server: LiveServer, project: str, policy: str | None) -> None:
    """As `assistants projects set` does."""
    wanted = {"id": project, "busy_policy": policy}
    await asyncio.to_thread(administer, server.settings, "projects.set", wanted)


async def test_by_project(tmp_path: Path, engine: ScriptedEngine) -> None:
    """From the next request on it holds before the server's, and what a request says before it."""
    async with (
        live_server(tmp_path, engine, runs__busy_policy=INTERRUPT) as server,
        begin_story(server, engine) as story,
    ):
        engine.says("one two", pause_after=1)
        run = await story.paused()
        await set_policy(server, "default", QUEUE)
        waiting = await story.start()
        granted(await story.say("More."))
        assert "already has" in refusal(await story.create(busy="error"))
        await set_policy(server, "default", "error")
        assert "already has" in refusal(await story.create())
        assert refusal(await story.say("Too much.")).startswith("Can't add messages to")
        last = granted(await story.create(busy=QUEUE))
        assert (await story.now(run))["status"] == "in_progress"
        await set_policy(server, "default", None)
        granted(await story.say("Stop."))
        assert (await story.settled(run))["status"] == "cancelled"
        for each in (waiting, last):
            assert (await story.settled(each))["status"] == "completed"
        answer = DEFAULT_ANSWER
        assert (await texts(story))[1:] == ["one", answer, "More.", answer, "Stop."]


async def test_of_another_project(tmp_path: Path) -> None:
    """Each has its own policy, or the server's."""
    engine = ScriptedEngine(slots=2)
    async with (
        live_server(tmp_path, engine) as server,
        tenant(server) as patient,
        tenant(server) as other,
    ):
        await set_policy(server, patient.project, QUEUE)
        active = []
        for owner in (patient, other):
            engine.paused.clear()
            engine.says("one two", pause_after=1)
            active.append(granted(await owner.queue()))
            await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        waited_for, refused_for = active
        waiting = granted(await patient.follow(waited_for))
        assert waiting["expires_at"] is None
        assert "already has" in refusal(await other.follow(refused_for))
        engine.resume()
        await eventually(lambda: patient.status(waiting), lambda status: status == "completed")


@pytest.fixture
async def timed(tmp_path: Path, engine: ScriptedEngine, clock: ManualClock) -> AsyncIterator[Story]:
    """A story whose time stands still."""
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        yield story


async def test_time_begins_with_the_turn(timed: Story, clock: ManualClock) -> None:
    """A run that waits does not expire; when the one before it does, its own time begins."""
    sweep = timed.server.services.executor.sweep
    timed.engine.says(CALL)
    timed.engine.says("one two", pause_after=1)
    run = await timed.run()
    waiting = granted(await timed.create(busy=QUEUE))
    clock.advance(600)
    await sweep()
    assert (await timed.settled(run))["status"] == "expired"
    await asyncio.wait_for(timed.engine.paused.wait(), DEADLINE)
    assert (await timed.now(waiting))["expires_at"] == clock.now() + 600
    clock.advance(599)
    await sweep()
    assert (await timed.now(waiting))["status"] == "in_progress"
    clock.advance(1)
    await sweep()
    assert (await timed.settled(waiting))["status"] == "expired"


async def test_after_a_restart(tmp_path: Path, engine: ScriptedEngine) -> None:
    """What waited still does, in its order, behind the run that is taken up again."""
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        engine.says(CALL)
        run = await story.run()
        granted(await story.say("More.", busy=QUEUE))
        waiting = granted(await story.create(busy=QUEUE))
    engine.says("Sunny.")
    engine.says("answer")
    async with live_server(tmp_path, engine) as server, server.http() as http:
        there = Story(server, engine, http, story.assistant_id, story.thread_id)
        assert await texts(there) == ["Hello!"]
        granted(await there.submit(run, "25 degrees"))
        for each in (run, waiting):
            assert (await there.settled(each))["status"] == "completed"
        assert await texts(there) == ["Hello!", "Sunny.", "More.", "answer"]


async def test_a_run_that_a_restart_ends(tmp_path: Path, engine: ScriptedEngine) -> None:
    """One that fails at the start, since it was restarted too often, makes way for the next."""
    data, left = tmp_path / "data", tmp_path / "left"
    async with live_server(data, engine) as server, begin_story(server, engine) as story:
        engine.says("one two", pause_after=1)
        run = await story.paused()
        waiting = granted(await story.create(busy=QUEUE))
        more = granted(await story.say("More.", busy=QUEUE))
        shutil.copytree(data, left, ignore=shutil.ignore_patterns("*.sock"))
    engine.says("answer")
    async with live_server(left, engine, runs__restarts=0) as server, server.http() as http:
        there = Story(server, engine, http, story.assistant_id, story.thread_id)
        assert (await there.settled(run))["status"] == "failed"
        waiting = await there.settled(waiting)
        assert (waiting["status"], waiting["last_error"]) == ("completed", None)
        assert (await there.messages())[-1] == more


async def test_a_race_for_the_place(story: Story) -> None:
    """Many at once on an idle thread: one runs, the others wait in order, and none is refused."""
    for number in range(8):
        story.engine.says(f"answer {number}")
    runs = [
        granted(answer)
        for answer in await asyncio.gather(*(story.create(busy=QUEUE) for _ in "abcdefgh"))
    ]
    ended = [await story.settled(run) for run in runs]
    assert {run["status"] for run in ended} == {"completed"}
    listed = granted(await story.http.get(f"{story.url}/runs", params={"order": "asc"}))["data"]
    said = {message["run_id"]: text_of(message) for message in await story.messages()}
    assert [said[run["id"]] for run in listed] == [f"answer {number}" for number in range(8)]


async def test_nobody_slips_in_between(busy: tuple[Story, Json]) -> None:
    """The end of a run and the turn of the next are one unit: a third finds the thread busy."""
    story, run = busy
    waiting = granted(await story.create(busy=QUEUE))
    with Gate("run.completed") as gate:
        story.engine.resume()
        await gate.reached.wait()
        third = asyncio.create_task(story.create())
        await gate.open()
        assert refusal(await third).endswith(f"already has an active run {waiting['id']}.")
    for each in (run, waiting):
        assert (await story.settled(each))["status"] == "completed"


async def test_what_waits_is_sent_again(busy: tuple[Story, Json]) -> None:
    """Marked retries get the message and the run that wait, and later those that had their turn."""
    story, run = busy
    story.engine.says("answer", pause_after=0)
    more = {"role": "user", "content": "More."}
    asked = {"assistant_id": story.assistant_id, "additional_messages": [more]}

    async def made(path: str, body: Json, number: int) -> Json:
        headers = {"X-Busy-Policy": QUEUE, "X-Stainless-Retry-Count": str(number)}
        return granted(await story.http.post(f"{story.url}/{path}", json=body, headers=headers))

    message, again = [await made("messages", more, number) for number in (0, 1)]
    assert message == again
    waiting, again = [await made("runs", asked, number) for number in (0, 1)]
    assert waiting == again
    story.engine.resume()
    await story.settled(run)
    await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)
    assert (await made("runs", asked, 2))["id"] == waiting["id"]
    assert (await texts(story))[2:4] == ["More.", "More."]
    story.engine.resume()
    assert (await story.settled(waiting))["status"] == "completed"
