"""The queries, one store a table; a query's name is its sentence. Core statements, no objects.

Every look-up by a caller carries the project, so that a foreign id is as unknown as a made-up one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from server.db import tables
from server.db.tables import ACTIVE, core

Record = Row[Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list that is wanted: `after` and `before` are ids, in the order asked for."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order asked for, and whether more follow in the direction of paging."""

    rows: Sequence[Record]
    has_more: bool


class UnknownCursor(Exception):
    """`after` or `before` names nothing in the list."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.object_id = object_id


class Store:
    """One table. `parent` is the column that selects a list: a project, a thread or a run."""

    table: Table
    parent: str

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def insert(self, values: Values) -> Record:
        """Add a row and return it, with its `seq`."""
        return self.connection.execute(insert(self.table).returning(self.table), values).one()

    def by_id(self, object_id: str) -> Record | None:
        """Whoever owns it; for code that was not called by a client."""
        return self.first(self.table.c.id == object_id)

    def first(self, *where: ColumnElement[bool]) -> Record | None:
        return self.connection.execute(select(self.table).where(*where)).first()

    def page(self, parent_id: str, part: Slice, *where: ColumnElement[bool]) -> Page:
        """A part of the list under `parent_id`. Raises UnknownCursor."""
        within = self.table.c[self.parent] == parent_id
        return self._rows(select(self.table).where(within, *where), parent_id, part)

    def bury(self, row: Record) -> None:
        """Delete a row that is listed, and remember where it stood."""
        self.connection.execute(delete(self.table).where(self.table.c.seq == row.seq))
        self.connection.execute(
            insert(_TOMBSTONE),
            {
                "id": row.id,
                "project_id": row.project_id,
                "scope": f"{self.table.name}:{row._mapping[self.parent]}",
                "position": row.seq,
            },
        )

    def _rows(self, query: Select[Any], parent_id: str, part: Slice) -> Page:
        """Backwards from `before` where it alone is given: the page next to the cursor."""
        seq = self.table.c.seq
        after = self._position(parent_id, part.after) if part.after else None
        before = self._position(parent_id, part.before) if part.before else None
        ascending = part.order == "asc"
        if after is not None:
            query = query.where(seq > after if ascending else seq < after)
        if before is not None:
            query = query.where(seq < before if ascending else seq > before)
        backwards = before is not None and after is None
        forwards = seq.asc() if ascending != backwards else seq.desc()
        found = self.connection.execute(query.order_by(forwards).limit(part.limit + 1)).all()
        rows = list(found[: part.limit])
        return Page(rows[::-1] if backwards else rows, len(found) > part.limit)

    def _position(self, parent_id: str, object_id: str) -> int:
        live = select(self.table.c.seq).where(
            self.table.c.id == object_id, self.table.c[self.parent] == parent_id
        )
        buried = select(_TOMBSTONE.c.position).where(
            _TOMBSTONE.c.id == object_id, _TOMBSTONE.c.scope == f"{self.table.name}:{parent_id}"
        )
        seq = self.connection.scalar(live) or self.connection.scalar(buried)
        if seq is None:
            raise UnknownCursor(object_id)
        return int(seq)


_TOMBSTONE = core(tables.Tombstone)


class Assistants(Store):
    """Assistants, listed by project."""

    table = core(tables.Assistant)
    parent = "project_id"

    def get(self, project: str, assistant_id: str) -> Record | None:
        return self.first(self.table.c.id == assistant_id, self.table.c.project_id == project)

    def update(self, seq: int, changes: Values) -> Record:
        return _updated(self.connection, self.table, seq, changes)


class Threads(Store):
    """Threads."""

    table = core(tables.Thread)
    parent = "project_id"

    def get(self, project: str, thread_id: str) -> Record | None:
        return self.first(self.table.c.id == thread_id, self.table.c.project_id == project)

    def update(self, seq: int, changes: Values) -> Record:
        return _updated(self.connection, self.table, seq, changes)

    def delete(self, seq: int) -> None:
        """With everything in it: messages, runs, steps and turns."""
        self.connection.execute(delete(self.table).where(self.table.c.seq == seq))

    def with_active_run(self, project: str, thread_id: str) -> Record | None:
        """The thread's `seq`, and `run_id` of its active run or None; one query."""
        return self.connection.execute(
            _THREAD_AND_RUN, {"thread": thread_id, "project": project}
        ).first()


class Messages(Store):
    """Messages, listed by thread."""

    table = core(tables.Message)
    parent = "thread_id"

    def get(self, project: str, thread_id: str, message_id: str) -> Record | None:
        c = self.table.c
        return self.first(c.id == message_id, c.thread_id == thread_id, c.project_id == project)

    def update(self, seq: int, changes: Values) -> Record:
        return _updated(self.connection, self.table, seq, changes)

    def of_run(self, run_id: str) -> Sequence[Record]:
        query = select(self.table).where(self.table.c.run_id == run_id)
        return self.connection.execute(query.order_by(self.table.c.seq)).all()

    def in_progress(self, run_id: str) -> Record | None:
        return self.first(self.table.c.run_id == run_id, self.table.c.status == "in_progress")

    def newest(self, thread_id: str, limit: int) -> Sequence[Record]:
        """The newest messages of a thread, oldest of them first."""
        query = select(self.table).where(self.table.c.thread_id == thread_id)
        rows = self.connection.execute(query.order_by(self.table.c.seq.desc()).limit(limit)).all()
        return rows[::-1]

    def newest_seq(self, thread_id: str) -> int:
        """0 in an empty thread."""
        query = select(func.max(self.table.c.seq)).where(self.table.c.thread_id == thread_id)
        return self.connection.scalar(query) or 0

    def any_from_user(self, thread_id: str) -> bool:
        c = self.table.c
        query = select(c.seq).where(c.thread_id == thread_id, c.role == "user").limit(1)
        return self.connection.scalar(query) is not None


