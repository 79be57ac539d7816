"""Runs on models that are not in memory: they wait in the queue until theirs is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.engine.pool import TURN
from server.engine.scripted import ScriptedEngine
from tests.runs.story import Json, Story, begin_story, text_of
from tests.support import DEADLINE, LiveServer, ManualClock, eventually, live_server

BROKEN = "other.gguf is broken: its header cannot be read."


@pytest.fixture
def other() -> ScriptedEngine:
    """A model beside the default one; the memory does not hold both."""
    return ScriptedEngine(takes=80)


@pytest.fixture
async def both(
    tmp_path: Path, clock: ManualClock, other: ScriptedEngine
) -> AsyncIterator[LiveServer]:
    """A server with two models and little memory, whose time stands still."""
    engines = {"tiny-assistant": ScriptedEngine(takes=80), "other": other}
    async with live_server(
        tmp_path / "data", engines=engines, clock=clock, models__memory=100
    ) as server:
        yield server
        for engine in engines.values():
            engine.resume()


@pytest.fixture
async def story(both: LiveServer, other: ScriptedEngine) -> AsyncIterator[Story]:
    """A thread whose runs are for the model that is not loaded."""
    async with begin_story(both, other, model="other") as begun:
        yield begun


async def loading(story: Story) -> Json:
    """A new run whose model is being loaded, until `resume()`."""
    story.engine.slow_to_load = True
    run = await story.start()
    await asyncio.wait_for(story.engine.loading.wait(), DEADLINE)
    return run


async def state_of(story: Story, name: str = "other") -> str:
    """A model's state, as it is listed."""
    model = (await story.http.get(f"/v1/models/{name}")).json()
    state: str = model["state"]
    return state


async def test_a_run_loads_its_model(story: Story) -> None:
    """Nothing is loaded before the first run; the run completes on it."""
    assert await state_of(story) == "unloaded"
    story.engine.says("Here I am.")
    run = await story.run()
    assert run["status"] == "completed"
    assert text_of((await story.answers(run))[0]) == "Here I am."
    assert await state_of(story) == "ready"
    assert await state_of(story, "tiny-assistant") == "unloaded"


async def test_a_deleted_thread_is_forgotten_by_models_that_are_not_loaded(story: Story) -> None:
    """Those that are loaded are told, and what others have left of it is removed."""
    cache = story.server.settings.server.data_dir / "cache"
    left = [cache / model / f"{story.thread_id}.0.kv" for model in ("one", "two")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"what the user has said")

    async def files() -> list[Path]:
        return list(cache.glob("*/*"))

    await story.http.delete(story.url)
    assert story.engine.forgotten == [story.thread_id]
    await eventually(files, lambda files: not files)


async def test_a_model_whose_worker_is_replaced_is_loading(story: Story) -> None:
    """It is listed so, with the reason, while runs are taken all the same; then it is ready."""
    await story.run()
    story.engine.trouble = "The model's worker died: SIGKILL."
    shown = (await story.http.get("/v1/models/other")).json()
    assert (shown["state"], shown["error"]) == ("loading", story.engine.trouble)
    assert 'assistants_engine_ready{model="other"} 0.0' in (await story.http.get("/metrics")).text
    assert (await story.http.get("/readyz")).status_code == 200
    assert (await story.run())["status"] == "completed"
    story.engine.trouble = None
    shown = (await story.http.get("/v1/models/other")).json()
    assert (shown["state"], shown["error"]) == ("ready", None)
    assert 'assistants_engine_ready{model="other"} 1.0' in (await story.http.get("/metrics")).text


async def test_a_run_begins_when_its_model_is_ready(story: Story, clock: ManualClock) -> None:
    """Until then it is queued, and was not started."""
    run = await loading(story)
    assert await state_of(story) == "loading"
    waiting = await story.now(run)
    assert (waiting["status"], waiting["started_at"]) == ("queued", None)
    clock.advance(7)
    story.engine.resume()
    begun = await story.settled(run)
    assert begun["started_at"] == run["created_at"] + 7


async def test_runs_for_one_model_share_its_load(story: Story) -> None:
    """Whoever comes while it loads waits for the same load."""
    first = await loading(story)
    elsewhere = await story.another({"role": "user", "content": "Hello!"})
    second = await elsewhere.start()
    story.engine.resume()
    assert (await story.settled(first))["status"] == "completed"
    assert (await elsewhere.settled(second))["status"] == "completed"
    assert story.engine.loads == 1


