"""`/v1/threads`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import logs, schemas
from server.api.deps import Beta, Caller, Server
from server.api.once import Once
from server.api.pages import WITH_METADATA, MetadataOfThreads, part_of
from server.api.respond import listed, showing, wire
from server.api.route import WireRoute
from server.db.database import Tx
from server.db.stores import Record
from server.runs.conversation import create_thread, require_thread
from server.vector_stores.resources import require_resources

router = APIRouter(prefix="/v1/threads", route_class=WireRoute, dependencies=[Beta])


@router.post("", operation_id="createThread", response_model=schemas.Thread)
async def create(
    caller: Caller,
    once: Once,
    body: schemas.CreateThread = schemas.CreateThread(),  # noqa: B008 - frozen
) -> Response:
    return await once.answer(
        caller.project, lambda tx: create_thread(tx, caller.project, body), _begun
    )


@router.get(
    "",
    operation_id="listThreads",
    response_model=schemas.ListPage[schemas.Thread],
    openapi_extra=WITH_METADATA,
)
async def page(
    query: Annotated[schemas.ListQuery, Query()],
    caller: Caller,
    metadata: MetadataOfThreads,
    server: Server,
) -> Response:
    """An extension: the hosted API has no such list."""
    found = await server.db.read(
        lambda tx: tx.threads.of_project(caller.project, part_of(query), metadata)
    )
    return listed(schemas.Thread, found)


@router.get("/{thread_id}", operation_id="getThread", response_model=schemas.Thread)
async def retrieve(thread_id: str, caller: Caller, server: Server) -> Response:
    row = await server.db.read(lambda tx: require_thread(tx, caller.project, thread_id))
    return wire(schemas.Thread.from_row(row))


@router.post("/{thread_id}", operation_id="modifyThread", response_model=schemas.Thread)
async def modify(
    thread_id: str, body: schemas.ModifyThread, caller: Caller, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: _change(tx, caller.project, thread_id, body),
        showing(schemas.Thread),
    )


@router.delete("/{thread_id}", operation_id="deleteThread", response_model=schemas.ThreadDeleted)
async def delete(thread_id: str, caller: Caller, server: Server) -> Response:
    await server.db.write(lambda tx: server.lifecycle.delete_thread(tx, caller.project, thread_id))
    return wire(schemas.ThreadDeleted(id=thread_id))


def _begun(thread: Record) -> Response:
    logs.note(thread_id=thread.id)
    return wire(schemas.Thread.from_row(thread))


def _change(tx: Tx, project: str, thread_id: str, body: schemas.ModifyThread) -> Record:
    row = require_thread(tx, project, thread_id)
    require_resources(tx, project, body.tool_resources)
    changes = body.changes(row)
    return tx.threads.update(row.seq, changes) if changes else row
