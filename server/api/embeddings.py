"""`/v1/embeddings`: texts to vectors, on a model that is loaded for it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from server import errors, schemas
from server.api.connection import Connected
from server.api.deps import Caller, Server
from server.api.respond import wire
from server.api.route import WireRoute
from server.engine.protocol import Embeddings, EngineError, EngineUnavailable, Unreadable
from server.engine.vectors import Vector, normalised, packed
from server.runs.local import LocalModel

MOST_TOKENS = 300_000  # of all texts of a request
PATIENCE = 600.0  # seconds to wait for the model: others may be using the memory

router = APIRouter(prefix="/v1/embeddings", route_class=WireRoute)


@router.post("", operation_id="createEmbedding", response_model=schemas.EmbeddingList)
async def create(
    body: schemas.CreateEmbedding, caller: Caller, server: Server, connection: Connected
) -> Response:
    found = await connection.unless_closed(_found(body, caller, server))
    return await asyncio.to_thread(_answer, found, body)


async def _found(body: schemas.CreateEmbedding, caller: Caller, server: Server) -> Embeddings:
    model_id, model = _require(server, body.model)
    try:
        async with server.pool.using(model_id, PATIENCE):
            _require(server, body.model)  # its file may have come, or become another, meanwhile
            charge = caller.allowance.charge
            return await model.embed(body.texts(), caller.project, MOST_TOKENS, charge)
    except Unreadable as problem:
        raise errors.InvalidRequest(str(problem), "input") from problem
    except EngineUnavailable as problem:
        raise errors.Unavailable(str(problem)) from problem
    except EngineError as problem:
        raise errors.ServerFault(str(problem)) from problem


def _answer(found: Embeddings, body: schemas.CreateEmbedding) -> Response:
    """In a thread of its own: there may be millions of numbers."""
    data = [_shown(index, vector, body) for index, vector in enumerate(found.vectors)]
    usage = schemas.EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens)
    return wire(schemas.EmbeddingList(data=data, model=body.model, usage=usage))


def _require(server: Server, name: str) -> tuple[str, LocalModel]:
    model = server.catalog.resolve(name)
    if model is None:
        raise errors.no_such_model(name)
    if model.ranks:
        raise errors.only_ranks(name)
    if model.local is None or (model.local.is_known and not model.embeds):
        raise errors.makes_no_embeddings(name)
    return model.id, model.local


def _shown(index: int, vector: Vector, body: schemas.CreateEmbedding) -> schemas.Embedding:
    if body.dimensions is not None:
        vector = _shortened(vector, body.dimensions)
    shown = packed(vector) if body.encoding_format == "base64" else vector.tolist()
    return schemas.Embedding(index=index, embedding=shown)


def _shortened(vector: Vector, dimensions: int) -> Vector:
    """Its first numbers, which carry most where a model was trained for it, at length 1 again."""
    if dimensions > len(vector):
        raise errors.InvalidRequest(
            f"The model's vectors have {len(vector)} dimensions, and not {dimensions}.",
            "dimensions",
        )
    return normalised(vector[:dimensions])
