"""The SDK's stream helper reads messages that end before their first word, behind others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from server.engine.protocol import EngineCrashed
from server.engine.scripted import ScriptedEngine
from tests.runs.searching import ASKED, RETURNS, Searching
from tests.runs.story import begin_story
from tests.support import DEADLINE, LiveServer, live_server

pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
PREAMBLE = f"Let me look.\n{ASKED}"  # a message with words, and a search behind it
KEY = {"Idempotency-Key": "once"}


@pytest.fixture
async def searching(tmp_path: Path) -> AsyncIterator[Searching]:
    """An assistant that can search in a file, on a server in a folder of its own."""
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path / "first", engine) as server,
        begin_story(server, engine) as story,
    ):
        found = Searching.of(story)
        await found.search_in(await found.store(returns=RETURNS))
        engine.says(PREAMBLE)
        yield found


async def read(server: LiveServer, story: Searching) -> list[str]:
    """The texts of the messages of a run's stream, as the helper has them at their ends."""
    texts = []
    async with (
        asyncio.timeout(DEADLINE),
        server.sdk() as client,
        client.beta.threads.runs.stream(
            thread_id=story.thread_id, assistant_id=story.assistant_id, extra_headers=KEY
        ) as stream,
    ):
        async for event in stream:
            if event.event in ("thread.message.completed", "thread.message.incomplete"):
                (part,) = event.data.content
                assert isinstance(part, openai.types.beta.threads.TextContentBlock)
                texts.append(part.text.value)
    return texts


async def test_a_cancel_before_the_first_word(searching: Searching) -> None:
    """What was held back, as it could become a citation, is not told any more."""
    searching.engine.says(pieces=["[", "1", "] is the one."], pause_after=2)
    reading = asyncio.create_task(read(searching.server, searching))
    await asyncio.wait_for(searching.engine.paused.wait(), DEADLINE)
    (run,) = (await searching.http.get(f"{searching.url}/runs")).json()["data"]
    await searching.cancel(run)
    assert await reading == ["Let me look.", ""]


async def test_a_model_that_dies_before_the_first_word(searching: Searching) -> None:
    """The run is queued again, and its stream goes on to the answer."""
    searching.engine.fails(EngineCrashed("died"), after=1, text="[1 is")
    searching.engine.says("Thirty days.")
    assert await read(searching.server, searching) == ["Let me look.", "", "Thirty days."]


async def test_a_server_that_dies_in_mid_message(searching: Searching, tmp_path: Path) -> None:
    """Its words are lost; the stream that is asked for again has the message without any."""
    searching.engine.says("Thirty days.", pause_after=1)
    reading = asyncio.create_task(read(searching.server, searching))
    await asyncio.wait_for(searching.engine.paused.wait(), DEADLINE)
    shutil.copytree(tmp_path / "first", tmp_path / "next", ignore=shutil.ignore_patterns("*.sock"))
    searching.engine.resume()
    await reading
    engine = ScriptedEngine()
    engine.says("Thirty days.")
    async with live_server(tmp_path / "next", engine) as server:
        assert await read(server, searching) == ["Let me look.", "", "Thirty days."]
