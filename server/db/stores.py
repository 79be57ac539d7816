"""The queries, one store a table; a query's name is its sentence. Core rows, no objects.

Every look-up by a caller carries the project, so that a foreign id is as unknown as a made-up one.
The statements themselves are in `statements`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Executable, Row, Select, Table

from server.db import statements, tables
from server.db.tables import core

Record = Row[Any]
Values = Mapping[str, Any]


VALUES_AT_ONCE = 1000  # SQLite takes a bounded number of them


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
        return self.connection.execute(statements.insert_into(self.table), values).one()

    def insert_all(self, rows: Sequence[Values]) -> None:
        """Add rows that give the same columns, in this order, at a fraction of the cost of each."""
        if rows:
            self.connection.execute(statements.insert_many_into(self.table), rows)

    def update(self, seq: int, changes: Values) -> Record:
        """Replace values of a row that exists and return it; JSON is replaced as a whole."""
        return self.connection.execute(
            statements.update_of(self.table), {"at_seq": seq, **changes}
        ).one()

    def by_id(self, object_id: str) -> Record | None:
        """Whoever owns it; for code that was not called by a client."""
        return self.first(id=object_id)

    def first(self, **wanted: Any) -> Record | None:
        """The oldest row with these values."""
        return self.connection.execute(statements.equal(self.table, *wanted), wanted).first()

    def every(self, **wanted: Any) -> Sequence[Record]:
        """All rows with these values, oldest first."""
        return self.connection.execute(statements.equal(self.table, *wanted), wanted).all()

    def page(self, parent_id: str, part: Slice, *where: ColumnElement[bool]) -> Page:
        """A part of the list under `parent_id`: the page next to `before` where it alone is given.

        Raises UnknownCursor.
        """
        wanted: dict[str, Any] = {"parent": parent_id, "most": part.limit + 1}
        if part.after:
            wanted["after"] = self._position(parent_id, part.after)
        if part.before:
            wanted["before"] = self._position(parent_id, part.before)
        query = statements.between(
            self.table, self.parent, part.order, "after" in wanted, "before" in wanted
        )
        found = self.connection.execute(query.where(*where) if where else query, wanted).all()
        rows = found[: part.limit]
        backwards = "before" in wanted and "after" not in wanted
        return Page(rows[::-1] if backwards else rows, len(found) > part.limit)

    def bury(self, row: Record) -> None:
        """Delete a row that is listed, and remember where it stood."""
        self.connection.execute(statements.delete_from(self.table), {"at_seq": row.seq})
        self.connection.execute(
            statements.BURY,
            {
                "id": row.id,
                "project_id": row.project_id,
                "scope": statements.scope(self.table, row._mapping[self.parent]),
                "position": row.seq,
            },
        )

    def _among(self, query: Executable, name: str, values: Collection[str]) -> set[str]:
        """What the query finds of all the values, which are given to it as `name`."""
        wanted = list(values)
        found: set[str] = set()
        for start in range(0, len(wanted), VALUES_AT_ONCE):
            some = {name: wanted[start : start + VALUES_AT_ONCE]}
            found.update(self.connection.execute(query, some).scalars())
        return found

    def _position(self, parent_id: str, object_id: str) -> int:
        wanted = {"id": object_id, "parent": parent_id}
        wanted["scope"] = statements.scope(self.table, parent_id)
        place = self.connection.scalar(statements.position(self.table, self.parent), wanted)
        if place is None:
            raise UnknownCursor(object_id)
        return int(place)


class Assistants(Store):
    """Assistants, listed by project."""

    table = core(tables.Assistant)
    parent = "project_id"

    def get(self, project: str, assistant_id: str) -> Record | None:
        return self.first(id=assistant_id, project_id=project)


class Threads(Store):
    """Threads."""

    table = core(tables.Thread)
    parent = "project_id"

    def get(self, project: str, thread_id: str) -> Record | None:
        return self.first(id=thread_id, project_id=project)

    def delete(self, seq: int) -> None:
        """With everything in it: messages and their tombstones, runs, steps and turns."""
        thread_id = self.connection.scalar(statements.delete_from(self.table), {"at_seq": seq})
        buried = {"scope": statements.scope(Messages.table, str(thread_id))}
        self.connection.execute(statements.FORGET, buried)

    def among(self, thread_ids: Collection[str]) -> set[str]:
        """Those of the ids that threads have."""
        return self._among(statements.THREADS_AMONG, "ids", thread_ids)

    def with_active_run(self, project: str, thread_id: str) -> Record | None:
        """The thread's `seq`, and `run_id` of its active run or None; one query."""
        wanted = {"thread": thread_id, "project": project}
        return self.connection.execute(statements.THREAD_AND_RUN, wanted).first()


