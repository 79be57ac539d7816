"""What objects name for their tools: that it exists, and vector stores that are made on the way.

Each verb is part of the unit of work in which the assistant, thread or message is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from server import errors, schemas
from server.db.database import Tx
from server.db.stores import Record
from server.schemas import JsonObject
from server.vector_stores.rows import (
    NewFile,
    add_files,
    alike,
    create_store,
    is_over,
    require_files,
    require_store,
)

OF_THREAD = schemas.StoreExpiry(anchor="last_active_at", days=7)
MOST_CODE_FILES = 20
_LISTS = {"file_search": "vector_store_ids", "code_interpreter": "file_ids"}  # by tool


def require_resources(tx: Tx, project: str, wanted: schemas.ToolResources | None) -> None:
    """Raises no_such_file, no_such_vector_store for what is named and is not there."""
    if wanted is not None and wanted.code_interpreter is not None:
        param = "tool_resources.code_interpreter.file_ids"
        require_files(tx, project, wanted.code_interpreter.file_ids or (), param)
    if wanted is not None and wanted.file_search is not None:
        for store_id in wanted.file_search.vector_store_ids or ():
            require_store(tx, project, store_id)


def provided(
    tx: Tx,
    project: str,
    wanted: schemas.NewToolResources | None,
    stored: JsonObject,
    expires_after: schemas.StoreExpiry | None = None,
) -> JsonObject:
    """The resources of a new object: as `stored`, but with the stores that it wants made.

    These expire as told. Raises no_such_file, no_such_vector_store, not_for_retrieval.
    """
    require_resources(tx, project, wanted)
    stores = wanted.new_stores() if wanted is not None else ()
    for new in stores:
        # Before anything is made of them: there may be any number.
        require_files(tx, project, new.file_ids or (), "file_ids")
    made = [
        create_store(
            tx,
            project,
            alike(new.file_ids, new.chunking_strategy),
            expires_after=expires_after,
            metadata=new.metadata,
        ).id
        for new in stores
    ]
    return {**stored, "file_search": {"vector_store_ids": made}} if made else stored


def require_images(tx: Tx, project: str, messages: Sequence[schemas.CreateMessage]) -> None:
    """Raises no_such_file for an image that new messages show and that is not there."""
    if images := [file_id for message in messages for file_id in message.images]:
        require_files(tx, project, images, "content")


def attach(tx: Tx, project: str, thread_id: str, messages: Sequence[schemas.CreateMessage]) -> None:
    """Give what is attached to a thread's new messages to its tools.

    Raises no_such_file, not_for_retrieval, too_many_files_of_thread.
    """
    attached = [each for message in messages for each in message.attachments or ()]
    if not attached:
        return
    require_files(tx, project, [each.file_id for each in attached], "attachments")
    thread = tx.threads.get(project, thread_id)
    assert thread is not None, "whoever adds messages has looked for it"
    changes: JsonObject = {}
    if for_code := _attached_for(attached, "code_interpreter"):
        changes["code_interpreter"] = {"file_ids": _with_code_files(thread, for_code)}
    if for_search := _attached_for(attached, "file_search"):
        store = _store_of(tx, thread)
        add_files(tx, store, [NewFile(file_id=file_id) for file_id in for_search])
        changes["file_search"] = {"vector_store_ids": [store.id]}
    resources = schemas.merge_resources((), thread.tool_resources, changes)
    if resources != thread.tool_resources:
        tx.threads.update(thread.seq, {"tool_resources": resources})


def at_hand(
    tool: str, run: Record, assistant: Record | None, thread: Record | None
) -> tuple[Sequence[str], Sequence[str]]:
    """What a tool of a run works with: the run's own or else its assistant's; and its thread's.

    Ids, of vector stores or of files.
    """
    return _ids_of(run, tool) or _ids_of(assistant, tool), _ids_of(thread, tool)


def note_use(tx: Tx, run: Record, assistant: Record) -> None:
    """The vector stores that a new run can search are in use: they expire later."""
    if any(tool["type"] == "file_search" for tool in run.tools):
        thread = tx.threads.by_id(run.thread_id)
        shared, own = at_hand("file_search", run, assistant, thread)
        tx.vector_stores.touch(run.project_id, [*shared, *own], tx.now)


def _ids_of(owner: Record | None, tool: str) -> Sequence[str]:
    """Those that the owner's resources have for a tool."""
    if owner is None:
        return ()
    ids: Sequence[str] = owner.tool_resources.get(tool, {}).get(_LISTS[tool], ())
    return ids


def _attached_for(attached: Sequence[schemas.Attachment], tool: str) -> list[str]:
    return [each.file_id for each in attached if any(one.type == tool for one in each.tools)]


def _with_code_files(thread: Record, more: Sequence[str]) -> list[str]:
    before = _ids_of(thread, "code_interpreter")
    file_ids = list(dict.fromkeys([*before, *more]))
    if len(file_ids) > MOST_CODE_FILES:
        raise errors.too_many_files_of_thread(MOST_CODE_FILES)
    return file_ids


def _store_of(tx: Tx, thread: Record) -> Record:
    """The thread's own store, or a new one where it has none or its time is over."""
    for store_id in _ids_of(thread, "file_search"):
        store = tx.vector_stores.get(thread.project_id, store_id)
        if store is not None and not is_over(tx, store):
            return store
    return create_store(tx, thread.project_id, expires_after=OF_THREAD)
