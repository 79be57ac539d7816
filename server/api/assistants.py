"""`/v1/assistants`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import errors, schemas
from server.api.deps import Beta, Caller, Server
from server.api.once import Once
from server.api.pages import part_of
from server.api.respond import listed, showing, wire
from server.api.route import WireRoute
from server.db.database import Tx
from server.db.stores import Record
from server.runs.conversation import require_assistant
from server.runs.models import Catalog
from server.vector_stores.resources import provided, require_resources

router = APIRouter(prefix="/v1/assistants", route_class=WireRoute, dependencies=[Beta])


@router.post("", operation_id="createAssistant", response_model=schemas.Assistant)
async def create(
    body: schemas.CreateAssistant, caller: Caller, server: Server, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: _insert(tx, caller.project, server.catalog, body),
        showing(schemas.Assistant),
    )


@router.get("", operation_id="listAssistants", response_model=schemas.ListPage[schemas.Assistant])
async def page(
    query: Annotated[schemas.ListQuery, Query()], caller: Caller, server: Server
) -> Response:
    part = part_of(query)
    found = await server.db.read(lambda tx: tx.assistants.page(caller.project, part))
    return listed(schemas.Assistant, found)


@router.get("/{assistant_id}", operation_id="getAssistant", response_model=schemas.Assistant)
async def retrieve(assistant_id: str, caller: Caller, server: Server) -> Response:
    row = await server.db.read(lambda tx: require_assistant(tx, caller.project, assistant_id))
    return wire(schemas.Assistant.from_row(row))


@router.post("/{assistant_id}", operation_id="modifyAssistant", response_model=schemas.Assistant)
async def modify(
    assistant_id: str, body: schemas.ModifyAssistant, caller: Caller, server: Server, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: _change(tx, caller.project, server.catalog, assistant_id, body),
        showing(schemas.Assistant),
    )


@router.delete(
    "/{assistant_id}", operation_id="deleteAssistant", response_model=schemas.AssistantDeleted
)
async def delete(assistant_id: str, caller: Caller, server: Server) -> Response:
    await server.db.write(
        lambda tx: tx.assistants.bury(require_assistant(tx, caller.project, assistant_id))
    )
    return wire(schemas.AssistantDeleted(id=assistant_id))


def _insert(tx: Tx, project: str, catalog: Catalog, body: schemas.CreateAssistant) -> Record:
    _require_model(catalog, body.model)
    ident = {"id": tx.ids.new("asst"), "project_id": project, "created_at": tx.now}
    columns = body.stored()
    resources = provided(tx, project, body.tool_resources, columns["tool_resources"])
    return tx.assistants.insert({**ident, **columns, "tool_resources": resources})


def _change(
    tx: Tx, project: str, catalog: Catalog, assistant_id: str, body: schemas.ModifyAssistant
) -> Record:
    if body.given("model"):
        _require_model(catalog, body.model)
    row = require_assistant(tx, project, assistant_id)
    require_resources(tx, project, body.tool_resources)
    changes = body.changes(row)
    return tx.assistants.update(row.seq, changes) if changes else row


def _require_model(catalog: Catalog, name: str) -> None:
    if catalog.resolve(name) is None:
        raise errors.model_not_found(name)
