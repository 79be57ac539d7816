"""One server for the tests of single requests, which do not disturb each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.wire import HELLO, World
from tests.support import live_server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A server with one of everything, for as long as the tests run."""
    folder: Path = tmp_path_factory.mktemp("world")
    async with live_server(folder) as server, server.http() as http, server.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", name="Ada")
        thread = await sdk.beta.threads.create(messages=[HELLO])
        run = await sdk.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        steps = await sdk.beta.threads.runs.steps.list(run.id, thread_id=thread.id)
        messages = await sdk.beta.threads.messages.list(thread.id, order="asc")
        yield World(
            server,
            http,
            assistant.id,
            thread.id,
            messages.data[0].id,
            run.id,
            steps.data[0].id,
        )
