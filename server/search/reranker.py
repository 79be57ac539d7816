"""The best of what was found, read once more beside the query by a model that ranks.

Knows nothing of files, of indexes, and of where a model is from.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.engine.pairs import LONGEST_TOKEN
from server.engine.pool import ModelPool
from server.engine.protocol import Engine
from server.search.embedder import PATIENCE_OF_QUERIES


class Reranker:
    """By a model of the pool, which is loaded when it is needed. Owned by the engine's loop."""

    def __init__(
        self, name: str, engine: Engine, pool: ModelPool, *, window: int, pairs: int
    ) -> None:
        """`window` is tokens of query and text together; `pairs` of them are read for a search."""
        self._name = name
        self._engine = engine
        self._pool = pool
        self._longest = LONGEST_TOKEN * window
        self._pairs = pairs

    def depth(self, queries: int) -> int:
        """How many texts are read beside each of so many queries."""
        return max(1, self._pairs // max(1, queries))

    async def scores(
        self, queries: Sequence[str], texts: Sequence[str], project: str = ""
    ) -> list[float]:
        """How well each text answers the query that it answers best, 0..1. Raises EngineError."""
        cut = [text[: self._longest] for text in texts]
        async with self._pool.using(self._name, PATIENCE_OF_QUERIES):
            found = [await self._engine.rank(query, cut, project=project) for query in queries]
        return [max(scores) for scores in zip(*found, strict=True)]
