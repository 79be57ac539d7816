"""The rows of vector stores, of their files and batches: each verb is part of one unit of work.

What leaves a store also has to leave its index: a row says so (`index_removals`) until it is done.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from server import errors, schemas
from server.db.database import Tx
from server.db.stores import INGESTION, Page, Record, Slice, Tally, portions
from server.schemas import JsonObject
from server.search.extraction import supported

DAY = 24 * 3600
STORES_AT_ONCE = 4  # others wait for a unit of work to end

NewFile = schemas.CreateVectorStoreFile


def require_store(tx: Tx, project: str, store_id: str) -> Record:
    store = tx.vector_stores.get(project, store_id)
    if store is None:
        raise errors.no_such_vector_store(store_id)
    return store


def require_usable_store(tx: Tx, project: str, store_id: str) -> Record:
    """One that takes files and can be searched. Raises vector_store_has_expired, too."""
    store = require_store(tx, project, store_id)
    if is_over(tx, store):
        raise errors.vector_store_has_expired(store_id)
    return store


def is_over(tx: Tx, store: Record) -> bool:
    """Whether it has expired, even if nobody has swept it away yet."""
    return bool(store.expired) or (store.expires_at is not None and store.expires_at <= tx.now)


def require_files(tx: Tx, project: str, file_ids: Collection[str], param: str) -> dict[str, Record]:
    """Files by their ids. Raises no_such_file for the first that is none, and looks for no more."""
    files: dict[str, Record] = {}
    for some in portions(dict.fromkeys(file_ids)):
        files |= tx.files.among(project, some, tx.now)
        for file_id in some:
            if file_id not in files:
                raise errors.no_such_file(file_id, param)
    return files


def create_store(
    tx: Tx,
    project: str,
    files: Sequence[NewFile] = (),
    *,
    name: str | None = None,
    description: str | None = None,
    expires_after: schemas.StoreExpiry | None = None,
    metadata: dict[str, str] | None = None,
) -> Record:
    """A store that begins to take files in. Raises no_such_file, not_for_retrieval."""
    store = tx.vector_stores.insert(
        {
            "id": tx.ids.new_hex("vs", f"{tx.now:08x}"),
            "project_id": project,
            "created_at": tx.now,
            "name": name,
            "description": description,
            **_expiry(tx, expires_after),
            "metadata": metadata or {},
            "expired": False,
        }
    )
    add_files(tx, store, files)
    return store


def modify_store(tx: Tx, store: Record, body: schemas.ModifyVectorStore) -> Record:
    """To say when a store expires is to use it. Raises vector_store_has_expired."""
    changes: JsonObject = {}
    if body.given("name"):
        changes["name"] = body.name
    if body.given("metadata"):
        changes["metadata"] = body.metadata or {}
    if body.given("expires_after"):
        if is_over(tx, store):
            raise errors.vector_store_has_expired(store.id)
        changes |= _expiry(tx, body.expires_after)
    return tx.vector_stores.update(store.seq, changes) if changes else store


def _expiry(tx: Tx, after: schemas.StoreExpiry | None) -> JsonObject:
    return {
        "last_active_at": tx.now,
        "expires_after": after and after.model_dump(),
        "expires_at": after and tx.now + after.days * DAY,
    }


def delete_store(tx: Tx, store: Record) -> None:
    """The files that were in it stay files."""
    tx.vector_stores.delete(store)
    _remove_from_index(tx, store.id)


def expire_some(tx: Tx) -> int:
    """Empty the stores that have been over for longest; how many there were."""
    over = tx.vector_stores.expired(tx.now, STORES_AT_ONCE)
    for store in over:
        tx.vector_stores.update(store.seq, {"expired": True})
        tx.vector_store_files.drop_all(store.id)
        _remove_from_index(tx, store.id)
    return len(over)


def add_files(
    tx: Tx, store: Record, wanted: Sequence[NewFile], batch_id: str | None = None
) -> None:
    """Have a usable store take files in; of a file that is named twice the last one counts.

    One that it has, or is taking in, stays as it is unless it shall be cut in another way, so that
    a repeated request does no harm: only its attributes and its batch are the new ones. Any other
    is taken in anew, and what nobody says of one that was there is as before.
    Raises no_such_file, not_for_retrieval.
    """
    named = {each.file_id: each for each in wanted}
    if not named:
        return
    _require_retrievable(require_files(tx, store.project_id, named, "file_ids").values())
    there = tx.vector_store_files.among(store.id, named)
    kept = {file_id: row for file_id, row in there.items() if _stays(row, named[file_id])}
    for file_id, row in there.items():
        if file_id in kept:
            _put_into_batch(tx, row, named[file_id], batch_id)
        else:
            tx.vector_store_files.drop(row.seq)
            _remove_from_index(tx, store.id, file_id)
    added = partial(_values, tx, store, batch_id)
    tx.vector_store_files.insert_all(
        [added(named[each], there.get(each)) for each in named if each not in kept]
    )
    tx.notify(INGESTION)


def _require_retrievable(files: Collection[Record]) -> None:
    names = [file.filename for file in files if not supported(file.filename)]
    if names:
        extensions = dict.fromkeys(Path(name).suffix or "none" for name in names)
        raise errors.not_for_retrieval(list(extensions))


def _stays(row: Record, wanted: NewFile) -> bool:
    same = wanted.chunking_strategy is None or row.chunking_strategy == wanted.chunking
    return same and row.status in ("in_progress", "completed")


def _put_into_batch(tx: Tx, row: Record, wanted: NewFile, batch_id: str | None) -> None:
    changes: JsonObject = {} if batch_id is None else {"batch_id": batch_id}
    if wanted.attributes is not None:
        changes["attributes"] = wanted.attributes
    if changes:
        tx.vector_store_files.update(row.seq, changes)


def _values(
    tx: Tx, store: Record, batch_id: str | None, wanted: NewFile, before: Record | None
) -> JsonObject:
    chunking, attributes = wanted.chunking, wanted.attributes
    if before is not None:
        chunking = before.chunking_strategy if wanted.chunking_strategy is None else chunking
        attributes = before.attributes if attributes is None else attributes
    return {
        "id": wanted.file_id,
        "project_id": store.project_id,
        "vector_store_id": store.id,
        "usage_bytes": 0,
        "created_at": tx.now,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": chunking,
        "attributes": attributes or {},
        "batch_id": batch_id,
        "claimed": False,
        "attempts": 0,
    }


def alike(
    file_ids: Sequence[str] | None, chunking: schemas.ChunkingStrategy | None = None
) -> list[NewFile]:
    """Files that are all cut in the same way: where nothing is said, in the usual one."""
    named = dict.fromkeys(file_ids or ())
    return [NewFile(file_id=file_id, chunking_strategy=chunking) for file_id in named]


def add_file(tx: Tx, project: str, store_id: str, wanted: NewFile) -> Record:
    """Raises no_such_vector_store, vector_store_has_expired, no_such_file, not_for_retrieval."""
    store = require_usable_store(tx, project, store_id)
    add_files(tx, store, [wanted])
    return require_store_file(tx, project, store_id, wanted.file_id)


def require_store_file(tx: Tx, project: str, store_id: str, file_id: str) -> Record:
    store = require_store(tx, project, store_id)
    file = None if is_over(tx, store) else tx.vector_store_files.shown(store_id, file_id, tx.now)
    if file is None:
        raise errors.not_in_vector_store("file", file_id, store_id)
    return file


def remove_file(tx: Tx, project: str, store_id: str, file_id: str) -> None:
    """Take a file out of a store, also while it is being taken in."""
    tx.vector_store_files.bury(require_store_file(tx, project, store_id, file_id))
    _remove_from_index(tx, store_id, file_id)


def page_of_files(
    tx: Tx,
    project: str,
    store_id: str,
    part: Slice,
    *,
    status: str | None = None,
    batch_id: str | None = None,
) -> Page:
    """A part of a store's files, or of those of one status or batch. Raises UnknownCursor."""
    store = require_store(tx, project, store_id)
    if batch_id is not None:
        require_batch(tx, project, store_id, batch_id)
    if is_over(tx, store):
        return Page([], has_more=False)
    return tx.vector_store_files.kept(store_id, part, tx.now, status, batch_id)


