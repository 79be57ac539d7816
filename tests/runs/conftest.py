"""A story for each test: an assistant, a thread, a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.engine.scripted import ScriptedEngine
from tests.runs.searching import RETURNS, SHIPPING, Searching
from tests.runs.story import Story, begin_story
from tests.support import LiveServer, ManualClock, live_server


@pytest.fixture
async def story(server: LiveServer, engine: ScriptedEngine) -> AsyncIterator[Story]:
    """A thread that says hello, and an assistant that may ask for the weather."""
    async with begin_story(server, engine) as begun:
        yield begun


@pytest.fixture
async def alone(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Story]:
    """A story on a model with one sequence, whose time stands still; what is frozen thaws last."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path / "alone", engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        yield story
        engine.resume()


@pytest.fixture
async def searching(server: LiveServer, engine: ScriptedEngine) -> AsyncIterator[Searching]:
    """An assistant that can search in two files, and knows the weather."""
    async with begin_story(server, engine) as begun:
        story = Searching.of(begun)
        await story.search_in(await story.store(returns=RETURNS, shipping=SHIPPING))
        yield story
