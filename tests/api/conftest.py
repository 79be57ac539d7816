"""One server for the tests of single requests, which do not disturb each other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from server.engine.scripted import ScriptedEngine
from tests.api.wire import HELLO, World, letter_counter
from tests.support import LiveServer, live_server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """A server for as long as the tests run, with a model for runs and one for embeddings."""
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
    async with live_server(tmp_path_factory.mktemp("world"), engines=engines) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(shared: LiveServer) -> AsyncIterator[World]:
    """One of everything, which no test may change."""
    async with shared.http() as http:
        yield await one_of_everything(shared, http)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def spare(shared: LiveServer) -> AsyncIterator[World]:
    """One of everything, for tests that send anything to it."""
    async with shared.http() as http:
        yield await one_of_everything(shared, http)


async def one_of_everything(
    server: LiveServer, http: httpx.AsyncClient, api_key: str = "local"
) -> World:
    """A thread whose message was answered by a run."""
    async with server.sdk(api_key=api_key) as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", name="Ada")
        thread = await sdk.beta.threads.create(messages=[HELLO])
        run = await sdk.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        steps = await sdk.beta.threads.runs.steps.list(run.id, thread_id=thread.id)
        messages = await sdk.beta.threads.messages.list(thread.id, order="asc")
        file = await sdk.files.create(file=("notes.txt", b"Notes."), purpose="vision")
        other = await sdk.files.create(file=("more.txt", b"More notes."), purpose="vision")
        store = await sdk.vector_stores.create(name="Notes")
        batch = await sdk.vector_stores.file_batches.create_and_poll(store.id, file_ids=[file.id])
        upload = await sdk.uploads.create(
            bytes=5, filename="a.txt", mime_type="text/plain", purpose="assistants"
        )
    return World(
        server,
        http,
        assistant.id,
        thread.id,
        messages.data[0].id,
        run.id,
        steps.data[0].id,
        file.id,
        other.id,
        upload.id,
        store.id,
        batch.id,
    )
