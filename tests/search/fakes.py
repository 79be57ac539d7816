"""Stand-ins for what makes vectors and chunks."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from server.config import SearchSettings
from server.engine.protocol import EngineUnavailable
from server.engine.vectors import Vector, normalised
from server.search.chunks import Chunk
from server.search.index import Hit, Indexes
from server.search.reranker import Reranker


class WordEmbedder:
    """A text's vector is the sum of its words' vectors; each word has a random one."""

    def __init__(self, dimensions: int = 32, name: str = "words") -> None:
        self.dimensions = dimensions
        self.name = name
        self.window = 0
        self.embedded: list[str] = []  # passages
        self.works = asyncio.Event()  # until it is set, nothing is returned
        self.works.set()
        self.fails = False

    @property
    def fingerprint(self) -> str:
        return f"{self.name}-{self.dimensions}"

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        await self.works.wait()
        if self.fails:
            raise EngineUnavailable("The model cannot be loaded.")
        if not query:
            self.embedded += texts
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> Vector:
        words = re.findall(r"\w+", text.lower())
        zero = np.zeros(self.dimensions, np.float32)
        return normalised(sum((self._of_word(word) for word in words), zero))

    def _of_word(self, word: str) -> Vector:
        random = np.random.default_rng(zlib.crc32(f"{self.name} {word}".encode()))
        return random.normal(size=self.dimensions).astype(np.float32)


def chunked(text: str, size: int, overlap: int = 0) -> list[Chunk]:
    """Of so many characters; each is on a page of its own."""
    starts = range(0, max(1, len(text) - overlap), size - overlap)
    return [
        Chunk(start, min(start + size, len(text)), 1, page) for page, start in enumerate(starts, 1)
    ]


def lines(text: str) -> list[Chunk]:
    """A chunk for each line."""
    return [Chunk(*found.span(), 1, None) for found in re.finditer(".*\n?", text) if found[0]]


async def put_lines(indexes: Indexes, store_id: str, **files: str) -> None:
    """Put texts, a chunk for each line."""
    for name, text in files.items():
        await indexes.put(store_id, name, text, lines(text))


async def search(indexes: Indexes, query: str, **more: object) -> list[Hit]:
    """In the store `vs`."""
    return await indexes.search(["vs"], [query], **{"limit": 10, **more})  # type: ignore[arg-type]


async def found(indexes: Indexes, query: str, **more: object) -> list[str]:
    """The texts of what is found in the store `vs`."""
    return [hit.text for hit in await search(indexes, query, **more)]


@asynccontextmanager
async def opened(
    folder: Path,
    embedder: WordEmbedder | None = None,
    lost: Callable[[str], None] = lambda store_id: None,
    reranker: Reranker | None = None,
    **settings: int,
) -> AsyncIterator[Indexes]:
    """The indexes of a folder."""
    indexes = Indexes(
        folder, embedder or WordEmbedder(), SearchSettings(**settings), lost, reranker
    )
    try:
        yield indexes
    finally:
        await indexes.close()


async def embedded_again(indexes: Indexes) -> None:
    """Return when no vectors are being made again."""
    while indexes._embedding:
        await asyncio.gather(*indexes._embedding.values())
