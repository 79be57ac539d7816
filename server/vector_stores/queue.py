"""The queue of files that are to be taken in: the rows that are in progress.

Each verb is one unit of work. A claim names its row by `seq`, which no later addition of the same
file has; so whatever has become of the file meanwhile, the end of an old claim does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from server import schemas
from server.db.database import Tx
from server.db.stores import INGESTION, Record

TRIED_TOO_OFTEN = "The file could not be processed, though it was tried several times."


@dataclass(frozen=True, slots=True)
class Job:
    """A file that is being taken in, for the `attempt`-th time."""

    seq: int
    project: str
    store_id: str
    file_id: str
    filename: str
    sha256: str
    chunk_size: int  # tokens
    overlap: int  # tokens
    attempt: int


def claim(tx: Tx, turns: Mapping[str, int], most: int) -> Job | None:
    """Take the oldest file of the project whose last turn is longest ago; None if none waits.

    One that was begun `most` times fails.
    """
    while (row := tx.vector_store_files.next_to_ingest(turns)) is not None:
        if (job := _begun(tx, row, most)) is not None:
            return job
    return None


def claim_among(tx: Tx, seqs: Collection[int], most: int) -> Job | None:
    """The same of the oldest of these files."""
    while (row := tx.vector_store_files.oldest_to_ingest_among(seqs)) is not None:
        if (job := _begun(tx, row, most)) is not None:
            return job
    return None


def _begun(tx: Tx, row: Record, most: int) -> Job | None:
    file = tx.files.by_id(row.id)
    if file is None or row.attempts >= most:
        fail(tx, row.seq, "server_error", TRIED_TOO_OFTEN)
        return None
    tx.vector_store_files.update(row.seq, {"claimed": True, "attempts": row.attempts + 1})
    return _job(row, file)


def _job(row: Record, file: Record) -> Job:
    sizes: dict[str, Any] = row.chunking_strategy["static"]
    return Job(
        seq=row.seq,
        project=row.project_id,
        store_id=row.vector_store_id,
        file_id=row.id,
        filename=file.filename,
        sha256=file.sha256,
        chunk_size=sizes["max_chunk_size_tokens"],
        overlap=sizes["chunk_overlap_tokens"],
        attempt=row.attempts + 1,
    )


def complete(tx: Tx, seq: int, usage_bytes: int) -> bool:
    """The file can be found; False if nobody waits for it any more."""
    changes = {"status": "completed", "usage_bytes": usage_bytes, "claimed": False}
    return _end(tx, seq, changes) is not None


def fail(tx: Tx, seq: int, code: str, message: str) -> None:
    """The file stays without text, for this reason."""
    error = schemas.FileFault.model_validate({"code": code, "message": message})
    changes = {"status": "failed", "last_error": error.model_dump(), "claimed": False}
    row = _end(tx, seq, changes)
    if row is not None:  # it may have been in the index as far as that
        tx.index_removals.insert({"vector_store_id": row.vector_store_id, "file_id": row.id})


def _end(tx: Tx, seq: int, changes: dict[str, Any]) -> Record | None:
    tx.notify(INGESTION)
    return tx.vector_store_files.update_if_in_progress(seq, changes)


def ingest_again(tx: Tx, store_id: str, file_ids: Collection[str]) -> None:
    """Take files in that were completed, since their text is lost."""
    tx.vector_store_files.ingest_again(store_id, file_ids)
    tx.notify(INGESTION)


def release(tx: Tx, seqs: Collection[int]) -> None:
    """Let claimed files be claimed again."""
    for seq in seqs:
        tx.vector_store_files.update_if_in_progress(seq, {"claimed": False})


def give_back(tx: Tx, jobs: Collection[Job]) -> None:
    """The same of files that are left because the server stops: that was no attempt."""
    for job in jobs:
        changes = {"claimed": False, "attempts": job.attempt - 1}
        tx.vector_store_files.update_if_in_progress(job.seq, changes)