def create_batch(tx: Tx, project: str, store_id: str, wanted: Sequence[NewFile]) -> Record:
    """Raises no_such_vector_store, vector_store_has_expired, no_such_file, not_for_retrieval."""
    store = require_usable_store(tx, project, store_id)
    batch = tx.file_batches.insert(
        {
            "id": tx.ids.new_hex("vsfb"),
            "project_id": project,
            "vector_store_id": store_id,
            "created_at": tx.now,
            "cancelled": False,
        }
    )
    add_files(tx, store, wanted, batch.id)
    return batch


def require_batch(tx: Tx, project: str, store_id: str, batch_id: str) -> Record:
    require_store(tx, project, store_id)
    batch = tx.file_batches.get(store_id, batch_id)
    if batch is None:
        raise errors.not_in_vector_store("file batch", batch_id, store_id)
    return batch


def cancel_batch(tx: Tx, project: str, store_id: str, batch_id: str) -> Record:
    """Take in no more of it; a batch that is done stays as it is."""
    batch = require_batch(tx, project, store_id, batch_id)
    cancelled = tx.vector_store_files.cancel_batch(batch_id)
    for file_id in cancelled:
        _remove_from_index(tx, store_id, file_id)
    return tx.file_batches.update(batch.seq, {"cancelled": True}) if cancelled else batch


def _remove_from_index(tx: Tx, store_id: str, file_id: str | None = None) -> None:
    """Once this unit is durable: of a file, or of the whole store."""
    tx.index_removals.insert({"vector_store_id": store_id, "file_id": file_id})
    tx.notify(INGESTION)


def shown_stores(tx: Tx, stores: Sequence[Record]) -> list[schemas.VectorStore]:
    """Stores with what there is in them."""
    tallies = tx.vector_store_files.tallies([store.id for store in stores], tx.now)
    return [_shown(tx, store, tallies.get(store.id, Tally())) for store in stores]


def _shown(tx: Tx, store: Record, tally: Tally) -> schemas.VectorStore:
    over = is_over(tx, store)
    tally = Tally() if over else tally
    status = "expired" if over else "in_progress" if tally.in_progress else "completed"
    counted = {"status": status, "usage_bytes": tally.usage_bytes, "file_counts": _counts(tally)}
    return schemas.VectorStore.model_validate({**store._asdict(), **counted})


def shown_batch(tx: Tx, batch: Record) -> schemas.FileBatch:
    """A batch with how far it has come. It has failed if all of its files have."""
    tally = tx.vector_store_files.tally_of_batch(batch.id, tx.now)
    if tally.in_progress:
        status = "in_progress"
    elif batch.cancelled:
        status = "cancelled"
    else:
        status = "failed" if tally.failed and tally.failed == tally.total else "completed"
    counted = {"status": status, "file_counts": _counts(tally)}
    return schemas.FileBatch.model_validate({**batch._asdict(), **counted})


def _counts(tally: Tally) -> schemas.FileCounts:
    return schemas.FileCounts(
        in_progress=tally.in_progress,
        completed=tally.completed,
        failed=tally.failed,
        cancelled=tally.cancelled,
        total=tally.total,
    )
