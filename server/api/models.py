"""`/v1/models`: the configured models, and the names that stand for them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from server import errors, schemas
from server.api.deps import Caller, Server
from server.api.respond import wire
from server.runs.models import Model

router = APIRouter(prefix="/v1/models")

OWNER = "local"


@router.get("", operation_id="listModels", response_model=schemas.ModelList)
async def page(caller: Caller, server: Server) -> Response:
    names = server.catalog.names()
    data = [_shown(server, name, model) for name, model in names.items()]
    return wire(schemas.ModelList(data=data))


@router.get("/{model:path}", operation_id="retrieveModel", response_model=schemas.Model)
async def retrieve(model: str, caller: Caller, server: Server) -> Response:
    return wire(_shown(server, model, _require(server, model)))


@router.delete("/{model:path}", operation_id="deleteModel")
async def delete(model: str, caller: Caller, server: Server) -> Response:
    _require(server, model)
    raise errors.Forbidden(
        f"The model '{model}' belongs to this server's configuration and cannot be deleted.",
        "model",
    )


def _require(server: Server, name: str) -> Model:
    model = server.catalog.resolve(name)
    if model is None:
        raise errors.no_such_model(name)
    return model


def _shown(server: Server, name: str, model: Model) -> schemas.Model:
    standing = server.pool.standing(model.id)
    return schemas.Model(
        id=name,
        created=model.created,
        owned_by=OWNER,
        context_length=standing.context if model.local else model.chat.context,
        state=standing.state,
        error=standing.reason,
    )
