"""Indexes over an embedder that needs no model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.config import SearchSettings
from server.search.index import Indexes
from tests.search.fakes import WordEmbedder


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
