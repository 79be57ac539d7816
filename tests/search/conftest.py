"""A reader of documents that are bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from server.config import ExtractionSettings
from server.search.extraction import Document, Extractor

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
