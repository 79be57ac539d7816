"""Projects that share a model: none waits for all of another's runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from server.engine.scripted import DEFAULT_ANSWER, SCRIPTED_MODEL, ScriptedEngine
from tests.runs.story import granted
from tests.support import DEADLINE, eventually, live_server
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


async def test_models_that_read_know_for_which_project(tmp_path: Path) -> None:
    """What is asked of them says so: embeddings, what is added, and what is searched for."""
    letters = ScriptedEngine(info=replace(SCRIPTED_MODEL, embedding=SCRIPTED_MODEL.vocabulary))
    ranker = ScriptedEngine(info=replace(SCRIPTED_MODEL, embedding=1), ranks=True)
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letters, "ranker": ranker}
    settings = {"search__embedding_model": "letters", "search__reranker": "ranker"}
    async with (
        live_server(tmp_path / "data", engines=engines, **settings) as server,
        tenant(server) as first,
        tenant(server) as second,
    ):
        body = {"model": "letters", "input": ["a", "b"]}
        granted(await first.http.post("/v1/embeddings", json=body))
        assert letters.read_for == [first.project]
        sent = {"file": ("a.txt", b"Apples are red."), "purpose": (None, "assistants")}
        file = granted(await second.http.post("/v1/files", files=sent))
        store = granted(
            await second.http.post("/v1/vector_stores", json={"file_ids": [file["id"]]})
        )
        url = f"/v1/vector_stores/{store['id']}"

        async def state() -> str:
            return str(granted(await second.http.get(url))["status"])

        await eventually(state, lambda status: status == "completed")
        assert letters.read_for == [first.project, second.project]
        granted(await second.http.post(f"{url}/search", json={"query": "apples"}))
        assert letters.read_for[-1] == second.project
        assert ranker.read_for == [second.project]