class Messages(Store):
    """Messages, listed by thread."""

    table = core(tables.Message)
    parent = "thread_id"

    def get(self, project: str, thread_id: str, message_id: str) -> Record | None:
        return self.first(id=message_id, thread_id=thread_id, project_id=project)

    def of_run(self, run_id: str) -> Sequence[Record]:
        return self.every(run_id=run_id)

    def in_progress(self, run_id: str) -> Record | None:
        return self.first(run_id=run_id, status="in_progress")

    def spoken(self, thread_id: str, run_id: str, limit: int) -> Sequence[Record]:
        """The conversation of a run, oldest first: what it said itself, and the newest of the rest.

        A rescued partial answer is not part of it; a cancelled one is.
        """
        wanted = {"thread": thread_id, "run": run_id, "most": limit}
        before = self.connection.execute(statements.SPOKEN_BEFORE_RUN, wanted).all()
        own = self.connection.execute(statements.SPOKEN_BY_RUN, {"run": run_id}).all()
        return [*before[::-1], *own]

    def newest_seq(self, thread_id: str) -> int:
        """0 in an empty thread."""
        return self.connection.scalar(statements.NEWEST_MESSAGE, {"thread": thread_id}) or 0

    def any_from_user(self, thread_id: str) -> bool:
        return self.first(thread_id=thread_id, role="user") is not None


class Runs(Store):
    """Runs, listed by thread, and the queue that they are."""

    table = core(tables.Run)
    parent = "thread_id"

    def get(self, project: str, thread_id: str, run_id: str) -> Record | None:
        return self.first(id=run_id, thread_id=thread_id, project_id=project)

    def active_in_thread(self, thread_id: str) -> Record | None:
        return self.connection.execute(statements.ACTIVE_IN_THREAD, {"thread": thread_id}).first()

    def next_queued(self, model_ids: Sequence[str]) -> Record | None:
        """Of the runs that wait for one of these models the one whose turn it is.

        It is of the project that has the fewest in progress, and the oldest of those.
        """
        wanted = {"models": list(model_ids)}
        oldest = [
            run
            for project in self._projects_in_queue()
            if (run := self._first(statements.OLDEST_OF_PROJECT, project=project, **wanted))
        ]
        if len(oldest) <= 1:
            return next(iter(oldest), None)
        rows = self.connection.execute(statements.IN_PROGRESS_BY_PROJECT)
        busy = {row.project_id: row.number for row in rows}
        return min(oldest, key=lambda run: (busy.get(run.project_id, 0), run.seq))

    def _projects_in_queue(self) -> Iterator[str]:
        project = self._next_project("")
        while project is not None:
            yield project
            project = self._next_project(project)

    def _next_project(self, after: str) -> str | None:
        found = self.connection.execute(statements.NEXT_PROJECT_IN_QUEUE, {"after": after})
        project: str | None = found.scalar()
        return project

    def _first(self, statement: Select[Any], **values: Any) -> Record | None:
        return self.connection.execute(statement, values).first()

    def queued_for(self, model_id: str, most: int) -> Sequence[Record]:
        """The oldest runs that wait for a model."""
        wanted = {"model": model_id, "most": most}
        return self.connection.execute(statements.QUEUED_FOR, wanted).all()

    def models_waited_for(self) -> set[str]:
        """The ids of the models that queued runs need."""
        return set(self.connection.execute(statements.MODELS_WAITED_FOR).scalars())

    def active(self) -> Sequence[Record]:
        """All active runs of all projects, oldest first."""
        return self.connection.execute(statements.ALL_ACTIVE).all()

    def count_by_status(self) -> dict[str, int]:
        """How many active runs there are, by status."""
        found = self.connection.execute(statements.COUNT_BY_STATUS)
        return {row.status: row.number for row in found}

    def update(self, seq: int, changes: Values) -> Record:
        """Everything but the status, which only `runs.state.move` may write."""
        assert "status" not in changes
        return super().update(seq, changes)

    def update_if(
        self, run_id: str, status: str, fence: int | None, changes: Values
    ) -> Record | None:
        """Change the run if it still has this status, and this fence where one is given."""
        still: dict[str, Any] = {"id": run_id, "status": status}
        if fence is not None:
            still["fence"] = fence
        query = statements.update_where(self.table, *still)
        wanted = {f"at_{name}": value for name, value in still.items()}
        return self.connection.execute(query, {**wanted, **changes}).first()


