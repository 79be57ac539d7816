"""Somebody else holds the database for himself while clients are served."""

from __future__ import annotations

import time
from pathlib import Path

from server.engine.scripted import ScriptedEngine
from tests.db.test_full_or_busy import held_by_another
from tests.runs.story import HELLO, begin_story, granted
from tests.support import live_server

TIMEOUT = 0.3


async def test_database_of_somebody_else(tmp_path: Path) -> None:
    """Who would write is told in time to come back; reading goes on; an active run ends later."""
    engine = ScriptedEngine()
    engine.says("one two three", pause_after=2)
    async with (
        live_server(tmp_path, engine, database__busy_timeout=TIMEOUT) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        with held_by_another(tmp_path / "assistants.db"):
            engine.resume()
            begun = time.monotonic()
            refused = await story.http.post("/v1/threads", json={"messages": [HELLO]})
            assert time.monotonic() - begun < TIMEOUT + 1.0
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["type"] == "server_error"
            assert (await story.now(run))["status"] == "in_progress"
            assert len(await story.messages()) >= 1
        granted(await story.http.post("/v1/threads", json={"messages": [HELLO]}))
        assert (await story.settled(run))["status"] == "completed"
