"""Ingestion in a server that is killed again and again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.process import MODEL, PATIENCE, ServerProcess, served
from tests.support import DEADLINE

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

POINTS = (
    "ingest.claimed=kill:2",
    "ingest.extracted=kill:2",
    "ingest.indexed=kill",
    "commit.before=kill:4",
    "ingest.completed=kill:2",
    "commit.after=kill:5",
)
TEXTS = [f"The word of number {number} is w{number}x." for number in range(8)]


def test_a_killed_server_takes_every_file_in_once(tmp_path: Path) -> None:
    """Killed between any two steps of an ingestion, and of a removal."""
    with served(tmp_path) as server, server.sdk() as client:
        file_ids = [
            client.files.create(file=(f"{number}.txt", text.encode()), purpose="assistants").id
            for number, text in enumerate(TEXTS)
        ]
        store = client.vector_stores.create(name="Words").id
    for point in POINTS:
        with dying(tmp_path, point) as client:
            if point == POINTS[0]:
                client.vector_stores.file_batches.create(store, file_ids=file_ids)
    with dying(tmp_path, "ingest.removed=kill") as client:
        client.vector_stores.files.delete(file_ids[0], vector_store_id=store)
    with served(tmp_path, **many(100)) as server:
        assert_whole(server, store, dict(zip(file_ids[1:], TEXTS[1:], strict=True)))
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "assistants.db")) as raw:
        assert raw.execute("SELECT count(*) FROM index_removal").fetchone() == (0,)


def many(attempts: int) -> dict[str, str]:
    """How often a file may be tried, as the server is told."""
    return {"ASSISTANTS_VECTOR_STORES__ATTEMPTS": str(attempts)}


@contextlib.contextmanager
def dying(folder: Path, point: str, attempts: int = 100) -> Iterator[openai.OpenAI]:
    """A client of a server that is killed at a failpoint, perhaps before it answers."""
    with served(folder, ASSISTANTS_FAILPOINTS=point, **many(attempts)) as server:
        with server.sdk(max_retries=0) as client, contextlib.suppress(openai.APIConnectionError):
            yield client
        server.process.wait(PATIENCE)


def assert_whole(server: ServerProcess, store: str, texts: dict[str, str]) -> None:
    """These files are in the store, once, with just their text; no other is."""
    with server.sdk(timeout=DEADLINE) as client:
        for file_id, text in texts.items():
            done = client.vector_stores.files.poll(file_id, vector_store_id=store)
            assert done.status == "completed"
            parts = client.vector_stores.files.content(file_id, vector_store_id=store)
            assert [part.text for part in parts] == [text]
        shown = client.vector_stores.retrieve(store).file_counts
        assert (shown.completed, shown.total) == (len(texts), len(texts))
        found = client.vector_stores.search(store, query="The word", max_num_results=50)
        assert sorted(each.file_id for each in found) == sorted(texts)


def test_a_file_that_kills_the_server_each_time_fails(tmp_path: Path) -> None:
    """Three times, and the server lives without it."""
    with served(tmp_path) as server, server.sdk() as client:
        file = client.files.create(file=("poison.txt", b"Poison."), purpose="assistants")
        store = client.vector_stores.create().id
    for attempt in range(3):
        with dying(tmp_path, "ingest.extracted=kill", attempts=1) as client:
            if attempt == 0:
                client.vector_stores.files.create(store, file_id=file.id)
    with served(tmp_path, **many(1)) as server, server.sdk() as client:
        failed = client.vector_stores.files.poll(file.id, vector_store_id=store)
        assert failed.last_error is not None
        assert (failed.status, failed.last_error.code) == ("failed", "server_error")