class Runs(Store):
    """Runs, listed by thread, and the queue that they are."""

    table = core(tables.Run)
    parent = "thread_id"

    def get(self, project: str, thread_id: str, run_id: str) -> Record | None:
        c = self.table.c
        return self.first(c.id == run_id, c.thread_id == thread_id, c.project_id == project)

    def active_in_thread(self, thread_id: str) -> Record | None:
        c = self.table.c
        return self.first(c.thread_id == thread_id, c.status.in_(ACTIVE), c.held.is_(False))

    def next_queued(self, model_ids: Sequence[str]) -> Record | None:
        """The oldest run that waits for one of these models."""
        c = self.table.c
        query = select(self.table).where(
            c.status == "queued", c.held.is_(False), c.model_id.in_(model_ids)
        )
        return self.connection.execute(query.order_by(c.seq).limit(1)).first()

    def active(self) -> Sequence[Record]:
        """All active runs of all projects, oldest first."""
        query = select(self.table).where(self.table.c.status.in_(ACTIVE))
        return self.connection.execute(query.order_by(self.table.c.seq)).all()

    def count_by_status(self) -> dict[str, int]:
        """How many active runs there are, by status."""
        c = self.table.c
        query = select(c.status, func.count()).where(c.status.in_(ACTIVE)).group_by(c.status)
        return dict(self.connection.execute(query).tuples().all())

    def update(self, seq: int, changes: Values) -> Record:
        """Everything but the status, which only `runs.state.move` may write."""
        assert "status" not in changes
        return _updated(self.connection, self.table, seq, changes)

    def update_if(
        self, run_id: str, status: str, fence: int | None, changes: Values
    ) -> Record | None:
        """Change the run if it still has this status, and this fence where one is given."""
        c = self.table.c
        where = and_(c.id == run_id, c.status == status)
        if fence is not None:
            where = and_(where, c.fence == fence)
        statement = update(self.table).where(where).values(changes).returning(self.table)
        return self.connection.execute(statement).first()


class Steps(Store):
    """Steps, listed by run."""

    table = core(tables.Step)
    parent = "run_id"

    def get(self, project: str, thread_id: str, run_id: str, step_id: str) -> Record | None:
        c = self.table.c
        return self.first(
            c.id == step_id, c.run_id == run_id, c.thread_id == thread_id, c.project_id == project
        )

    def of_run(self, run_id: str) -> Sequence[Record]:
        query = select(self.table).where(self.table.c.run_id == run_id)
        return self.connection.execute(query.order_by(self.table.c.seq)).all()

    def in_progress(self, run_id: str) -> Record | None:
        """The run's open step; it has one at most."""
        return self.first(self.table.c.run_id == run_id, self.table.c.status == "in_progress")

    def answered_calls(self, thread_id: str, after_message: int) -> Sequence[Record]:
        """Completed tool steps of a thread that began at or after a message, in order."""
        c = self.table.c
        query = select(self.table).where(
            c.thread_id == thread_id,
            c.type == "tool_calls",
            c.status == "completed",
            c.after_message >= after_message,
        )
        return self.connection.execute(query.order_by(c.seq)).all()

    def update(self, seq: int, changes: Values) -> Record:
        return _updated(self.connection, self.table, seq, changes)


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of some turns, added up."""

    prompt: int
    completion: int
    cached: int
    reasoning: int
    turns: int


class Turns(Store):
    """Model calls and what they cost."""

    table = core(tables.Turn)
    parent = "run_id"

    def spent_by_run(self, run_id: str) -> Spent:
        return self._spent(self.table.c.run_id == run_id)

    def spent_by_step(self, step_id: str) -> Spent:
        return self._spent(self.table.c.step_id == step_id)

    def _spent(self, where: ColumnElement[bool]) -> Spent:
        c = self.table.c
        sums = (c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.reasoning_tokens)
        query = select(*(func.coalesce(func.sum(column), 0) for column in sums), func.count())
        row: Any = self.connection.execute(query.where(where)).one()
        return Spent(*row)


class Stores:
    """All stores over one connection, made when first used."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @cached_property
    def assistants(self) -> Assistants:
        return Assistants(self.connection)

    @cached_property
    def threads(self) -> Threads:
        return Threads(self.connection)

    @cached_property
    def messages(self) -> Messages:
        return Messages(self.connection)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.connection)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.connection)

    @cached_property
    def turns(self) -> Turns:
        return Turns(self.connection)


def _updated(connection: Connection, table: Table, seq: int, changes: Values) -> Record:
    statement = update(table).where(table.c.seq == seq).values(changes).returning(table)
    return connection.execute(statement).one()


def _thread_and_run() -> Select[Any]:
    thread, run = Threads.table, Runs.table
    active = and_(run.c.thread_id == thread.c.id, run.c.status.in_(ACTIVE), run.c.held.is_(False))
    query = select(thread.c.seq, run.c.id.label("run_id")).select_from(
        thread.outerjoin(run, active)
    )
    return query.where(
        thread.c.id == bindparam("thread"), thread.c.project_id == bindparam("project")
    )


_THREAD_AND_RUN = _thread_and_run()
