"""Whether the server lives, whether it can work, and its metrics. Outside `/v1`.

Once there are keys, the metrics, which tell of all projects, are for whoever has one for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from itertools import product
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.deps import Caller, Server, Services
from server.api.respond import wire
from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull, Tx
from server.runs.state import ACTIVE

PATIENCE: Final = 2.0  # seconds that the database has for an answer
STUCK: Final = 60.0  # seconds for a commit: disks that are this slow do not come back
FRESH: Final = 1.0  # seconds for which what was found out is told again
LEAST_FREE: Final = 2**20  # bytes on the data folder's disk

router = APIRouter()

STATUS = {
    "type": "object",
    "properties": {"status": {"type": "string"}},
    "required": ["status"],
}
TOLD = {"content": {"application/json": {"schema": STATUS}}}
TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


class WriteProbe:
    """Whether the database can be written, found out by writing, once a second at most."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._known_until = 0.0
        self._problem: str | None = None

    async def problem(self, db: Database) -> str | None:
        """Why it cannot; None: it can."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if loop.time() >= self._known_until:
                self._problem = await _write_problem(db)
                self._known_until = loop.time() + FRESH
            return self._problem


@router.get(
    "/healthz",
    operation_id="liveness",
    responses={200: TOLD, 503: {"description": "Failing", **TOLD}},
)
@router.head("/healthz", include_in_schema=False)
async def liveness(server: Server) -> Response:
    """The loop turns, or nobody would answer; so does what works behind it. 503 names what not."""
    found = {
        "database": server.db.problem(STUCK),
        "runs": server.executor.problem,
        "ingestion": server.ingestor.problem,
    }
    problems = {part: problem for part, problem in found.items() if problem is not None}
    if problems:
        return wire({"status": "failing", **problems}, 503)
    return wire({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="readiness",
    responses={200: TOLD, 503: {"description": "Starting, not ready, or stopping", **TOLD}},
)
@router.head("/readyz", include_in_schema=False)
async def readiness(request: Request, server: Server) -> Response:
    """200 while runs are taken; 503 from the moment the server begins to stop.

    Each part that does not work says why. Where code cannot be run, or a model is being loaded
    again, all else works, and so does the server.
    """
    state = request.app.state
    if not state.ready:
        return wire({"status": "stopping"}, 503)
    default = server.pool.standing(server.catalog.default)
    found = {
        "database": await state.write_probe.problem(server.db),
        "disk": _disk_problem(server),
        "model": default.reason,
        "code_interpreter": server.sandbox.problem,
    }
    problems = {part: problem for part, problem in found.items() if problem is not None}
    lacks = found["database"] or found["disk"] or default.state == "failed"
    return wire({"status": "not ready" if lacks else "ready", **problems}, 503 if lacks else 200)


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


async def _write_problem(db: Database) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE):
            await db.write(Tx.touch)
    except TimeoutError:
        return f"It has not answered for {PATIENCE:g} seconds."
    except DatabaseBusy:
        return "Another process holds it."
    except DatabaseFull:
        return "It is full."
    except DatabaseClosed:
        return "It is closed."
    except sqlite3.Error as error:
        return f"It cannot be written: {error}."
    return None


def _disk_problem(server: Services) -> str | None:
    free = shutil.disk_usage(server.folder).free
    return None if free >= LEAST_FREE else f"It has {free:,} bytes left."
