"""`/v1/threads/runs` and `/v1/threads/{thread_id}/runs`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from server import errors, logs, schemas
from server.api.busy import Busy
from server.api.deps import Beta, Caller, Server, Services
from server.api.once import REPLAYED, Answer, Once, Streamed
from server.api.pages import WITH_METADATA, MetadataOfRuns, part_of
from server.api.respond import POLL_AFTER, listed, showing
from server.api.route import WireRoute
from server.api.sse import event_stream
from server.db.database import Tx
from server.db.stores import Page, Record
from server.runs.conversation import require_run, require_thread
from server.runs.events import EventsAhead, EventsGone
from server.runs.replay import Marked, rebuilt

show = showing(schemas.Run, POLL_AFTER)
router = APIRouter(prefix="/v1/threads", route_class=WireRoute, dependencies=[Beta])


@router.post("/runs", operation_id="createThreadAndRun", response_model=schemas.Run)
async def create_with_thread(
    body: schemas.CreateThreadAndRun, caller: Caller, server: Server, once: Once
) -> Response:
    answer = await once.answer_or_stream(
        caller.project,
        lambda tx: server.lifecycle.create_with_thread(tx, caller.project, body, caller.allowance),
        lambda run: _begun(run, body.stream),
    )
    return await _whole(server, answer)


@router.get(
    "/runs",
    operation_id="listRunsOfAllThreads",
    response_model=schemas.ListPage[schemas.Run],
    openapi_extra=WITH_METADATA,
)
async def page_of_all(
    query: Annotated[schemas.RunsQuery, Query()],
    caller: Caller,
    metadata: MetadataOfRuns,
    server: Server,
) -> Response:
    """An extension: the hosted API lists the runs of one thread."""
    found = await server.db.read(
        lambda tx: tx.runs.of_project(caller.project, part_of(query), metadata, query.status)
    )
    return listed(schemas.Run, found)


@router.post("/{thread_id}/runs", operation_id="createRun", response_model=schemas.Run)
async def create(
    thread_id: str,
    body: schemas.CreateRun,
    query: Annotated[schemas.IncludeQuery, Query()],
    caller: Caller,
    server: Server,
    once: Once,
    busy: Busy,
) -> Response:
    answer = await once.answer_or_stream(
        caller.project,
        lambda tx: server.lifecycle.create(
            tx,
            caller.project,
            thread_id,
            body,
            caller.allowance,
            once.attempt,
            busy,
            shows_results=query.with_content,
        ),
        lambda run: _begun(run, body.stream),
    )
    return await _whole(server, answer)


@router.get(
    "/{thread_id}/runs", operation_id="listRuns", response_model=schemas.ListPage[schemas.Run]
)
async def page(
    thread_id: str, query: Annotated[schemas.ListQuery, Query()], caller: Caller, server: Server
) -> Response:
    found = await server.db.read(lambda tx: _page(tx, caller.project, thread_id, query))
    return listed(schemas.Run, found)


@router.get("/{thread_id}/runs/{run_id}", operation_id="getRun", response_model=schemas.Run)
async def retrieve(thread_id: str, run_id: str, caller: Caller, server: Server) -> Response:
    return show(await server.db.read(lambda tx: require_run(tx, caller.project, thread_id, run_id)))


@router.post("/{thread_id}/runs/{run_id}", operation_id="modifyRun", response_model=schemas.Run)
async def modify(
    thread_id: str, run_id: str, body: schemas.ModifyRun, caller: Caller, once: Once
) -> Response:
    return await once.answer(
        caller.project, lambda tx: _change(tx, caller.project, thread_id, run_id, body), show
    )


@router.post(
    "/{thread_id}/runs/{run_id}/cancel", operation_id="cancelRun", response_model=schemas.Run
)
async def cancel(
    thread_id: str, run_id: str, caller: Caller, server: Server, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: server.lifecycle.cancel(tx, caller.project, thread_id, run_id, once.attempt),
        show,
    )


@router.post(
    "/{thread_id}/runs/{run_id}/submit_tool_outputs",
    operation_id="submitToolOuputsToRun",  # the hosted API's own spelling
    response_model=schemas.Run,
)
async def submit_tool_outputs(
    thread_id: str,
    run_id: str,
    body: schemas.SubmitToolOutputs,
    caller: Caller,
    server: Server,
    once: Once,
) -> Response:
    answer = await once.answer_or_stream(
        caller.project,
        lambda tx: server.lifecycle.submit_outputs(
            tx, caller.project, thread_id, run_id, body, once.attempt
        ),
        lambda resumed: Streamed(resumed.step_id) if body.stream else show(resumed.run),
    )
    return await _whole(server, answer, run_id)


@router.get(
    "/{thread_id}/runs/{run_id}/events",
    operation_id="streamRunEvents",
    response_class=Response,
)
async def events(
    thread_id: str,
    run_id: str,
    caller: Caller,
    server: Server,
    starting_after: Annotated[int | None, Query(ge=0), schemas.PLAIN_INTEGER] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The run's events after a number, then live ones. An extension: the hosted API has none."""
    await server.db.read(lambda tx: require_run(tx, caller.project, thread_id, run_id))
    after = _starting_point(starting_after, last_event_id)
    if after == 0:
        await _hold(server, run_id)
    try:
        subscription = server.bus.subscribe(run_id, after, past_pauses=True)
    except EventsGone:
        raise errors.events_expired(run_id) from None
    except EventsAhead as ahead:
        raise _no_such_event(run_id, after, ahead.last) from None
    return event_stream(subscription, numbered=True)


