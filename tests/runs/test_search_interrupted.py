"""What happens in the middle of a run's search: the run ends, or what it searches goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.engine.scripted import ScriptedEngine
from server.search.index import Hit
from tests.process import MODEL, PATIENCE, served
from tests.runs.searching import (
    ASKED,
    RETURNS,
    SEARCH,
    SHIPPING,
    Searching,
    annotations,
    found_in,
)
from tests.runs.story import Json, begin_story, granted, refusal, text_of
from tests.support import DEADLINE, LiveServer, ManualClock, eventually, live_server
from tests.vector_stores.conftest import store_of


class Held:
    """Searches of the indexes, which stop once they have found something."""

    def __init__(self, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._found = asyncio.Event()
        self._go_on = asyncio.Event()
        indexes = server.services.searcher._indexes
        self._search = indexes.search
        monkeypatch.setattr(indexes, "search", self._held)

    async def found(self) -> None:
        """Return when a search has found something, and waits."""
        await asyncio.wait_for(self._found.wait(), DEADLINE)

    def go_on(self) -> None:
        """Let this search and all others go on."""
        self._go_on.set()

    async def _held(self, *given: Any, **more: Any) -> list[Hit]:
        hits = await self._search(*given, **more)
        self._found.set()
        await self._go_on.wait()
        return hits


@pytest.fixture
async def timed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Searching]:
    """An assistant that can search in two files, on a server whose time stands still."""
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path / "timed", engine, clock=clock) as server,
        begin_story(server, engine) as begun,
    ):
        story = Searching.of(begun)
        await story.search_in(await story.store(returns=RETURNS, shipping=SHIPPING))
        yield story


async def held_run(story: Searching, held: Held) -> Json:
    """A run in the middle of its search."""
    story.engine.says(ASKED)
    run = await story.start()
    await held.found()
    return run


async def test_a_cancel_in_mid_search(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends the run at once; nothing was found, and the thread is free."""
    held = Held(searching.server, monkeypatch)
    run = await held_run(searching, held)
    granted(await searching.cancel(run))
    assert (await searching.settled(run))["status"] == "cancelled"
    [step] = await searching.steps(run)
    assert (step["status"], found_in(step)) == ("cancelled", [])
    held.go_on()
    searching.engine.says(ASKED)
    searching.engine.says("A month [1].")
    again = await searching.run()
    [answer] = await searching.answers(again)
    assert [each["text"] for each in annotations(answer)] == ["【0:0†returns.md】"]


