"""What is found in vector stores: hits of the indexes that rows still vouch for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from server import schemas
from server.db.attributes import matches
from server.db.database import Database, DatabaseBusy, DatabaseFull, Tx
from server.db.stores import Record
from server.schemas import JsonObject
from server.search.index import Hit, Indexes, Ranker
from server.vector_stores.rows import require_store_file, require_usable_store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How hits are ranked, and the score from 0 to 1 that they must have."""

    ranker: Ranker = "auto"
    score_threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a file, from `start` to before `end` in its text; `page` where it has pages."""

    file_id: str
    filename: str
    score: float
    attributes: JsonObject
    text: str
    start: int
    end: int
    page: int | None


class Searcher:
    """Searches for the callers, and reads what is in the indexes."""

    def __init__(self, db: Database, indexes: Indexes) -> None:
        self._db = db
        self._indexes = indexes

    async def search(
        self,
        project: str,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        max_results: int,
        filters: schemas.Filter | None = None,
        ranking: Ranking = Ranking(),
        without_deleted: bool = False,
    ) -> list[Found]:
        """The best pieces of all stores together, the best first. To be searched is to be used.

        What of a file is in two stores is found twice, as the hosted service found it (recorded).
        Raises vector_store_has_expired, and no_such_vector_store unless it is to be
        `without_deleted` ones.
        """

        def look(tx: Tx) -> tuple[list[str], frozenset[str] | None]:
            there = _there(tx, project, store_ids) if without_deleted else [*store_ids]
            for store_id in there:
                require_usable_store(tx, project, store_id)
            return there, None if filters is None else _allowed(tx, there, filters)

        async def hits_in(allowed: frozenset[str] | None) -> list[Hit]:
            return await self._indexes.search(
                stores,
                queries,
                limit=max_results,
                allowed=allowed,
                ranker=ranking.ranker,
                score_threshold=ranking.score_threshold,
                project=project,
            )

        stores, allowed = await self._db.read(look)
        if not stores:
            return []
        hits, _ = await asyncio.gather(hits_in(allowed), self._touch(project, stores))
        found = await self._db.read(lambda tx: _vouched_for(tx, hits, filters))
        if len(found) < len(hits) == max_results:  # what is no more had others' places
            allowed = await self._db.read(lambda tx: _allowed(tx, stores, filters))
            hits = await hits_in(allowed)
            found = await self._db.read(lambda tx: _vouched_for(tx, hits, filters))
        return found

    async def content(self, project: str, store_id: str, file_id: str) -> list[str]:
        """A file's text, chunk by chunk; nothing before it is completed.

        Raises no_such_vector_store, not_in_vector_store.
        """
        row = await self._db.read(lambda tx: require_store_file(tx, project, store_id, file_id))
        if row.status != "completed":
            return []
        return await self._indexes.chunks_of(store_id, file_id)

    async def _touch(self, project: str, store_ids: Sequence[str]) -> None:
        """Where nothing can be written, stores can be searched all the same."""
        try:
            await self._db.write(lambda tx: tx.vector_stores.touch(project, store_ids, tx.now))
        except (DatabaseBusy, DatabaseFull):
            log.warning("search_not_noted", extra={"vector_stores": list(store_ids)})


def _there(tx: Tx, project: str, store_ids: Sequence[str]) -> list[str]:
    """Those of the stores that have not been deleted."""
    return [each for each in store_ids if tx.vector_stores.get(project, each)]


def _allowed(tx: Tx, store_ids: Sequence[str], filters: schemas.Filter | None) -> frozenset[str]:
    """The files that may be found."""
    where = [] if filters is None else [matches(filters)]
    return frozenset(tx.vector_store_files.completed_ids(store_ids, tx.now, *where))


def _vouched_for(tx: Tx, hits: Sequence[Hit], filters: schemas.Filter | None) -> list[Found]:
    """The hits whose files are still in their stores, and there fit the filter."""
    stores, files = {hit.store_id for hit in hits}, {hit.file_id for hit in hits}
    where = [] if filters is None else [matches(filters)]
    rows = {
        (row.vector_store_id, row.id): row
        for row in tx.vector_store_files.completed(stores, files, tx.now, *where)
    }
    return [_found(hit, row) for hit in hits if (row := rows.get((hit.store_id, hit.file_id)))]


def _found(hit: Hit, row: Record) -> Found:
    return Found(
        file_id=hit.file_id,
        filename=row.filename,
        score=hit.score,
        attributes=row.attributes,
        text=hit.text,
        start=hit.start,
        end=hit.end,
        page=hit.page,
    )
