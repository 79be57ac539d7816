"""Faults of the server itself: a run does not stay open for them, and others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import failpoints
from server.db.database import DatabaseBusy, DatabaseFull
from server.engine.scripted import ScriptedEngine
from tests.runs.story import HELLO, WEATHER, Story, begin_story, text_of, written
from tests.streams.reader import names, reading
from tests.support import ManualClock, live_server

CALL = written(("get_weather", "{}"))


def fail_once(point: str, error: Exception) -> None:
    """Raise at the next passage of a failpoint, and never again."""

    def act() -> None:
        failpoints.disarm(point)
        raise error

    failpoints.arm(point, act)


async def test_claims_go_on(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """A fault while a run is claimed is logged, and the run is claimed again."""
    fail_once("run.in_progress", ZeroDivisionError("a bug"))
    assert (await story.run())["status"] == "completed"
    assert "claim_failed" in caplog.messages


async def test_full_disk_while_claiming(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """Where the disk is full the run waits until it can be claimed."""
    fail_once("run.in_progress", DatabaseFull("disk full"))
    assert (await story.run())["status"] == "completed"
    assert "claim_delayed" in caplog.messages


async def test_full_disk_at_the_end(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """What was said is written as soon as there is room for it."""
    fail_once("run.completed", DatabaseFull("disk full"))
    story.engine.says("one two")
    run = await story.run()
    assert run["status"] == "completed"
    assert [text_of(message) for message in await story.answers(run)] == ["one two"]
    assert "end_delayed" in caplog.messages


@pytest.mark.parametrize("says", ["one two", CALL], ids=["message", "call"])
@pytest.mark.parametrize("error", [DatabaseFull("disk full"), DatabaseBusy("locked")], ids=repr)
async def test_full_disk_in_the_middle(
    story: Story, caplog: pytest.LogCaptureFixture, says: str, error: Exception
) -> None:
    """What could not be written is done again when there is room; whoever reads it reads on."""
    story.engine.says(says, pause_after=0)
    story.engine.says("one two")
    run = await story.paused(tools=[WEATHER])
    async with reading(story, run) as reader:
        fail_once("commit.before", error)
        story.engine.resume()
        told = names(await reader.rest())
    assert [name for name in told if name.startswith("run.") and "step" not in name] == [
        "run.created",
        "run.queued",
        "run.in_progress",
        "run.queued",
        "run.in_progress",
        "run.completed",
    ]
    assert [text_of(message) for message in await story.answers(run)] == ["one two"]
    assert "run_delayed" in caplog.messages


async def test_full_disk_after_some_words(story: Story) -> None:
    """The text that was told is kept, as that of a run whose server died."""
    story.engine.says(pieces=["one ", CALL], pause_after=1)
    story.engine.says("three")
    run = await story.paused(tools=[WEATHER])
    fail_once("commit.before", DatabaseFull("disk full"))
    story.engine.resume()
    assert (await story.settled(run))["status"] == "completed"
    kept, answer = await story.answers(run)
    assert (text_of(kept), kept["status"]) == ("one", "incomplete")
    assert kept["incomplete_details"] == {"reason": "run_failed"}
    assert text_of(answer) == "three"
    assert [step["status"] for step in await story.steps(run)] == ["failed", "completed"]


async def test_full_disk_too_often(tmp_path: Path) -> None:
    """A run that can never write what it has to does not go on for ever."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=0)
    async with (
        live_server(tmp_path, engine, runs__restarts=0) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        fail_once("commit.before", DatabaseFull("disk full"))
        engine.resume()
        assert (await story.settled(run))["status"] == "failed"


async def test_fault_in_the_middle(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours while a run is executed fails it, and says no more than that."""
    story.engine.says("one two", pause_after=0)
    run = await story.paused()
    fail_once("commit.before", ZeroDivisionError("a bug"))
    story.engine.resume()
    run = await story.settled(run)
    assert run["status"] == "failed"
    error = {"code": "server_error", "message": "Sorry, something went wrong."}
    assert run["last_error"] == error
    assert "run_failed" in caplog.messages
    assert "a bug" not in str(run)


@pytest.mark.parametrize(
    ("faults", "text"), [(["completed"], "one two"), (["completed", "failed"], "")]
)
async def test_fault_at_the_end(
    story: Story, caplog: pytest.LogCaptureFixture, faults: list[str], text: str
) -> None:
    """A run whose end could not be written fails, with what it said if that can be written."""
    for status in faults:
        fail_once(f"run.{status}", ZeroDivisionError("a bug"))
    story.engine.says("one two")
    run = await story.run()
    error = {"code": "server_error", "message": "Sorry, something went wrong."}
    assert (run["status"], run["last_error"]) == ("failed", error)
    assert [step["status"] for step in await story.steps(run)] == ["failed"]
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("incomplete", text)
    assert caplog.messages.count("end_refused") == len(faults)
    assert (await story.run())["status"] == "completed"


async def test_fault_at_the_end_of_calls(story: Story) -> None:
    """Nobody is asked for outputs of calls that could not be written."""
    fail_once("run.requires_action", ZeroDivisionError("a bug"))
    story.engine.says(CALL)
    run = await story.run(tools=[WEATHER])
    assert (run["status"], run["required_action"]) == ("failed", None)
    assert [step["status"] for step in await story.steps(run)] == ["failed"]


@pytest.mark.parametrize("status", ["cancelled", "expired"])
async def test_fault_at_an_interrupted_end(tmp_path: Path, clock: ManualClock, status: str) -> None:
    """A run that was to be cancelled, or whose time is over, ends so all the same."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        fail_once(f"run.{status}", ZeroDivisionError("a bug"))
        if status == "cancelled":
            await story.cancel(run)
        else:
            clock.advance(600)
            await server.services.executor.sweep()
        run = await story.settled(run)
        assert (run["status"], run["last_error"]) == (status, None)
        [message] = await story.answers(run)
        assert message["incomplete_details"] == {"reason": f"run_{status}"}


async def test_every_end_refused(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A run of which no end can be written expires in time; meanwhile other threads go on."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        fail_once("run.completed", ZeroDivisionError("a bug"))
        failpoints.arm("run.failed", lambda: 1 // 0)
        begun = await story.start()
        other = await story.another(HELLO)
        assert (await other.run())["status"] == "completed"
        failpoints.disarm("run.failed")
        assert (await story.now(begun))["status"] == "in_progress"
        assert "run_left_open" in caplog.messages
        clock.advance(600)
        await server.services.executor.sweep()
        run = await story.settled(begun)
        assert run["status"] == "expired"
        assert [step["status"] for step in await story.steps(run)] == ["expired"]
        assert (await story.run())["status"] == "completed"
