"""Facts to events: a committed row becomes the event that announces it, never before the commit."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel

from server import schemas
from server.db.database import Tx
from server.db.stores import Record
from server.runs.events import EventBus, Mark, encode
from server.runs.state import TERMINAL
from server.schemas import RunStatus


class Announcer:
    """Registers events with a transaction. A row is encoded at once: it may change later in it."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def thread(self, tx: Tx, row: Record, run_id: str) -> None:
        self._tell(tx, run_id, "thread.created", schemas.Thread.from_row(row))

    def run(self, tx: Tx, row: Record, what: str | None = None) -> None:
        """`thread.run.<what>`, by default the status of the row."""
        name = f"thread.run.{what or row.status}"
        self._tell(tx, row.id, name, schemas.Run.from_row(row), mark_of(row.status))

    def step(self, tx: Tx, row: Record, what: str | None = None) -> None:
        name = f"thread.run.step.{what or row.status}"
        self._tell(tx, row.run_id, name, schemas.RunStep.from_row(row))

    def message(self, tx: Tx, row: Record, what: str | None = None) -> None:
        name = f"thread.message.{what or row.status}"
        self._tell(tx, row.run_id, name, schemas.Message.from_row(row))

    def lost_message(self, tx: Tx, row: Record, changes: dict[str, Any]) -> None:
        """How an open message that was deleted would have been closed: streams wait for it."""
        closed = schemas.Message.from_row(row).model_copy(update=changes)
        self._tell(tx, row.run_id, f"thread.message.{closed.status}", closed)

    def _tell(
        self, tx: Tx, run_id: str, name: str, model: BaseModel, mark: Mark = Mark.NONE
    ) -> None:
        event = encode(name, schemas.compact(model))
        tx.after_commit(partial(self._bus.publish, run_id, event, mark))


def mark_of(status: RunStatus) -> Mark:
    """What the event that announces a run's status means to its streams."""
    if status == "requires_action":
        return Mark.PAUSE
    return Mark.END if status in TERMINAL else Mark.NONE
