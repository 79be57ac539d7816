"""Fixtures that most tests share: a scripted engine, a server over it, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from server import heap
from server.engine.scripted import ScriptedEngine
from tests.scripted_sandbox import ScriptedSandbox
from tests.support import LiveServer, ManualClock, live_server

pytest_plugins = ["tests.covering", "tests.untested"]


def pytest_collection_finish() -> None:
    """To look through thousands of tests for garbage would hold up one of them by a second."""
    heap.settle()


@pytest.fixture
def engine() -> ScriptedEngine:
    """A model that says what the test tells it to."""
    return ScriptedEngine()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still unless the test moves it."""
    return ManualClock()


@pytest.fixture
def sandbox() -> ScriptedSandbox:
    """Sessions for code, which give what the test tells them to."""
    return ScriptedSandbox()


@pytest.fixture
async def server(tmp_path: Path, engine: ScriptedEngine) -> AsyncIterator[LiveServer]:
    """A server over the scripted engine, with a data folder of its own."""
    async with live_server(tmp_path / "data", engine) as live:
        yield live


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK against the server."""
    async with server.sdk() as sdk:
        yield sdk


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A bare HTTP client against the server."""
    async with server.http() as bare:
        yield bare
