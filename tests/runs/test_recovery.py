"""The server dies or is stopped, and another one takes over its data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import failpoints
from server.db.database import DatabaseBusy, DatabaseFull
from server.engine.scripted import ScriptedEngine
from tests.runs.story import HELLO, Json, Story, begin_story, granted, text_of, written
from tests.streams.reader import names, reading
from tests.support import ManualClock, live_server, parse_events

CALL = written(("get_weather", '{"city": "Rome"}'))
DEATH = {"code": "server_error", "message": "Sorry, something went wrong."}

OPENED = ["run.step.created", "run.step.in_progress", "message.created", "message.in_progress"]

Restart = Callable[..., AbstractAsyncContextManager[Story]]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """The data folder that the servers hand on."""
    return tmp_path / "kept"


class Past:
    """What a server that is dead has left: its rows, as a test makes them."""

    def __init__(self, folder: Path, story: Story, run: Json) -> None:
        self.database = next(folder.glob("*.db"))
        self.story = story
        self.run = run

    def was(self, status: str, **columns: Any) -> None:
        """Let the run have been in this state when the server died."""
        self.write("run", "id", self.run["id"], status=status, **columns)

    def write(self, table: str, key: str, value: str, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        with sqlite3.connect(self.database) as connection:
            connection.execute(
                f"UPDATE {table} SET {names} WHERE {key} = ?", [*columns.values(), value]
            )
        connection.close()


@asynccontextmanager
async def reborn(
    folder: Path, past: Story, engine: ScriptedEngine, **options: Any
) -> AsyncIterator[Story]:
    """The same story on a new server."""
    async with live_server(folder, engine, **options) as server, server.http(verify=False) as http:
        yield Story(server, engine, http, past.assistant_id, past.thread_id)


@pytest.fixture
async def past(folder: Path, clock: ManualClock) -> Past:
    """A dead server whose one run had said two words: its message and step are open."""
    engine = ScriptedEngine()
    engine.says("one two three", pause_after=2)
    async with (
        live_server(folder, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        story.engine.resume()
        await story.settled(run)
    died = Past(folder, story, run)
    died.was("in_progress", completed_at=None, usage=None, expires_at=run["expires_at"])
    still_open = {"status": "in_progress", "completed_at": None}
    died.write("message", "run_id", run["id"], **still_open, content="[]")
    died.write("run_step", "run_id", run["id"], **still_open, usage=None)
    return died


async def test_run_in_progress(past: Past, folder: Path, clock: ManualClock) -> None:
    """What was open is closed as failed, and the run goes on with a new step."""
    engine = ScriptedEngine()
    engine.says("four five")
    async with reborn(folder, past.story, engine, clock=clock) as story:
        run = await story.settled(past.run)
        assert (run["status"], run["last_error"]) == ("completed", None)
        lost, message = await story.answers(run)
        assert (lost["status"], text_of(lost)) == ("incomplete", "")
        assert lost["incomplete_details"] == {"reason": "run_failed"}
        assert text_of(message) == "four five"
        failed, step = await story.steps(run)
        assert (failed["status"], failed["last_error"]) == ("failed", DEATH)
        assert step["status"] == "completed"
        told = [event.name.removeprefix("thread.") for event in await story.told(run)]
        assert told[told.index("message.incomplete") - 1] == "message.delta"
        assert told.count("run.queued") == told.count("run.in_progress") == 2
        assert told[-2:] == ["run.completed", "done"]


@contextmanager
def unwritable(error: Exception) -> Iterator[Callable[[], None]]:
    """No claim can be ended, until what this gives is called."""

    def fail() -> None:
        raise error

    def heal() -> None:
        for point in ("run.queued", "run.cancelled"):
            failpoints.disarm(point)

    for point in ("run.queued", "run.cancelled"):
        failpoints.arm(point, fail)
    try:
        yield heal
    finally:
        heal()


@pytest.mark.parametrize("error", [DatabaseFull("disk full"), DatabaseBusy("locked")], ids=repr)
async def test_full_disk_at_the_start(
    past: Past, folder: Path, clock: ManualClock, error: Exception
) -> None:
    """The server answers, and what it was left goes on once there is room, as do its readers."""
    engine = ScriptedEngine()
    engine.says("four five")
    with unwritable(error) as heal:
        async with reborn(folder, past.story, engine, clock=clock) as story:
            assert (await story.now(past.run))["status"] == "in_progress"
            async with reading(story, past.run) as reader:
                heal()
                told = names(await reader.rest())
            run = await story.now(past.run)
            assert (run["status"], run["last_error"]) == ("completed", None)
            lost, message = await story.answers(run)
            assert lost["incomplete_details"] == {"reason": "run_failed"}
            assert text_of(message) == "four five"
    assert told[:3] == ["run.created", "run.queued", "run.in_progress"]
    assert told[3:7] == OPENED
    assert told[7:9] == ["message.delta", "message.incomplete"]
    assert told[9:12] == ["run.step.failed", "run.queued", "run.in_progress"]
    assert told[12:16] == OPENED
    assert told[-3:] == ["run.step.completed", "run.completed", "done"]


async def test_cancelled_before_it_was_taken_over(
    past: Past, folder: Path, clock: ManualClock
) -> None:
    """A run that a dead server executed ends as somebody has wanted it meanwhile."""
    with unwritable(DatabaseFull("disk full")) as heal:
        async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
            assert granted(await story.cancel(past.run))["status"] == "cancelling"
            heal()
            assert (await story.settled(past.run))["status"] == "cancelled"
            assert (await story.run())["status"] == "completed"


async def test_deleted_before_it_was_taken_over(
    past: Past, folder: Path, clock: ManualClock
) -> None:
    """A run that is gone with its thread holds up nobody."""
    with unwritable(DatabaseFull("disk full")) as heal:
        async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
            granted(await story.http.delete(story.url))
            other = await story.another(HELLO)
            heal()
            assert (await other.run())["status"] == "completed"


async def test_run_that_was_cancelling(past: Past, folder: Path, clock: ManualClock) -> None:
    """A run that somebody had begun to cancel is cancelled."""
    past.was("cancelling")
    async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
        run = await story.now(past.run)
        assert (run["status"], run["cancelled_at"]) == ("cancelled", clock.now())
        assert [step["status"] for step in await story.steps(run)] == ["cancelled"]
        [message] = await story.answers(run)
        assert message["incomplete_details"] == {"reason": "run_cancelled"}
        assert (await story.run())["status"] == "completed"


async def test_restarts_are_counted(past: Past, folder: Path, clock: ManualClock) -> None:
    """A run under which the server died too often fails."""
    past.was("in_progress", restarts=5)
    async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
        run = await story.now(past.run)
        assert (run["status"], run["last_error"]) == ("failed", DEATH)
        assert story.engine.requests == []
        told = parse_events((await story.events(run)).text)
        assert [event.name for event in told[-2:]] == ["thread.run.failed", "done"]


async def test_the_fifth_restart_is_still_taken(
    past: Past, folder: Path, clock: ManualClock
) -> None:
    """Up to five times the run goes on."""
    past.was("in_progress", restarts=4)
    async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
        assert (await story.settled(past.run))["status"] == "completed"


@pytest.mark.parametrize("status", ["in_progress", "queued"])
async def test_model_that_is_gone(
    past: Past, folder: Path, clock: ManualClock, status: str
) -> None:
    """A run whose model the new server does not have fails, and says so."""
    past.was(status, model_id="old", model="old")
    async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
        run = await story.settled(past.run)
        assert run["status"] == "failed"
        message = "The model 'old' is not configured on this server any more."
        assert run["last_error"] == {"code": "server_error", "message": message}


@pytest.mark.parametrize("status", ["in_progress", "queued"])
async def test_model_that_has_another_id_now(
    past: Past, folder: Path, clock: ManualClock, status: str
) -> None:
    """A run goes on with the model that its name stands for now."""
    past.was(status, model_id="old")
    async with reborn(folder, past.story, ScriptedEngine(), clock=clock) as story:
        assert (await story.settled(past.run))["status"] == "completed"


@pytest.mark.parametrize(("ago", "left"), [(0, 600), (500, 100), (10_000, 0), (-9_000, 600)])
async def test_deadlines_go_on(
    past: Past, folder: Path, clock: ManualClock, ago: int, left: int
) -> None:
    """A run keeps the time that it has left, none if it is over, the full time if clocks jumped."""
    past.was("in_progress", expires_at=clock.now() + 600 - ago)
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    async with reborn(folder, past.story, engine, clock=clock) as story:
        await engine.paused.wait()
        sweep = story.server.services.executor.sweep
        if left:
            clock.advance(left - 1)
            await sweep()
            assert (await story.now(past.run))["status"] == "in_progress"
        clock.advance(1)
        await sweep()
        assert (await story.settled(past.run))["status"] == "expired"


async def test_run_that_waited_for_outputs(folder: Path) -> None:
    """The outputs may be given to the new server, whose stream goes on where the old one ended."""
    engine = ScriptedEngine()
    engine.says(CALL)
    async with live_server(folder, engine) as server, begin_story(server, engine) as old:
        waiting = await old.run()
    async with reborn(folder, old, ScriptedEngine()) as story:
        story.engine.says("Sunny.")
        assert await story.now(waiting) == waiting
        told = await story.told(waiting)
        assert [event.name for event in told[-2:]] == ["thread.run.requires_action", "done"]
        assert told[-2].data == waiting
        rest = parse_events((await story.submit(waiting, "sun", stream=True)).text)
        assert [event.name for event in rest[:3]] == [
            "thread.run.step.completed",
            "thread.run.queued",
            "thread.run.in_progress",
        ]
        assert [event.name for event in rest[-2:]] == ["thread.run.completed", "done"]
        assert "sun" in story.engine.prompts[0]


async def test_model_that_is_gone_when_the_outputs_come(folder: Path) -> None:
    """A run that waited while its model was taken away fails when it would go on."""
    engine = ScriptedEngine()
    engine.says(CALL)
    async with live_server(folder, engine) as server, begin_story(server, engine) as old:
        waiting = await old.run()
    Past(folder, old, waiting).was("requires_action", model="old", model_id="old")
    async with reborn(folder, old, ScriptedEngine()) as story:
        granted(await story.submit(waiting, "sun"))
        run = await story.settled(waiting)
        assert run["status"] == "failed"
        assert "'old'" in run["last_error"]["message"]


async def test_queued_run(folder: Path) -> None:
    """A run that nobody had begun is begun by the new server."""
    engine = ScriptedEngine(slots=1)
    engine.says("one two", pause_after=1)
    async with live_server(folder, engine) as server, begin_story(server, engine) as first:
        await first.paused()
        second = await first.another({"role": "user", "content": "Hi"})
        queued = await second.start()
    async with reborn(folder, second, ScriptedEngine()) as story:
        run = await story.settled(queued)
        assert run["status"] == "completed"
        assert len(await story.steps(run)) == 1


async def test_stopped_server_hands_its_runs_on(folder: Path) -> None:
    """A server that is stopped in time puts its runs back, which does not count as a death."""
    engine = ScriptedEngine()
    engine.says("one two three", pause_after=2)
    async with live_server(folder, engine) as server, begin_story(server, engine) as old:
        begun = await old.paused()
    async with reborn(folder, old, ScriptedEngine()) as story:
        run = await story.settled(begun)
        assert run["status"] == "completed"
        lost, _ = await story.answers(run)
        assert text_of(lost) == "one two"
        assert lost["incomplete_details"] == {"reason": "run_failed"}
        row = await story.server.services.db.read(lambda tx: tx.runs.by_id(run["id"]))
        assert row is not None
        assert (row.restarts, row.worker_deaths) == (0, 0)


async def test_old_numbers_are_gone(folder: Path) -> None:
    """A client that counted events of the old server is told that they are gone, and starts over.

    The numbers of the new server's events are beyond all the old ones.
    """
    engine = ScriptedEngine()
    engine.says("one two three")
    async with live_server(folder, engine) as server, begin_story(server, engine) as old:
        before = await old.stream()
        run = before[0].data
    async with reborn(folder, old, ScriptedEngine()) as story:
        for known in (1, len(before) - 1, 1000):
            assert _is_gone(await story.events(run, known))
        answer = await story.events(run, 0)
        for known in (1, len(before) - 1, 1000):
            assert _is_gone(await story.events(run, known))
        told = parse_events(answer.text)
        assert _without_times(told) == _without_times(_merged(before))
        last = int(answer.text.rpartition("id: ")[2].split()[0])
        rest = await story.events(run, last - 1)
        assert [event.name for event in parse_events(rest.text)] == [told[-2].name, "done"]


def _is_gone(answer: httpx.Response) -> bool:
    return answer.status_code == 410 and answer.json()["error"]["code"] == "events_expired"


def _merged(told: list) -> list:  # type: ignore[type-arg]
    """The events as they are rebuilt: one delta for each part."""
    first, *more = [event for event in told if event.name == "thread.message.delta"]
    for event in more:
        text = event.data["delta"]["content"][0]["text"]["value"]
        first.data["delta"]["content"][0]["text"]["value"] += text
    return [event for event in told if event not in more]


def _without_times(told: list) -> list:  # type: ignore[type-arg]
    """Names and data; when a run would have expired is not stored once it has ended."""
    return [
        (event.name, {**event.data, "expires_at": None} if event.name != "done" else None)
        for event in told
    ]
