"""The indexes of vector stores: chunks to be found by words."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.search.chunks import Chunk

Ranker = Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that fits a query, and how well: 0 to 1."""

    store_id: str
    file_id: str
    ordinal: int
    text: str
    start: int
    end: int
    page: int | None
    score: float


class Indexes:
    """A folder a vector store, in it a file a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def put(self, store_id: str, file_id: str, text: str, chunks: Sequence[Chunk]) -> int:
        rows = [[c.start, c.end, c.page, text[c.start : c.end]] for c in chunks]
        content = json.dumps(rows)
        path = self._folder / store_id / file_id

        def write() -> int:
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(content)
            part.replace(path)
            return len(content)

        return await asyncio.to_thread(write)

    async def remove(self, store_id: str, file_ids: Collection[str]) -> None:
        for file_id in file_ids:
            (self._folder / store_id / file_id).unlink(missing_ok=True)

    async def drop(self, store_id: str) -> None:
        shutil.rmtree(self._folder / store_id, ignore_errors=True)

    async def missing(self, store_id: str, file_ids: Collection[str]) -> set[str]:
        return {each for each in file_ids if not (self._folder / store_id / each).is_file()}

    async def chunks_of(self, store_id: str, file_id: str) -> list[str]:
        path = self._folder / store_id / file_id
        return [row[3] for row in json.loads(path.read_text())] if path.is_file() else []

    async def search(
        self,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        limit: int,
        allowed: Set[str] | None,
        ranker: Ranker,
        score_threshold: float,
    ) -> list[Hit]:
        words = set(re.findall(r"\w+", " ".join(queries).lower()))
        hits = []
        for store_id in store_ids:
            for path in sorted((self._folder / store_id).glob("*")):
                if allowed is not None and path.name not in allowed:
                    continue
                for ordinal, (start, end, page, text) in enumerate(json.loads(path.read_text())):
                    found = words & set(re.findall(r"\w+", text.lower()))
                    score = len(found) / max(len(words), 1)
                    if found and score >= score_threshold:
                        hits.append(
                            Hit(store_id, path.name, ordinal, text, start, end, page, score)
                        )
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    async def keep_only(self, store_ids: Collection[str]) -> None:
        for path in self._folder.iterdir():
            if path.name not in store_ids:
                shutil.rmtree(path)

    def close(self) -> None:
        pass
