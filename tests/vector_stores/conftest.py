"""A server whose extraction follows a script, and what tests ask of its vector stores."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server import schemas
from server.db.database import Tx
from server.db.stores import Record
from server.search.extraction import Document, Extractor, NotExtracted
from server.vector_stores import rows
from tests.files.conftest import add
from tests.support import LiveServer, ManualClock, eventually, live_server


class Script:
    """What extraction does with a file, by its text: by default it is just that text."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.errors: dict[str, list[Exception]] = defaultdict(list)
        self.gates: dict[str, asyncio.Event] = {}
        self.arrived = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    def fails(self, text: str, *errors: Exception) -> None:
        """Let the first attempts at a file fail."""
        self.errors[text] += errors

    def holds(self, text: str) -> asyncio.Event:
        """Let a file wait until the event is set."""
        self.gates[text] = asyncio.Event()
        return self.gates[text]

    async def extract(self, path: Path, filename: str) -> Document:
        """In place of the extractor's."""
        text = path.read_text()  # noqa: ASYNC240 - a few bytes
        self.begun.append(text)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.set()
        try:
            if text in self.gates:
                await self.gates[text].wait()
            if self.errors[text]:
                raise self.errors[text].pop(0)
            return Document(text, ())
        finally:
            self.at_once -= 1


def broken(message: str = "The parser stopped.") -> NotExtracted:
    """A fault that may pass."""
    return NotExtracted("server_error", message)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What extraction does in this test."""
    script = Script()
    monkeypatch.setattr(Extractor, "extract", lambda _, *given: script.extract(*given))
    return script


@pytest.fixture
async def live(tmp_path: Path, script: Script, clock: ManualClock) -> AsyncIterator[LiveServer]:
    """A server that takes in two files at once, tries again at once, and whose clock stands."""
    async with live_server(
        tmp_path / "data",
        clock=clock,
        vector_stores__retry_after=0.01,
        vector_stores__parallel=2,
    ) as server:
        yield server


async def uploaded(server: LiveServer, *texts: str, project: str = "default") -> list[str]:
    """The ids of new files."""
    return [await add(server.services.files, text.encode(), project) for text in texts]


async def store_of(server: LiveServer, *texts: str, project: str = "default") -> str:
    """The id of a new store with new files."""
    file_ids = await uploaded(server, *texts, project=project)
    return await store_with(server, *file_ids, project=project)


async def store_with(server: LiveServer, *file_ids: str, project: str = "default") -> str:
    """The id of a new store with these files."""
    store = await server.services.db.write(
        lambda tx: rows.create_store(tx, project, rows.alike(file_ids))
    )
    return str(store.id)


async def files_in(server: LiveServer, store_id: str) -> dict[str, Record]:
    """The files of a store by their ids."""
    found = await server.services.db.read(
        lambda tx: tx.vector_store_files.every(vector_store_id=store_id)
    )
    return {row.id: row for row in found}


async def settled(server: LiveServer, store_id: str) -> dict[str, Record]:
    """The same when nothing is left to be done, not even in the indexes."""
    assert await server.services.ingestor.wait_ready(store_id, 20.0)
    await clean(server)
    return await files_in(server, store_id)


async def clean(server: LiveServer) -> None:
    """Wait until the indexes have given up all that they have to."""

    async def removals() -> int:
        return await server.services.db.read(lambda tx: len(tx.index_removals.oldest(9)))

    await eventually(removals, lambda number: number == 0)


async def text_in_index(server: LiveServer, store_id: str, file_id: str) -> str:
    """What the index has of a file."""
    return "".join(await server.services.searcher._indexes.chunks_of(store_id, file_id))


def counts(tx: Tx, store_id: str) -> schemas.FileCounts:
    """As they are shown."""
    store = tx.vector_stores.by_id(store_id)
    assert store is not None
    return rows.shown_stores(tx, [store])[0].file_counts
