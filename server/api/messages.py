"""`/v1/threads/{thread_id}/messages`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import schemas
from server.api.busy import Busy
from server.api.deps import Beta, Caller, Server
from server.api.once import Once
from server.api.pages import part_of
from server.api.respond import listed, showing, wire
from server.api.route import WireRoute
from server.db.database import Tx
from server.db.stores import Page, Record
from server.runs.conversation import require_message, require_thread

router = APIRouter(
    prefix="/v1/threads/{thread_id}/messages", route_class=WireRoute, dependencies=[Beta]
)


@router.post("", operation_id="createMessage", response_model=schemas.Message)
async def create(
    thread_id: str,
    body: schemas.CreateMessage,
    caller: Caller,
    server: Server,
    once: Once,
    busy: Busy,
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: server.lifecycle.add_message(
            tx, caller.project, thread_id, body, once.attempt, busy
        ),
        showing(schemas.Message),
    )


@router.get("", operation_id="listMessages", response_model=schemas.ListPage[schemas.Message])
async def page(
    thread_id: str,
    query: Annotated[schemas.MessagesQuery, Query()],
    caller: Caller,
    server: Server,
) -> Response:
    found = await server.db.read(lambda tx: _page(tx, caller.project, thread_id, query))
    return listed(schemas.Message, found)


@router.get("/{message_id}", operation_id="getMessage", response_model=schemas.Message)
async def retrieve(thread_id: str, message_id: str, caller: Caller, server: Server) -> Response:
    row = await server.db.read(
        lambda tx: require_message(tx, caller.project, thread_id, message_id)
    )
    return wire(schemas.Message.from_row(row))


@router.post("/{message_id}", operation_id="modifyMessage", response_model=schemas.Message)
async def modify(
    thread_id: str, message_id: str, body: schemas.ModifyMessage, caller: Caller, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: _change(tx, caller.project, thread_id, message_id, body),
        showing(schemas.Message),
    )


@router.delete("/{message_id}", operation_id="deleteMessage", response_model=schemas.MessageDeleted)
async def delete(thread_id: str, message_id: str, caller: Caller, server: Server) -> Response:
    await server.db.write(
        lambda tx: tx.messages.bury(require_message(tx, caller.project, thread_id, message_id))
    )
    return wire(schemas.MessageDeleted(id=message_id))


def _page(tx: Tx, project: str, thread_id: str, query: schemas.MessagesQuery) -> Page:
    require_thread(tx, project, thread_id)
    return tx.messages.shown(thread_id, part_of(query), query.run_id)


def _change(
    tx: Tx, project: str, thread_id: str, message_id: str, body: schemas.ModifyMessage
) -> Record:
    row = require_message(tx, project, thread_id, message_id)
    changes = body.changes()
    return tx.messages.update(row.seq, changes) if changes else row
