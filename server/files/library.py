"""The files of all projects: their rows, and the blobs that these name.

A blob may be named by many rows, and the rows that name it come and go while others arrive with
the same bytes. So whoever places a blob and inserts its row, and whoever removes one that no row
names, does so under the lock of its digest. After a crash there may be blobs without a row, until
the next start, but never the reverse. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar
from weakref import WeakValueDictionary

from server import errors
from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull, Tx
from server.db.stores import Record
from server.db.sweep import Sweeper
from server.files.blobs import Blob, BlobStore, Hash, Incoming, Reader
from server.files.rows import expire_some, insert_file, remove_file, require_file, require_room

log = logging.getLogger(__name__)

T = TypeVar("T")


class Library:
    """What callers do to files, and the sweep that ends those whose time is over."""

    def __init__(
        self, db: Database, blobs: BlobStore, *, sweep_interval: float, project_bytes: int = 0
    ) -> None:
        """`project_bytes` is what a project's files may have together; 0 is no limit."""
        self.project_bytes = project_bytes
        self._db = db
        self._blobs = blobs
        self._sweeper = Sweeper(self.sweep, "file_sweep", sweep_interval)
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    async def start(self) -> None:
        """Clear away what a crash has left, then begin to sweep."""
        read = self._db.read
        left = await self._blobs.keep_only(lambda them: read(lambda tx: tx.files.blobs_among(them)))
        if left:
            log.info("blobs_cleared", extra={"blobs": left})
        self._sweeper.start()

    async def stop(self) -> None:
        """Return when a sweep that is going on has ended."""
        await self._sweeper.stop()

    async def require_room(self, project: str) -> None:
        """Before a file is received in vain. Raises storage_limit_exceeded."""
        if self.project_bytes:
            await self._db.read(lambda tx: require_room(tx, project, 1, self.project_bytes))

    def receive(self, *along: Hash) -> Incoming:
        """A place for bytes that are to come, to be closed by the caller."""
        return self._blobs.receive(*along)

    async def add(
        self, project: str, sent: Incoming, filename: str, purpose: str, lifetime: int | None
    ) -> Record:
        """Make a file of what was sent.

        Raises file_is_empty, storage_limit_exceeded, StorageFull, DatabaseFull.
        """
        blob = await sealed(sent)

        def insert(tx: Tx) -> Record:
            require_room(tx, project, blob.bytes, self.project_bytes)
            return insert_file(tx, project, blob, filename, purpose, lifetime)

        return await self.keep(sent, blob, insert)

    async def keep(self, sent: Incoming, blob: Blob, work: Callable[[Tx], T]) -> T:
        """Keep for good what was sealed, and run the unit that gives it a row.

        Raises StorageFull, and what the unit raises: nothing is kept then.
        """
        async with self._lock(blob.digest):
            try:
                await self._blobs.place(sent, blob)
                return await self._db.write(work)
            except Exception:
                await self._remove_unnamed(blob.digest)
                raise

    async def open(self, file: Record) -> Reader:
        """The bytes of a file. Raises no_such_file if it was deleted meanwhile."""
        try:
            return await self._blobs.open(file.sha256)
        except FileNotFoundError:
            await self._db.read(lambda tx: require_file(tx, file.project_id, file.id))
            raise

    async def delete(self, project: str, file_id: str) -> None:
        """Delete a file. Raises no_such_file."""
        digest = await self._db.write(
            lambda tx: remove_file(tx, require_file(tx, project, file_id))
        )
        await self.release([digest])

    async def release(self, digests: Iterable[str]) -> None:
        """Remove the blobs that no row names any more."""
        for digest in set(digests):
            async with self._lock(digest):
                await self._remove_unnamed(digest)

    async def sweep(self) -> None:
        """End the files and uploads whose time is over."""
        while (expired := await self._db.write(expire_some)).number:
            await self.release(expired.digests)

    def _lock(self, digest: str) -> asyncio.Lock:
        """Lives for as long as somebody holds it or waits for it."""
        return self._locks.setdefault(digest, asyncio.Lock())

    async def _remove_unnamed(self, digest: str) -> None:
        """By whoever has the lock. What cannot be removed now is cleared away at the next start.

        The writer is asked, so that all units that were queued before are over.
        """
        try:
            if not await self._db.write(lambda tx: tx.files.has_blob(digest)):
                await self._blobs.remove(digest)
        except (DatabaseBusy, DatabaseFull, DatabaseClosed, OSError) as error:
            log.warning("blob_left", extra={"digest": digest, "reason": str(error)})


async def sealed(sent: Incoming) -> Blob:
    """What was sent, when it is on the disk. Raises file_is_empty, StorageFull."""
    if not sent.bytes:
        raise errors.file_is_empty()
    return await sent.seal()
