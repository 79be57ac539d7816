"""What makes texts comparable: a vector for each, by a model or, where there is none, by its words.

Knows nothing of files, of indexes, and of where a model is from.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from server.engine.pool import ModelPool
from server.engine.protocol import Engine
from server.engine.vectors import Vector
from server.search import ngrams
from server.search.prefixes import Prefixes

PATIENCE: Final = 600.0  # seconds to wait for the model: others may be using the memory
# A run that searches holds its own model; the embedder may be waiting for that one's memory.
PATIENCE_OF_QUERIES: Final = 5.0
BATCH: Final = 64  # texts that are sent to the model's process at once
LONGEST_TOKEN: Final = 32  # characters; hardly any token has so many


class Embedder(Protocol):
    """Texts to vectors. Those of two fingerprints cannot be compared."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def window(self) -> int:
        """Tokens that it reads at once, of which some may be its own; 0: any number.

        Of a longer text it reads the beginning.
        """
        ...

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        """A vector of length 1 for each, or of zeros where there is nothing to compare.

        Queries are compared with texts that are none. Projects take turns. Raises EngineError.
        """
        ...


class NgramEmbedder:
    """By words and pieces of words. Needs no model, and does not know what words mean."""

    fingerprint: Final = f"ngrams-{ngrams.VERSION}"
    dimensions: Final = ngrams.DIMENSIONS
    window: Final = 0

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        return list(await asyncio.to_thread(ngrams.embed, texts))


class ModelEmbedder:
    """By an embedding model, which is loaded when it is needed. Owned by the engine's loop."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        pool: ModelPool,
        *,
        identity: str,
        dimensions: int,
        window: int,
        prefixes: Prefixes,
    ) -> None:
        """`name` is the model's in the pool, `identity` what its files are known by."""
        self._name = name
        self._engine = engine
        self._pool = pool
        self._prefixes = prefixes
        self._dimensions = dimensions
        self._window = window
        told = "\0".join((identity, prefixes.query, prefixes.passage))
        self._fingerprint = hashlib.sha256(told.encode()).hexdigest()[:32]

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def window(self) -> int:
        return self._window

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        prefix = self._prefixes.query if query else self._prefixes.passage
        longest = LONGEST_TOKEN * self._window
        vectors = [np.zeros(self._dimensions, np.float32) for _ in texts]
        told = [place for place, text in enumerate(texts) if not text.isspace() and text]
        for start in range(0, len(told), BATCH):
            some = told[start : start + BATCH]
            async with self._pool.using(self._name, PATIENCE_OF_QUERIES if query else PATIENCE):
                read = [prefix + texts[place][:longest] for place in some]
                found = await self._engine.embed(read, cut=True, project=project)
            for place, vector in zip(some, found.vectors, strict=True):
                vectors[place] = vector
        return vectors
