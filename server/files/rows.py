"""The rows of files and uploads: each verb is part of one unit of work.

What gives up bytes returns their digests; whether anybody else has those is asked afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server import errors, schemas
from server.db.database import Tx
from server.db.stores import INGESTION, Record
from server.files.blobs import Blob

UPLOAD_LIFETIME = 3600
MOST_PARTS = 10_000
FILES_AT_ONCE = 50  # others wait for a unit of work to end
UPLOADS_AT_ONCE = 4
UPLOAD_REMEMBERED = 24 * 3600  # seconds after its time that it is known how an upload has ended
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Expired:
    """How many files and uploads were ended or forgotten, and the digests given up by that."""

    number: int
    digests: Sequence[str]


def require_file(tx: Tx, project: str, file_id: str) -> Record:
    file = tx.files.get(project, file_id, tx.now)
    if file is None:
        raise errors.no_such_file(file_id)
    return file


def require_room(tx: Tx, project: str, size: int, most_bytes: int) -> None:
    """For so many bytes more in a project that may have `most_bytes`; 0 is no limit.

    Raises storage_limit_exceeded.
    """
    if most_bytes and tx.files.stored_in(project) + size > most_bytes:
        raise errors.storage_limit_exceeded(most_bytes)


def insert_file(
    tx: Tx, project: str, blob: Blob, filename: str, purpose: str, lifetime: int | None
) -> Record:
    """A file over bytes that are on the disk; `lifetime` is in seconds."""
    return tx.files.insert(
        {
            "id": tx.ids.new("file").replace("_", "-"),
            "project_id": project,
            "purpose": purpose,
            "filename": filename,
            "bytes": blob.bytes,
            "created_at": tx.now,
            "expires_at": None if lifetime is None else tx.now + lifetime,
            "status": "processed",
            "status_details": None,
            "sha256": blob.digest,
        }
    )


def remove_file(tx: Tx, file: Record) -> str:
    """Delete a file, and take it from all that refers to it. Returns the digest of its bytes."""
    tx.files.bury(file)
    tx.files.take_from_tools(file.project_id, file.id)
    tx.vector_store_files.take_out(file.project_id, file.id)
    tx.notify(INGESTION)
    return str(file.sha256)


def create_upload(tx: Tx, project: str, body: schemas.CreateUpload) -> Record:
    return tx.uploads.insert(
        {
            "id": tx.ids.new("upload"),
            "project_id": project,
            "created_at": tx.now,
            "status": "pending",
            "expires_at": tx.now + UPLOAD_LIFETIME,
            **body.stored(),
        }
    )


def require_pending(tx: Tx, project: str, upload_id: str, to: str) -> Record:
    """An upload that can still change, `to` whatever. Raises no_such_upload, upload_is_over."""
    upload = tx.uploads.get(project, upload_id)
    if upload is None:
        raise errors.no_such_upload(upload_id)
    overdue = upload.status == "pending" and upload.expires_at <= tx.now
    status = "expired" if overdue else upload.status
    if status != "pending":
        raise errors.upload_is_over(to, status)
    return upload


def insert_part(tx: Tx, upload: Record, blob: Blob, most_bytes: int) -> Record:
    """A part of a pending upload. Raises too_many_parts, parts_too_large."""
    count, size = tx.upload_parts.size(upload.id)
    if count >= MOST_PARTS:
        raise errors.too_many_parts(MOST_PARTS)
    if size + blob.bytes > most_bytes:
        raise errors.parts_too_large(most_bytes)
    return tx.upload_parts.insert(
        {
            "id": tx.ids.new("part"),
            "upload_id": upload.id,
            "created_at": tx.now,
            "bytes": blob.bytes,
            "sha256": blob.digest,
        }
    )


def chosen_parts(tx: Tx, upload: Record, part_ids: Sequence[str]) -> list[Record]:
    """The parts that make up the file, in its order. Raises no_such_part, wrong_size."""
    parts = {part.id: part for part in tx.upload_parts.every(upload_id=upload.id)}
    for part_id in part_ids:
        if part_id not in parts:
            raise errors.no_such_part(part_id)
    chosen = [parts[part_id] for part_id in part_ids]
    size = sum(part.bytes for part in chosen)
    if size != upload.bytes:
        raise errors.wrong_size(upload.bytes, size)
    return chosen


def end_upload(tx: Tx, upload: Record, status: str) -> tuple[Record, list[str]]:
    """Take a pending upload to its end; also returns the digests of its parts, which are gone."""
    return tx.uploads.update(upload.seq, {"status": status}), tx.upload_parts.drop(upload.id)


def expire_some(tx: Tx) -> Expired:
    """End those files and uploads that have been over for longest; forget the oldest uploads."""
    files = tx.files.expired(tx.now, FILES_AT_ONCE)
    uploads = tx.uploads.overdue(tx.now, UPLOADS_AT_ONCE)
    digests = [remove_file(tx, file) for file in files]
    for upload in uploads:
        digests += end_upload(tx, upload, "expired")[1]
    forgotten = tx.uploads.prune(tx.now - UPLOAD_REMEMBERED, ROWS_AT_ONCE)
    return Expired(len(files) + len(uploads) + forgotten, digests)
