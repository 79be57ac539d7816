"""A story for each test: an assistant, a thread, a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.engine.scripted import ScriptedEngine
from tests.runs.story import Story, begin_story
from tests.support import LiveServer


@pytest.fixture
async def story(server: LiveServer, engine: ScriptedEngine) -> AsyncIterator[Story]:
    """A thread that says hello, and an assistant that may ask for the weather."""
    async with begin_story(server, engine) as begun:
        yield begun
