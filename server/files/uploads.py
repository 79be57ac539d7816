"""Uploads: a file in parts, which may come at once and in any order, and are joined at the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from weakref import WeakValueDictionary

from server import errors, schemas
from server.db.database import Database, Tx
from server.db.stores import Record
from server.files.blobs import BlobStore, Incoming
from server.files.library import Library, sealed
from server.files.rows import (
    chosen_parts,
    create_upload,
    end_upload,
    insert_file,
    insert_part,
    require_pending,
    require_room,
)


@dataclass(frozen=True, slots=True)
class Completed:
    """An upload that has become a file."""

    upload: Record
    file: Record


class Uploads:
    """The verbs of uploads. `most_bytes` is what the parts of one may have together.

    Owned by one event loop.
    """

    def __init__(
        self, db: Database, blobs: BlobStore, library: Library, *, most_bytes: int
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._library = library
        self._most_bytes = most_bytes
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    async def create(self, project: str, body: schemas.CreateUpload) -> Record:
        """Raises above_maximum, storage_limit_exceeded."""
        if body.bytes > self._most_bytes:
            raise errors.above_maximum("bytes", self._most_bytes, body.bytes)

        def create(tx: Tx) -> Record:
            self._require_room(tx, project, body.bytes)
            return create_upload(tx, project, body)

        return await self._db.write(create)

    async def require_open(self, project: str, upload_id: str) -> None:
        """Before a part is received in vain. Raises no_such_upload, upload_is_over."""
        await self._db.read(lambda tx: require_pending(tx, project, upload_id, ADD))

    async def add_part(self, project: str, upload_id: str, sent: Incoming) -> Record:
        """Keep a part.

        Raises no_such_upload, upload_is_over, too_many_parts, parts_too_large, file_is_empty,
        storage_limit_exceeded, StorageFull.
        """

        blob = await sealed(sent)

        def add(tx: Tx) -> Record:
            upload = require_pending(tx, project, upload_id, ADD)
            self._require_room(tx, project, blob.bytes)
            return insert_part(tx, upload, blob, self._most_bytes)

        return await self._library.keep(sent, blob, add)

    async def complete(
        self, project: str, upload_id: str, body: schemas.CompleteUpload
    ) -> Completed:
        """Join the parts to a file; if that fails, the upload is as it was.

        For as long as there is the file, the same completion gets the same answer again; one that
        comes while the parts are joined waits for it. Raises no_such_upload, upload_is_over,
        no_such_part, wrong_size, wrong_checksum, storage_limit_exceeded, StorageFull.
        """
        completion = _digest(body)
        async with self._lock(upload_id):
            before = await self._db.read(lambda tx: _completed(tx, project, upload_id, completion))
            return before or await self._complete(project, upload_id, body, completion)

    async def _complete(
        self, project: str, upload_id: str, body: schemas.CompleteUpload, completion: str
    ) -> Completed:
        parts = await self._db.read(lambda tx: _parts(tx, project, upload_id, body))
        checksum = hashlib.md5(usedforsecurity=False)
        async with self._library.receive(*([checksum] if body.md5 else [])) as joined:
            try:
                await self._join(parts, joined)
            except FileNotFoundError:  # it was cancelled, or expired, meanwhile
                await self._db.read(lambda tx: require_pending(tx, project, upload_id, COMPLETE))
                raise
            blob = await sealed(joined)
            if body.md5 and body.md5.lower() != checksum.hexdigest():
                raise errors.wrong_checksum()

            def finish(tx: Tx) -> tuple[Completed, list[str]]:
                upload = require_pending(tx, project, upload_id, COMPLETE)
                ended, digests = end_upload(tx, upload, "completed")
                self._require_room(tx, project, blob.bytes)  # without the parts
                named = (upload.filename, upload.purpose, upload.lifetime)
                file = insert_file(tx, project, blob, *named)
                made = {"completion": completion, "file_id": file.id}
                return Completed(tx.uploads.update(ended.seq, made), file), digests

            completed, digests = await self._library.keep(joined, blob, finish)
        await self._library.release(digests)
        return completed

    async def cancel(self, project: str, upload_id: str) -> Record:
        """Give an upload up, with its parts. Raises no_such_upload, upload_is_over."""

        def cancelled(tx: Tx) -> tuple[Record, list[str]]:
            return end_upload(tx, require_pending(tx, project, upload_id, CANCEL), "cancelled")

        upload, digests = await self._db.write(cancelled)
        await self._library.release(digests)
        return upload

    def _lock(self, upload_id: str) -> asyncio.Lock:
        """Lives for as long as somebody holds it or waits for it."""
        return self._locks.setdefault(upload_id, asyncio.Lock())

    def _require_room(self, tx: Tx, project: str, size: int) -> None:
        require_room(tx, project, size, self._library.project_bytes)

    async def _join(self, parts: list[Record], joined: Incoming) -> None:
        for part in parts:
            source = await self._blobs.open(part.sha256)
            with source:
                await joined.write_from(source)


ADD, COMPLETE, CANCEL = "add a part to", "complete", "cancel"


def _parts(tx: Tx, project: str, upload_id: str, body: schemas.CompleteUpload) -> list[Record]:
    upload = require_pending(tx, project, upload_id, COMPLETE)
    return chosen_parts(tx, upload, body.part_ids)


def _digest(body: schemas.CompleteUpload) -> str:
    return hashlib.sha256(json.dumps([body.part_ids, body.md5.lower()]).encode()).hexdigest()


def _completed(tx: Tx, project: str, upload_id: str, completion: str) -> Completed | None:
    """What this very completion has made, if it was made and is still there."""
    upload = tx.uploads.get(project, upload_id)
    if upload is None or upload.completion != completion:
        return None
    file = tx.files.get(project, upload.file_id, tx.now)
    return None if file is None else Completed(upload, file)