def _begun(run: Record, stream: bool | None) -> Answer:
    """The answer to what has made a run."""
    logs.note(thread_id=run.thread_id, run_id=run.id)
    return Streamed(run.id) if stream else show(run)


async def _whole(server: Services, answer: Answer, resumed: str | None = None) -> Response:
    """A stream is of a new run, or of the run that was `resumed` by the end of a step of its."""
    if isinstance(answer, Response):
        return answer
    run_id = answer.object_id if resumed is None else resumed
    if answer.replayed:
        await server.db.read(lambda tx: _require_there(tx, run_id))
    await _hold(server, run_id)
    after = server.bus.noted(run_id, answer.object_id)
    stream = event_stream(server.bus.subscribe(run_id, after))
    stream.headers.update(REPLAYED if answer.replayed else {})
    return stream


async def _hold(server: Services, run_id: str) -> None:
    """Have the bus hold the run's events; what it has no more is rebuilt. Raises no_such."""
    if not server.bus.holds(run_id):
        server.bus.seed(run_id, await server.db.read(lambda tx: _rebuilt(tx, run_id)))


def _rebuilt(tx: Tx, run_id: str) -> list[Marked]:
    return rebuilt(tx, _require_there(tx, run_id))


def _require_there(tx: Tx, run_id: str) -> Record:
    """The run, which may have been deleted with its thread while its events are still held."""
    run = tx.runs.by_id(run_id)
    if run is None:
        raise errors.no_such("run", run_id)
    return run


def _page(tx: Tx, project: str, thread_id: str, query: schemas.ListQuery) -> Page:
    require_thread(tx, project, thread_id)
    return tx.runs.page(thread_id, part_of(query))


def _change(tx: Tx, project: str, thread_id: str, run_id: str, body: schemas.ModifyRun) -> Record:
    row = require_run(tx, project, thread_id, run_id)
    changes = body.changes()
    return tx.runs.update(row.seq, changes) if changes else row


def _no_such_event(run_id: str, number: int, last: int) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"Run {run_id} has no event {number}: its newest event so far is number {last}.",
        "starting_after",
    )


def _starting_point(starting_after: int | None, last_event_id: str | None) -> int:
    """The query's number; else the header that a browser sends when it reconnects."""
    if starting_after is not None:
        return starting_after
    if last_event_id is None:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        raise errors.InvalidRequest(
            "Invalid 'Last-Event-ID': expected the number of an event.", "Last-Event-ID"
        )
    return int(last_event_id)