async def test_a_run_that_expires_in_mid_search(
    timed: Searching, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is expired, as is its step, though the search never ends."""
    run = await held_run(timed, Held(timed.server, monkeypatch))
    clock.advance(600)
    await timed.server.services.executor.sweep()
    assert (await timed.settled(run))["status"] == "expired"
    [step] = await timed.steps(run)
    assert (step["status"], found_in(step)) == ("expired", [])


async def test_a_file_that_is_deleted_in_mid_search(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not found any more, neither by the model nor by the client."""
    held = Held(searching.server, monkeypatch)
    run = await held_run(searching, held)
    files = granted(await searching.http.get("/v1/files"))["data"]
    [returns] = [file["id"] for file in files if file["filename"] == "returns.md"]
    granted(await searching.http.delete(f"/v1/files/{returns}"))
    held.go_on()
    searching.engine.says("In two days [1].")
    run = await searching.settled(run)
    assert run["status"] == "completed"
    assert "returns.md" not in searching.engine.prompts[1]
    [search, _] = await searching.steps(run)
    assert [each["file_name"] for each in found_in(search)] == ["shipping.md"]
    [answer] = await searching.answers(run)
    assert text_of(answer) == "In two days 【0:0†shipping.md】."


async def test_a_store_that_is_deleted_in_mid_search(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Has nothing in it; the run goes on."""
    held = Held(searching.server, monkeypatch)
    run = await held_run(searching, held)
    [store] = granted(await searching.http.get("/v1/vector_stores"))["data"]
    granted(await searching.http.delete(f"/v1/vector_stores/{store['id']}"))
    held.go_on()
    searching.engine.says("Nobody knows.")
    run = await searching.settled(run)
    assert run["status"] == "completed"
    assert found_in((await searching.steps(run))[0]) == []
    assert "No results found." in searching.engine.prompts[1]


async def test_a_thread_that_is_deleted_in_mid_search(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes its run with it: the stream breaks off, and nothing is left to be executed."""
    held = Held(searching.server, monkeypatch)
    run = await held_run(searching, held)
    told = asyncio.create_task(searching.told(run))
    await eventually(searching.readers, lambda number: number == 1)
    granted(await searching.http.delete(searching.url))
    assert [event.name for event in await told][-2:] == ["error", "done"]
    await eventually(searching.running, lambda number: number == 0)
    held.go_on()
    other = await searching.another({"role": "user", "content": "Hello!"})
    assert (await other.run())["status"] == "completed"


async def test_a_store_of_another_project_is_never_searched(searching: Searching) -> None:
    """It cannot be named, and if it were, nothing would be found in it, nor would it be used."""
    services = searching.server.services
    theirs = await store_of(searching.server, "Things can be returned for a year.", project="other")
    assert await services.ingestor.wait_ready(theirs, DEADLINE)
    resources = {"file_search": {"vector_store_ids": [theirs]}}
    assistant, url = searching.assistant_id, f"/v1/assistants/{searching.assistant_id}"
    ours = {"assistant_id": assistant, "tool_resources": resources}
    for path, body in (
        (url, {"tool_resources": resources}),
        ("/v1/threads", {"tool_resources": resources}),
        (searching.url, {"tool_resources": resources}),
        ("/v1/threads/runs", ours),
    ):
        assert theirs in refusal(await searching.http.post(path, json=body), 404)

    await services.db.write(
        lambda tx: tx.assistants.update(
            tx.assistants.by_id(assistant).seq, {"tool_resources": resources}
        )
    )
    before = await services.db.read(lambda tx: tx.vector_stores.by_id(theirs))
    searching.engine.says(ASKED)
    searching.engine.says("Nobody knows.")
    run = await searching.run()
    assert run["status"] == "completed"
    assert found_in((await searching.steps(run))[0]) == []
    assert await services.db.read(lambda tx: tx.vector_stores.by_id(theirs)) == before


@pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")
def test_a_server_that_is_killed_in_mid_search(tmp_path: Path) -> None:
    """The run is taken again: one search more, no step twice, and passages numbered from 1 on."""
    with served(tmp_path) as server, server.sdk(timeout=DEADLINE) as client:
        file = client.files.create(file=("returns.md", RETURNS.encode()), purpose="assistants")
        store = client.vector_stores.create().id
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store)
        resources: Any = {"file_search": {"vector_store_ids": [store]}}
        tools: Any = [SEARCH]
        assistant = client.beta.assistants.create(
            model="gpt-4o", tools=tools, tool_resources=resources
        ).id
        question: Any = {"role": "user", "content": "How long can things be returned?"}
        thread = client.beta.threads.create(messages=[question]).id
    begin: Any = {
        "thread_id": thread,
        "assistant_id": assistant,
        "tool_choice": SEARCH,
        "temperature": 0,
        "max_completion_tokens": 300,
    }
    with served(tmp_path, ASSISTANTS_FAILPOINTS="file_search.found=kill") as server:
        with (
            server.sdk(max_retries=0) as client,
            contextlib.suppress(openai.APIConnectionError),
        ):
            client.beta.threads.runs.create(**begin)
        server.process.wait(PATIENCE)
    with served(tmp_path) as server, server.sdk(timeout=DEADLINE) as client:
        [run] = client.beta.threads.runs.list(thread).data
        run = client.beta.threads.runs.poll(run.id, thread_id=thread)
        assert run.status in ("completed", "incomplete")
        second = client.beta.threads.runs.create_and_poll(**begin)
        assert second.status in ("completed", "incomplete")
    lost, *searches = searches_of(tmp_path, run.id)
    assert (lost["status"], lost["tool_calls"]) == ("failed", [])
    assert len(searches) >= 1
    number = 1
    for step in [*searches, *searches_of(tmp_path, second.id)]:
        assert step["status"] == "completed"
        for call in step["tool_calls"]:
            assert call["asked"]["first_number"] == number
            assert [each["file_id"] for each in call["file_search"]["results"]] == [file.id]
            number += 1


def searches_of(folder: Path, run_id: str) -> list[Json]:
    """The tool steps of a run as they are stored, in order."""
    query = (
        "SELECT status, step_details FROM run_step WHERE type = 'tool_calls' AND run_id = ?"
        " ORDER BY seq"
    )
    with contextlib.closing(sqlite3.connect(folder / "data" / "assistants.db")) as raw:
        return [
            {"status": status, **json.loads(details)}
            for status, details in raw.execute(query, (run_id,))
        ]
