"""Projects that share a model: none waits for all of another's runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from server.engine.scripted import DEFAULT_ANSWER, ScriptedEngine
from tests.runs.story import granted
from tests.support import DEADLINE, live_server
from tests.tenants import tenant


async def test_one_heavy_project_does_not_starve_the_others(tmp_path: Path) -> None:
    """Behind two hundred runs of one project, the single runs of two others are the next ones."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path / "data", engine) as server,
        tenant(server) as heavy,
        tenant(server) as second,
        tenant(server) as third,
    ):
        engine.says(DEFAULT_ANSWER, pause_after=0)
        running = granted(await heavy.queue())
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        for answer in await asyncio.gather(*(heavy.queue() for _ in range(200))):
            granted(answer)
        light = [granted(await each.queue()) for each in (second, third)]
        engine.says(DEFAULT_ANSWER)
        engine.says(DEFAULT_ANSWER)
        engine.says(DEFAULT_ANSWER)
        engine.says(DEFAULT_ANSWER, pause_after=0)  # the fifth: all else waits from here on
        engine.resume()
        await asyncio.wait_for(engine.paused.wait(), DEADLINE)
        assert await heavy.status(running) == "completed"
        statuses = [
            await owner.status(run) for owner, run in zip((second, third), light, strict=True)
        ]
        assert statuses == ["completed", "completed"]
        waiting = await server.services.db.read(
            lambda tx: tx.runs.number_queued(300, heavy.project)
        )
        assert waiting == 198
        engine.resume()