class Steps(Store):
    """Steps, listed by run."""

    table = core(tables.Step)
    parent = "run_id"

    def get(self, project: str, thread_id: str, run_id: str, step_id: str) -> Record | None:
        return self.first(id=step_id, run_id=run_id, thread_id=thread_id, project_id=project)

    def of_run(self, run_id: str) -> Sequence[Record]:
        return self.every(run_id=run_id)

    def in_progress(self, run_id: str) -> Record | None:
        """The run's open step; it has one at most."""
        return self.first(run_id=run_id, status="in_progress")

    def answered_calls(self, thread_id: str, after_message: int) -> Sequence[Record]:
        """Completed tool steps of a thread that began at or after a message, in order."""
        wanted = {"thread": thread_id, "oldest": after_message}
        return self.connection.execute(statements.ANSWERED_CALLS, wanted).all()

    def rounds(self, run_id: str) -> int:
        """How often the run has called tools and was answered."""
        return self.connection.execute(statements.ROUNDS, {"run": run_id}).scalar_one()


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
        return self._spent(run_id=run_id)

    def spent_by_step(self, step_id: str) -> Spent:
        return self._spent(step_id=step_id)

    def written_since(self, thread_id: str, message: int, limit: int) -> Sequence[Record]:
        """The newest turns of a thread that can stand in a prompt that begins with a message."""
        values = {"thread": thread_id, "oldest": message, "most": limit}
        return self.connection.execute(statements.TURNS_SINCE, values).all()

    def _spent(self, **wanted: Any) -> Spent:
        row: Any = self.connection.execute(statements.spent(*wanted), wanted).one()
        return Spent(*row)


class Files(Store):
    """Files, listed by project. One that has expired is as unknown as one that was deleted."""

    table = core(tables.File)
    parent = "project_id"

    def get(self, project: str, file_id: str, now: int) -> Record | None:
        wanted = {"id": file_id, "project_id": project, "now": now}
        return self.connection.execute(statements.FILE, wanted).first()

    def kept(self, project: str, part: Slice, now: int, purpose: str | None) -> Page:
        """A part of the list, or of what in it has one purpose. Raises UnknownCursor."""
        where = [statements.kept_at(now)]
        if purpose is not None:
            where.append(self.table.c.purpose == purpose)
        return self.page(project, part, *where)

    def expired(self, now: int, most: int) -> Sequence[Record]:
        wanted = {"now": now, "most": most}
        return self.connection.execute(statements.EXPIRED_FILES, wanted).all()

    def take_from_tools(self, project: str, file_id: str) -> None:
        """Have no assistant and no thread of a project name a file any more."""
        named = {"project": project, "file": file_id}
        for table in (Assistants.table, Threads.table):
            self.connection.execute(statements.take_file_from(table), named)

    def has_blob(self, digest: str) -> bool:
        """Whether any file, or any part of an upload, has these bytes."""
        return bool(self.connection.scalar(statements.IS_NAMED, {"digest": digest}))

    def blobs_among(self, digests: Collection[str]) -> set[str]:
        """Those of the digests whose bytes any file, or any part of an upload, has."""
        return self._among(statements.NAMED_AMONG, "digests", digests)


class Uploads(Store):
    """Uploads; there is no list of them."""

    table = core(tables.Upload)
    parent = "project_id"

    def get(self, project: str, upload_id: str) -> Record | None:
        return self.first(id=upload_id, project_id=project)

    def overdue(self, now: int, most: int) -> Sequence[Record]:
        """Pending ones whose time is over."""
        wanted = {"now": now, "most": most}
        return self.connection.execute(statements.OVERDUE_UPLOADS, wanted).all()


class UploadParts(Store):
    """The parts of uploads, which live as long as their upload is pending."""

    table = core(tables.UploadPart)
    parent = "upload_id"

    def size(self, upload_id: str) -> tuple[int, int]:
        """How many there are, and their bytes."""
        row = self.connection.execute(statements.SIZE_OF_PARTS, {"upload": upload_id}).one()
        return int(row[0]), int(row[1])

    def drop(self, upload_id: str) -> list[str]:
        """Delete those of an upload, and return the digests of their bytes."""
        dropped = self.connection.execute(statements.DROP_PARTS, {"upload": upload_id})
        return list(dropped.scalars())


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

    @cached_property
    def files(self) -> Files:
        return Files(self.connection)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self.connection)

    @cached_property
    def upload_parts(self) -> UploadParts:
        return UploadParts(self.connection)
