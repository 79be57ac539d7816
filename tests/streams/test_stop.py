"""The server is stopped in order while runs and their streams are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.app import Entrance, create_app, listen, running
from server.engine.scripted import ScriptedEngine
from tests.runs.gate import Gate
from tests.runs.story import HELLO, Story, begin_story, granted, text_of, written
from tests.streams.reader import names, reading, reading_new
from tests.support import DEADLINE, LiveServer, eventually, live_server, settings_for

CALL = written(("get_weather", "{}"))
PROMPT = 4.0  # seconds; less than any of the server's own limits
GOODBYE = "The server is shutting down; the run goes on when it is back."


@asynccontextmanager
async def served(
    folder: Path, engine: ScriptedEngine, stop: asyncio.Event, grace: float
) -> AsyncIterator[LiveServer]:
    """A server as the command line runs it, until `stop` is set."""
    settings = settings_for(folder)
    engines = {settings.models.default: engine}
    with listen("127.0.0.1", 0, settings.streams.send_buffer) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with (
            Entrance(listener, settings.streams, settings.limits) as entrance,
            running(settings, engines) as services,
        ):
            app = create_app(services, settings)
            serving = asyncio.create_task(entrance.serve(app, stop, grace))
            try:
                yield LiveServer(url, services, settings, engines)
            finally:
                stop.set()
                await asyncio.wait_for(serving, DEADLINE)


async def test_streams_end_and_runs_go_on(tmp_path: Path) -> None:
    """What is open is closed and the run queued; its stream says why; later it completes."""
    engine, stop = ScriptedEngine(), asyncio.Event()
    engine.says("one two three", pause_after=2)
    async with (
        served(tmp_path, engine, stop, grace=0.0) as server,
        begin_story(server, engine) as story,
        reading_new(story) as reader,
    ):
        told = await reader.take(9)
        stop.set()
        told += await reader.rest()
    assert names(told)[9:] == [
        "message.incomplete",
        "run.step.failed",
        "run.queued",
        "error",
        "done",
    ]
    assert told[-2].data == {
        "error": {"message": GOODBYE, "type": "server_error", "param": None, "code": None}
    }
    again = ScriptedEngine()
    async with live_server(tmp_path, again) as server, server.http(verify=False) as http:
        story = Story(server, again, http, story.assistant_id, story.thread_id)
        run = await story.settled(told[0].data)
        assert run["status"] == "completed"
        assert text_of((await story.answers(run))[-1]).startswith("Hello!")


async def test_grace(tmp_path: Path) -> None:
    """A turn that ends in time ends as ever; meanwhile the server says that it is not ready."""
    engine, stop = ScriptedEngine(), asyncio.Event()
    engine.says("one two three", pause_after=2)
    async with (
        served(tmp_path, engine, stop, grace=DEADLINE) as server,
        begin_story(server, engine) as story,
    ):
        assert granted(await story.http.get("/readyz"))["status"] == "ready"
        async with reading_new(story) as reader:
            told = await reader.take(9)
            stop.set()

            async def ready() -> int:
                return (await story.http.get("/readyz")).status_code

            await eventually(ready, lambda status: status == 503)
            assert (await story.http.get("/healthz")).status_code == 200
            assert (await story.http.get("/readyz")).json()["status"] == "stopping"
            late = await story.another(HELLO)
            async with reading_new(late) as waiting:
                assert names(await waiting.take(2)) == ["run.created", "run.queued"]
                engine.resume()
                told += await reader.rest()
                assert names(await waiting.rest()) == ["error", "done"]
    assert names(told)[-2:] == ["run.completed", "done"]


@pytest.mark.parametrize("pause_after", [0, 2])
async def test_engine_that_does_not_answer(tmp_path: Path, pause_after: int) -> None:
    """A frozen model does not hold up the end of the server; its run is queued as any other."""
    engine, stop = ScriptedEngine(), asyncio.Event()
    engine.says("one two three", pause_after=pause_after)
    async with (
        served(tmp_path, engine, stop, grace=0.0) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        async with reading(story, run) as reader:
            engine.freeze()
            async with asyncio.timeout(PROMPT):
                stop.set()
                told = await reader.rest()
                await server.services.executor.stop(DEADLINE)
    assert names(told)[-3:] == ["run.queued", "error", "done"]
    assert names(told).count("message.incomplete") == (1 if pause_after else 0)


async def test_second_stop(tmp_path: Path) -> None:
    """What has stopped need not be stopped again: nobody waits a second time for a stuck run."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        await story.paused()
        with Gate("run.queued") as gate:
            first = asyncio.create_task(server.services.executor.stop(0.0))
            await gate.reached.wait()
            async with asyncio.timeout(PROMPT):
                await server.services.executor.stop(DEADLINE)
            await gate.open()
            await first


async def test_streams_that_wait_for_nothing(tmp_path: Path) -> None:
    """Stopping does not disturb streams that have ended, nor runs that wait for outputs."""
    engine, stop = ScriptedEngine(), asyncio.Event()
    engine.says(CALL)
    async with (
        served(tmp_path, engine, stop, grace=0.0) as server,
        begin_story(server, engine) as story,
    ):
        waiting = await story.run()
        other = await story.another(HELLO)
        done = await other.run()
        await server.services.executor.stop(0.0)
        assert names(await story.told(waiting))[-2:] == ["run.requires_action", "done"]
        assert names(await other.told(done))[-2:] == ["run.completed", "done"]
        submitted = await story.submit(waiting, "sun", stream=True)
        assert submitted.status_code == 200
        assert "event: error" in submitted.text
        async with reading(story, waiting) as reader:
            assert names(await reader.rest())[-3:] == ["run.queued", "error", "done"]


async def test_stop_with_many_runs(tmp_path: Path) -> None:
    """However many runs are active or wait, all of them are there for the next server."""
    engine = ScriptedEngine(slots=4)
    for _ in range(4):
        engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        stories = [await story.another(HELLO) for _ in range(10)]
        runs = [await each.start() for each in stories]
        await eventually(story.running, lambda count: count == 4)
    again = ScriptedEngine(slots=4)
    async with live_server(tmp_path, again) as server, server.http(verify=False) as http:
        for each, run in zip(stories, runs, strict=True):
            late = Story(server, again, http, each.assistant_id, each.thread_id)
            assert (await late.settled(run))["status"] == "completed"
