"""The events of a run, rebuilt out of its rows: the same order, with one delta for each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from server import schemas
from server.db.database import Tx
from server.db.stores import Record
from server.runs.announce import mark_of
from server.runs.deltas import MessageDeltas, StepDeltas
from server.runs.events import Mark, encode
from server.tools.toolbox import KINDS

Marked = tuple[bytes, Mark]

_AT_START: dict[str, Any] = {
    "status": "queued",
    "started_at": None,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": None,
    "required_action": None,
    "last_error": None,
    "incomplete_details": None,
    "usage": None,
}


def rebuilt(tx: Tx, run: Record) -> list[Marked]:
    """All events up to the run's present state. What is open has begun, and nothing more."""
    messages = {row.id: row for row in tx.messages.of_run(run.id)}
    steps = tx.steps.of_run(run.id)
    thread = tx.threads.get(run.project_id, run.thread_id) if run.with_thread else None
    events = [*_thread(thread), *_beginning(run, steps)]
    for step in steps:
        told = _step(step, messages, with_content=run.shows_results)
        events += [(event, Mark.NONE) for event in told]
    return [*events, *_state(run)]


def _thread(thread: Record | None) -> Iterator[Marked]:
    if thread is not None:
        yield _event("thread.created", schemas.Thread.from_row(thread))


def _beginning(run: Record, steps: Sequence[Record]) -> Iterator[Marked]:
    """A run that has ended has its deadline no more, but its steps have it."""
    deadline = steps[0].expires_at if steps else run.expires_at
    model = schemas.Run.from_row(run)
    queued = model.model_copy(update={**_AT_START, "expires_at": deadline})
    yield _event("thread.run.created", queued)
    yield _event("thread.run.queued", queued)
    if run.started_at is not None:
        started = {"status": "in_progress", "started_at": run.started_at}
        yield _event("thread.run.in_progress", queued.model_copy(update=started))


def _state(run: Record) -> Iterator[Marked]:
    """The event that announced the present state, unless the beginning has it."""
    if run.status == "in_progress" or (run.status == "queued" and run.started_at is None):
        return
    yield _event(f"thread.run.{run.status}", schemas.Run.from_row(run), mark_of(run.status))


def _step(step: Record, messages: dict[str, Record], *, with_content: bool) -> Iterator[bytes]:
    final = schemas.RunStep.from_row(step, with_content=with_content)
    details: dict[str, Any] = dict(step.step_details)
    if step.type == "tool_calls":
        details["tool_calls"] = []
    opened = final.model_copy(
        update={
            "status": "in_progress",
            "completed_at": None,
            "failed_at": None,
            "cancelled_at": None,
            "expired_at": None,
            "last_error": None,
            "usage": None,
            "step_details": details,
        }
    )
    yield _event("thread.run.step.created", opened)[0]
    yield _event("thread.run.step.in_progress", opened)[0]
    yield from _calls(step) if step.type == "tool_calls" else _message(step, messages)
    if step.status != "in_progress":
        yield _event(f"thread.run.step.{step.status}", final)[0]


def _calls(step: Record) -> Iterator[bytes]:
    deltas = StepDeltas(step.id)
    for index, call in enumerate(step.step_details["tool_calls"]):
        kind = KINDS.get(call["type"])
        for told in _function(call) if kind is None else kind.told(call):
            yield deltas.call(index, told)


def _function(call: schemas.JsonObject) -> Iterator[schemas.JsonObject]:
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    yield {**call, "function": {"name": name, "arguments": "", "output": None}}
    yield {"type": "function", "function": {"arguments": arguments}}


def _message(step: Record, messages: dict[str, Record]) -> Iterator[bytes]:
    """A message that was deleted since is left out."""
    row = messages.get(step.step_details["message_creation"]["message_id"])
    if row is None:
        return
    content = row.content
    if not content and row.status != "in_progress":  # of an earlier version, if it broke off there
        content = [schemas.text_part("")]
    final = schemas.Message.from_row(row).model_copy(update={"content": content})
    at_start: dict[str, Any] = {
        "status": "in_progress",
        "content": [],
        "completed_at": None,
        "incomplete_at": None,
        "incomplete_details": None,
    }
    opened = final.model_copy(update=at_start)
    yield _event("thread.message.created", opened)[0]
    yield _event("thread.message.in_progress", opened)[0]
    figures = [part["image_file"] for part in content if part["type"] == "image_file"]
    deltas = MessageDeltas(row.id, len(figures))
    for index, figure in enumerate(figures):
        yield deltas.figure(index, figure["file_id"])
    for part in content[len(figures) :]:
        text = part["text"]
        yield deltas.annotated(text["value"], text["annotations"], 0)
    if row.status != "in_progress":
        yield _event(f"thread.message.{row.status}", final)[0]


def _event(name: str, model: BaseModel, mark: Mark = Mark.NONE) -> Marked:
    return encode(name, schemas.compact(model)), mark
