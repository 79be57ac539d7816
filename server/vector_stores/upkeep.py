"""Keeps indexes in step with rows: what has left a store leaves its index, what is lost is told.

Owned by the ingestor, which sees to it that nothing is put into an index meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from server import failpoints
from server.db.database import Database
from server.db.stores import Record
from server.search.index import FAULTS, Indexes
from server.vector_stores.queue import ingest_again

log = logging.getLogger(__name__)

REMOVALS_AT_ONCE = 100

AtWork = Callable[[str, str | None], bool]  # on a file of a store, or on any of them


class Upkeep:
    """Removes what rows say is to be removed, and looks whether an index lacks something."""

    def __init__(self, db: Database, indexes: Indexes) -> None:
        self._db = db
        self._indexes = indexes
        self._removed_to = 0  # `seq`; those before it were looked at, in this round
        self._suspects: set[str] = set()
        self._unreadable: set[str] = set()  # of them, which are looked at again after a while

    async def start(self) -> None:
        """Drop the indexes of stores that are gone, and suspect all others."""
        await self._indexes.keep_only(await self._db.read(lambda tx: tx.vector_stores.usable_ids()))
        self._suspects = await self._db.read(lambda tx: tx.vector_store_files.stores_with_text())

    def suspect(self, store_id: str) -> None:
        """Its index may lack something."""
        self._suspects.add(store_id)

    def try_again(self) -> None:
        """Suspect what could not be read."""
        self._suspects |= self._unreadable
        self._unreadable.clear()

    async def remove_some(self, is_at_work: AtWork) -> bool:
        """What is being worked on is left for when that has ended. False if there is no more.

        What is left behind does not keep what came after it.
        """
        after, most = self._removed_to, REMOVALS_AT_ONCE
        removals = await self._db.read(lambda tx: tx.index_removals.oldest(most, after))
        self._removed_to = removals[-1].seq if len(removals) == most else 0
        done = []
        for removal in removals:
            if is_at_work(removal.vector_store_id, removal.file_id):
                continue
            try:
                await self._remove(removal)
                done.append(removal.seq)
            except FAULTS:  # one folder that cannot be used shall not hold up the others
                log.exception("index_not_cleared", extra={"vector_store": removal.vector_store_id})
        if done:
            await self._db.write(lambda tx: tx.index_removals.settle(done))
        return bool(done or self._removed_to)

    async def _remove(self, removal: Record) -> None:
        store_id, file_id = removal.vector_store_id, removal.file_id
        if file_id is None:
            await self._indexes.drop(store_id)
            return
        row = await self._db.read(lambda tx: tx.vector_store_files.get(store_id, file_id))
        if row is None or row.status != "completed":
            await self._indexes.remove(store_id, [file_id])
        failpoints.hit("ingest.removed")

    async def look_at_one(self) -> bool:
        """Have what a suspect lacks taken in anew. False if there is none."""
        if not self._suspects:
            return False
        store_id = next(iter(self._suspects))
        try:
            await self._look_at(store_id)
        except FAULTS:  # the same
            log.exception("index_not_read", extra={"vector_store": store_id})
            self._unreadable.add(store_id)
        self._suspects.discard(store_id)
        return True

    async def _look_at(self, store_id: str) -> None:
        there = await self._db.read(lambda tx: tx.vector_store_files.completed_in(store_id, tx.now))
        missing = await self._indexes.missing(store_id, there) if there else set()
        if missing:
            log.warning("index_incomplete", extra={"vector_store": store_id, "files": len(missing)})
            await self._db.write(lambda tx: ingest_again(tx, store_id, missing))
