"""Facts to events: a committed row becomes the event that announces it, never before the commit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from server import schemas
from server.db.database import Tx
from server.db.stores import Record
from server.runs.deltas import MessageDeltas
from server.runs.events import EventBus, Mark, encode
from server.runs.state import TERMINAL
from server.schemas import RunStatus


class Announcer:
    """Registers events with a transaction. A row is encoded at once: it may change later in it.

    An event is named by what it is about and that one's status; a new one is also said to be
    created, before that.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def thread(self, tx: Tx, row: Record, run_id: str) -> None:
        self._tell(tx, run_id, ["thread.created"], schemas.Thread.from_row(row))

    def run(self, tx: Tx, row: Record, *, new: bool = False) -> None:
        names = _names("thread.run", row.status, new=new)
        self._tell(tx, row.id, names, schemas.Run.from_row(row), mark_of(row.status))

    def step(self, tx: Tx, row: Record, *, new: bool = False, with_content: bool = False) -> None:
        names = _names("thread.run.step", row.status, new=new)
        step = schemas.RunStep.from_row(row, with_content=with_content)
        self._tell(tx, row.run_id, names, step)

    def message(self, tx: Tx, row: Record, *, new: bool = False) -> None:
        names = _names("thread.message", row.status, new=new)
        self._tell(tx, row.run_id, names, schemas.Message.from_row(row))

    def no_words(self, tx: Tx, row: Record) -> None:
        """That a message, of which nothing was told, has an empty text.

        OpenAI's Python helper fails at one that ends without any part: it looks for the part that
        it read of last, which may have been another message's.
        """
        told = MessageDeltas(row.id).text("")
        tx.after_commit(partial(self._bus.publish, row.run_id, told))

    def lost_message(self, tx: Tx, row: Record, changes: dict[str, Any]) -> None:
        """How an open message that was deleted would have been closed: streams wait for it."""
        closed = schemas.Message.from_row(row).model_copy(update=changes)
        self._tell(tx, row.run_id, [f"thread.message.{closed.status}"], closed)

    def _tell(
        self, tx: Tx, run_id: str, names: Sequence[str], model: BaseModel, mark: Mark = Mark.NONE
    ) -> None:
        data = schemas.compact(model)
        for name in names:
            tx.after_commit(partial(self._bus.publish, run_id, encode(name, data), mark))


def _names(about: str, status: str, *, new: bool) -> list[str]:
    return [f"{about}.created", f"{about}.{status}"] if new else [f"{about}.{status}"]


def mark_of(status: RunStatus) -> Mark:
    """What the event that announces a run's status means to its streams."""
    if status == "requires_action":
        return Mark.PAUSE
    return Mark.END if status in TERMINAL else Mark.NONE