async def test_a_load_that_fails_fails_the_runs_that_wait(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason that is in the log; the next run tries again."""
    story.engine.unusable = BROKEN
    first = await loading(story)
    elsewhere = await story.another({"role": "user", "content": "Hello!"})
    second = await elsewhere.start()
    story.engine.resume()
    for teller, run in ((story, first), (elsewhere, second)):
        failed = await teller.settled(run)
        assert failed["status"] == "failed"
        assert failed["started_at"] is None
        assert failed["last_error"] == {"code": "server_error", "message": BROKEN}
    assert BROKEN in caplog.text
    listed = (await story.http.get("/v1/models/other")).json()
    assert (listed["state"], listed["error"]) == ("failed", BROKEN)
    story.engine.unusable, story.engine.slow_to_load = None, False
    assert (await story.run())["status"] == "completed"
    assert story.engine.loads == 2


async def test_a_run_that_waits_for_its_model_can_be_cancelled(story: Story) -> None:
    """At once; the load goes on, and serves the next."""
    run = await loading(story)
    assert (await story.cancel(run)).json()["status"] == "cancelling"
    assert (await story.now(run))["status"] == "cancelled"
    story.engine.resume()
    assert (await story.run())["status"] == "completed"
    assert story.engine.loads == 1


async def test_a_run_that_waits_for_its_model_expires(story: Story, clock: ManualClock) -> None:
    """As any run that waits."""
    run = await loading(story)
    clock.advance(601)
    assert (await story.settled(run))["status"] == "expired"


@contextlib.asynccontextmanager
async def crowded(
    both: LiveServer, story: Story
) -> AsyncIterator[tuple[Story, ScriptedEngine, Json, Json]]:
    """The place is taken by a model with a paused run, and a run of the story's waits for it.

    Gives the other model's story and engine, its run, and the one that waits.
    """
    engine = both.engines["tiny-assistant"]
    assert isinstance(engine, ScriptedEngine)
    async with begin_story(both, engine, model="tiny-assistant") as busy:
        engine.says("One two three", pause_after=1)
        first = await busy.paused()
        second = await story.start()
        await eventually(lambda: state_of(story), lambda state: state == "loading")
        yield busy, engine, first, second


async def test_a_model_with_a_run_is_not_unloaded_for_another(
    both: LiveServer, story: Story
) -> None:
    """The other run waits in the queue until the first has ended."""
    async with crowded(both, story) as (busy, engine, first, second):
        assert (await story.now(second))["status"] == "queued"
        assert story.engine.loads == 0
        engine.resume()
        assert (await busy.settled(first))["status"] == "completed"
        assert (await story.settled(second))["status"] == "completed"
        assert not engine.started


async def test_models_that_do_not_fit_together_take_turns(
    both: LiveServer, story: Story, clock: ManualClock
) -> None:
    """A model that waited begins before what comes later for the one that has the place."""
    async with crowded(both, story) as (busy, engine, first, second):
        clock.advance(TURN)
        later = await busy.another({"role": "user", "content": "Hello!"})
        third = await later.start()
        story.engine.says("One two three", pause_after=1)
        engine.resume()
        await busy.settled(first)
        await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)
        assert (await later.now(third))["status"] == "queued"
        story.engine.resume()
        assert (await story.settled(second))["status"] == "completed"
        assert (await later.settled(third))["status"] == "completed"
        assert engine.loads == 2


async def test_a_model_that_waits_for_room_gives_up_with_its_run(
    both: LiveServer, story: Story
) -> None:
    """When its run is cancelled, nothing is unloaded for it any more."""
    async with crowded(both, story) as (busy, engine, first, second):
        await story.cancel(second)
        await eventually(lambda: state_of(story), lambda state: state == "unloaded")
        engine.resume()
        await busy.settled(first)
        assert engine.started


async def test_an_idle_model_is_unloaded(
    story: Story, both: LiveServer, clock: ManualClock
) -> None:
    """After its time, and loaded again for the next run."""
    await story.run()
    clock.advance(both.settings.models.idle_after)
    await eventually(lambda: state_of(story), lambda state: state == "unloaded")
    assert (await story.run())["status"] == "completed"
    assert story.engine.loads == 2


async def test_a_run_whose_server_stops_while_its_model_loads_goes_on(
    tmp_path: Path,
) -> None:
    """It is still queued, and the next server loads the model for it."""
    async with live_server(tmp_path / "again", engines=two(slow=True)) as server:
        other = server.engines["other"]
        assert isinstance(other, ScriptedEngine)
        async with begin_story(server, other, model="other") as begun:
            run = await loading(begun)
            thread = begun.thread_id
    async with (
        live_server(tmp_path / "again", engines=two()) as server,
        server.http() as http,
    ):
        path = f"/v1/threads/{thread}/runs/{run['id']}"
        await http.get(f"{path}/events")
        assert (await http.get(path)).json()["status"] == "completed"


async def test_the_default_model_stays_unless_it_is_told_to_go(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The usual time is for the others; one of its own is honoured."""
    for own, expected in ((None, "ready"), (60, "unloaded")):
        asked = {"model__other__preload": True, "model__tiny-assistant__idle_after": own}
        async with (
            live_server(tmp_path / f"{own}", engines=two(), clock=clock, **asked) as server,
            begin_story(server, ScriptedEngine()) as story,
        ):
            await eventually(lambda: state_of(story), lambda state: state == "ready")
            clock.advance(server.settings.models.idle_after)
            await eventually(lambda: state_of(story), lambda state: state == "unloaded")
            assert await state_of(story, "tiny-assistant") == expected


async def test_a_model_can_be_loaded_at_the_start(tmp_path: Path) -> None:
    """Beside the default one, without a run that names it."""
    asked = {"model__other__preload": True}
    async with (
        live_server(tmp_path / "data", engines=two(), **asked) as server,
        begin_story(server, ScriptedEngine()) as story,
    ):
        await eventually(lambda: state_of(story), lambda state: state == "ready")


async def test_a_pinned_model_keeps_its_place(tmp_path: Path) -> None:
    """A run on what does not fit beside it fails, and says what is there."""
    engines = {name: ScriptedEngine(takes=80 << 20) for name in ("tiny-assistant", "other")}
    asked = {"models__memory": 100 << 20, "model__tiny-assistant__pin": True}
    async with (
        live_server(tmp_path / "data", engines=engines, **asked) as server,
        begin_story(server, engines["other"], model="other") as story,
    ):
        run = await story.run()
        assert run["status"] == "failed"
        assert run["last_error"]["message"] == (
            "scripted.gguf needs 80 MiB of memory with a context of 8192 tokens; "
            "20 MiB are there for it."
        )
        assert await state_of(story, "tiny-assistant") == "ready"


def two(*, slow: bool = False) -> dict[str, ScriptedEngine]:
    """The default model and another."""
    other = ScriptedEngine()
    other.slow_to_load = slow
    return {"tiny-assistant": ScriptedEngine(), "other": other}
