"""Threads and their messages: what there is, and what is added to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from server import errors, schemas
from server.db.database import Tx
from server.db.stores import Record
from server.vector_stores.resources import OF_THREAD, attach, provided, require_images


def create_thread(tx: Tx, project: str, body: schemas.CreateThread) -> Record:
    """A thread with its first messages and a vector store if it wants one, all or none.

    Raises no_such_file, no_such_vector_store, not_for_retrieval, too_many_files_of_thread.
    """
    columns = body.stored()
    resources = provided(tx, project, body.tool_resources, columns["tool_resources"], OF_THREAD)
    ident = {"id": tx.ids.new("thread"), "project_id": project, "created_at": tx.now}
    thread = tx.threads.insert({**ident, **columns, "tool_resources": resources})
    insert_messages(tx, project, thread.id, body.messages or (), NEW)
    return require_thread(tx, project, thread.id)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a thread something is added: after its newest run's `seq`, or 0; and if it waits."""

    after_run: int = 0
    held: bool = False


NEW: Final = Place()


def insert_message(
    tx: Tx,
    project: str,
    thread_id: str,
    body: schemas.CreateMessage,
    place: Place,
    request_hash: str | None,
) -> Record:
    """Append one message of the caller's, as `insert_messages`."""
    require_images(tx, project, [body])
    attach(tx, project, thread_id, [body])
    row = _message(tx, project, thread_id, body, place)
    return tx.messages.insert({**row, "request_hash": request_hash})


def insert_messages(
    tx: Tx,
    project: str,
    thread_id: str,
    bodies: Sequence[schemas.CreateMessage],
    place: Place,
) -> None:
    """Append messages of the caller's; whether the thread takes them was asked before.

    Raises no_such_file, not_for_retrieval, too_many_files_of_thread.
    """
    require_images(tx, project, bodies)
    attach(tx, project, thread_id, bodies)
    tx.messages.insert_all([_message(tx, project, thread_id, body, place) for body in bodies])


def _message(
    tx: Tx, project: str, thread_id: str, body: schemas.CreateMessage, place: Place
) -> dict[str, object]:
    """The row of a caller's message: complete at once, of no run."""
    return {
        "id": tx.ids.new("msg"),
        "project_id": project,
        "thread_id": thread_id,
        "created_at": tx.now,
        "assistant_id": None,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": tx.now,
        "after_run": place.after_run,
        "held": place.held,
        **body.stored(),
    }


def require_thread(tx: Tx, project: str, thread_id: str) -> Record:
    thread = tx.threads.get(project, thread_id)
    if thread is None:
        raise errors.no_such("thread", thread_id)
    return thread


def require_message(tx: Tx, project: str, thread_id: str, message_id: str) -> Record:
    message = tx.messages.get(project, thread_id, message_id)
    if message is None:
        require_thread(tx, project, thread_id)
        raise errors.no_such("message", message_id)
    return message


def require_run(tx: Tx, project: str, thread_id: str, run_id: str) -> Record:
    run = tx.runs.get(project, thread_id, run_id)
    if run is None:
        require_thread(tx, project, thread_id)
        raise errors.no_such("run", run_id)
    return run


def require_assistant(tx: Tx, project: str, assistant_id: str) -> Record:
    assistant = tx.assistants.get(project, assistant_id)
    if assistant is None:
        raise errors.no_such("assistant", assistant_id)
    return assistant


def delete_thread(tx: Tx, project: str, thread_id: str) -> Record:
    """Delete a thread with all in it, also while a run is active. Returns the row as it was."""
    thread = require_thread(tx, project, thread_id)
    tx.threads.bury(thread)
    return thread
