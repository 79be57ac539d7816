"""The wall clock jumps: by a day, in either direction, while runs are queued, active or waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.scripted import ScriptedEngine
from tests.runs.story import HELLO, Story, begin_story, written
from tests.support import ManualClock, live_server

DAY = 24 * 3600
LIFE = 600
CALL = written(("get_weather", '{"city": "Rome"}'))


async def three_runs(story: Story) -> dict[str, tuple[Story, dict[str, object]]]:
    """A run that waits for outputs, one that is being executed, and one behind it."""
    story.engine.says(CALL)
    waiting = await story.run()
    story.engine.says("one two three", pause_after=2)
    active, behind = await story.another(HELLO), await story.another(HELLO)
    return {
        "requires_action": (story, waiting),
        "in_progress": (active, await active.paused()),
        "queued": (behind, await behind.start()),
    }


async def states(runs: dict[str, tuple[Story, dict[str, object]]]) -> list[object]:
    """How they are, after the server has looked for what is over."""
    for story, _ in runs.values():
        await story.server.services.executor.sweep()
    return [(await story.now(run))["status"] for story, run in runs.values()]


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_jump(tmp_path: Path, clock: ManualClock, jump: int) -> None:
    """No run expires by a jump, none lives longer for it, and none comes back to life."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        runs = await three_runs(story)
        clock.wall += jump
        assert await states(runs) == list(runs)
        clock.ticks += LIFE - 1
        assert await states(runs) == list(runs)
        clock.ticks += 1
        await states(runs)
        for owner, run in runs.values():
            assert (await owner.settled(run))["status"] == "expired"
        clock.wall -= jump
        assert await states(runs) == ["expired"] * 3
        assert (await story.run())["status"] == "completed"
