"""`/v1/threads/{thread_id}/runs/{run_id}/steps`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import errors, schemas
from server.api.deps import Beta, Caller, Server
from server.api.pages import part_of
from server.api.respond import wire
from server.api.route import WireRoute
from server.db.database import Tx
from server.db.stores import Page, Record
from server.runs.conversation import require_run

router = APIRouter(
    prefix="/v1/threads/{thread_id}/runs/{run_id}/steps",
    route_class=WireRoute,
    dependencies=[Beta],
)


@router.get("", operation_id="listRunSteps", response_model=schemas.ListPage[schemas.RunStep])
async def page(
    thread_id: str,
    run_id: str,
    query: Annotated[schemas.StepsQuery, Query()],
    caller: Caller,
    server: Server,
) -> Response:
    found = await server.db.read(lambda tx: _page(tx, caller.project, thread_id, run_id, query))
    shown = [_shown(row, query) for row in found.rows]
    return wire(schemas.ListPage[schemas.RunStep].of(shown, found.has_more))


@router.get("/{step_id}", operation_id="getRunStep", response_model=schemas.RunStep)
async def retrieve(
    thread_id: str,
    run_id: str,
    step_id: str,
    query: Annotated[schemas.IncludeQuery, Query()],
    caller: Caller,
    server: Server,
) -> Response:
    row = await server.db.read(lambda tx: _step(tx, caller.project, thread_id, run_id, step_id))
    return wire(_shown(row, query))


def _shown(row: Record, query: schemas.IncludeQuery) -> schemas.RunStep:
    """A step as it is read: only an open one has a deadline, though its events all show it."""
    step = schemas.RunStep.from_row(row, with_content=query.with_content)
    return step if step.status == "in_progress" else step.model_copy(update={"expires_at": None})


def _page(tx: Tx, project: str, thread_id: str, run_id: str, query: schemas.StepsQuery) -> Page:
    require_run(tx, project, thread_id, run_id)
    return tx.steps.page(run_id, part_of(query))


def _step(tx: Tx, project: str, thread_id: str, run_id: str, step_id: str) -> Record:
    step = tx.steps.get(project, thread_id, run_id, step_id)
    if step is None:
        require_run(tx, project, thread_id, run_id)
        raise errors.no_such("run step", step_id)
    return step
