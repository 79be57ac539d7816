"""What reads documents that are bytes, and indexes over an embedder that needs no model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from server.config import ExtractionSettings, SearchSettings
from server.search.extraction import Document, Extractor
from server.search.index import Indexes
from tests.search.fakes import WordEmbedder

Extract = Callable[[str, bytes], Awaitable[Document]]

SETTINGS = ExtractionSettings(memory=2**28, seconds=10, text_bytes=2**20)


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    """Extract the text of a file with this name and these bytes."""
    extractor = Extractor(SETTINGS)

    async def read(filename: str, content: bytes) -> Document:
        path = tmp_path / "blob"
        path.write_bytes(content)
        return await extractor.extract(path, filename)

    return read


@pytest.fixture
def embedder() -> WordEmbedder:
    """One whose vectors are sums of words."""
    return WordEmbedder()


@pytest.fixture
async def indexes(tmp_path: Path, embedder: WordEmbedder) -> AsyncIterator[Indexes]:
    """An empty folder's."""
    indexes = Indexes(tmp_path / "search", embedder, SearchSettings())
    yield indexes
    await indexes.close()
