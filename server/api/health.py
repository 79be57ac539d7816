"""Whether the server lives, whether it can work, and its metrics. Outside `/v1`.

Once there are keys, the metrics, which tell of all projects, are for whoever has one for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import product
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.deps import Caller, Server
from server.api.respond import wire
from server.db.database import DatabaseBusy, DatabaseClosed
from server.runs.state import ACTIVE

PATIENCE: Final = 1.0  # seconds

router = APIRouter()

STATUS = {
    "type": "object",
    "properties": {"status": {"type": "string"}},
    "required": ["status"],
}
TOLD = {"content": {"application/json": {"schema": STATUS}}}
TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/healthz", operation_id="liveness", responses={200: TOLD})
@router.head("/healthz", include_in_schema=False)
async def liveness() -> Response:
    """The process answers."""
    return wire({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="readiness",
    responses={200: TOLD, 503: {"description": "Stopping", **TOLD}},
)
@router.head("/readyz", include_in_schema=False)
async def readiness(request: Request, server: Server) -> Response:
    """200 while runs are taken; 503 from the moment the server begins to stop.

    Where no code can be run, it says why; all else works then.
    """
    said = {"status": "ready" if request.app.state.ready else "stopping"}
    if server.sandbox.problem is not None:
        said["code_interpreter"] = server.sandbox.problem
    return wire(said, 200 if request.app.state.ready else 503)


@router.get("/metrics", operation_id="metrics", response_class=Response, responses={200: TEXT})
async def metrics(caller: Caller, server: Server) -> Response:
    """Prometheus text. What is in the database is left out while that does not answer."""
    with contextlib.suppress(TimeoutError, DatabaseBusy, DatabaseClosed):
        async with asyncio.timeout(PATIENCE):
            runs, files = await server.db.read(
                lambda tx: (tx.runs.count_active(), tx.vector_store_files.count_waiting())
            )
        none = dict.fromkeys(product(server.catalog.models, map(str, ACTIVE)), 0)
        server.metrics.stored({**none, **runs}, files)
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")
