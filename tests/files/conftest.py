"""What holds between rows and blobs, whatever happened before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from server.db.database import Tx
from server.files.library import Library
from tests.support import LiveServer


def digests_on_disk(data: Path) -> set[str]:
    """The names of all blobs of a data folder."""
    return {path.name for path in (data / "blobs").glob("??/*")}


def on_their_way(data: Path) -> list[Path]:
    """What has not become a blob."""
    return list((data / "blobs" / "incoming").iterdir())


def digests_in_rows(tx: Tx) -> set[str]:
    """The digests of all files and parts."""
    return {row.sha256 for row in (*tx.files.every(), *tx.upload_parts.every())}


@pytest.fixture
def settled(server: LiveServer) -> Callable[[], Awaitable[set[str]]]:
    """Ask for the digests that rows have, which are those on the disk."""

    async def look() -> set[str]:
        rows = await server.services.db.read(digests_in_rows)
        data = server.settings.server.data_dir
        assert digests_on_disk(data) == rows
        assert on_their_way(data) == []
        return rows

    return look


async def add(library: Library, content: bytes, project: str = "default") -> str:
    """The id of a new file."""
    async with library.receive() as sent:
        await sent.write(content)
        return str((await library.add(project, sent, "a.txt", "vision", None)).id)
