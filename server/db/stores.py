"""The queries, one store a table; a query's name is its sentence. Core rows, no objects.

Every look-up by a caller carries the project, so that a foreign id is as unknown as a made-up one.
The statements themselves are in `statements`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from sqlalchemy import ClauseElement, ColumnElement, Select, Table

from server import errors
from server.db import queries, statements, tables
from server.db.queries import NOTHING, Queries, Values
from server.db.tables import core
from server.nesting import characters_in

Record = queries.Record
VALUES_AT_ONCE = 1000  # of a list that may be as long as its client likes
MOST_CHARACTERS: Final = 2**25  # of a page, whatever its limit, and of what a run reads of a thread
INGESTION = "ingestion"  # the channel on which it is told that files of vector stores came or went


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


def portions(values: Collection[str]) -> Iterator[list[str]]:
    """All of them, a bounded number at once."""
    wanted = list(values)
    for start in range(0, len(wanted), VALUES_AT_ONCE):
        yield wanted[start : start + VALUES_AT_ONCE]


def _given(wanted: Mapping[str, str | None]) -> dict[str, str]:
    """Without those that are None."""
    return {name: value for name, value in wanted.items() if value is not None}


def _first_of(
    found: Iterable[Record],
    most: int | None = None,
    characters: Callable[[Record], int] = lambda row: characters_in([*row]),
) -> tuple[list[Record], bool]:
    """The first rows, `most` of them or fewer if they are large, and whether there are others."""
    rows: list[Record] = []
    read = 0
    for row in found:
        if len(rows) == most or read >= MOST_CHARACTERS:
            return rows, True
        rows.append(row)
        read += characters(row)
    return rows, False


class Store:
    """One table. `parent` is the column that selects a list: a project, a thread or a run."""

    table: Table
    parent: str

    def __init__(self, queries: Queries, most: int = 0) -> None:
        """A project has at most so many of these; 0 is no limit."""
        self.queries = queries
        self._most = most

    def insert(self, values: Values) -> Record:
        """Add a row and return it, with its `seq`. Raises too_many_objects."""
        if self._most:
            self._require_room(values["project_id"])
        return self.queries.one(statements.insert_into(self.table), values)

    def insert_all(self, rows: Sequence[Values]) -> None:
        """Add rows that give the same columns, in this order, at a fraction of the cost of each."""
        if rows:
            self.queries.run_for_each(statements.insert_many_into(self.table), rows)

    def update(self, seq: int, changes: Values) -> Record:
        """Replace values of a row that exists and return it; JSON is replaced as a whole."""
        return self.queries.one(statements.update_of(self.table), {"at_seq": seq, **changes})

    def by_id(self, object_id: str) -> Record | None:
        """Whoever owns it; for code that was not called by a client."""
        return self.first(id=object_id)

    def first(self, **wanted: Any) -> Record | None:
        """The oldest row with these values."""
        return self.queries.first(statements.equal(self.table, *wanted), wanted)

    def every(self, **wanted: Any) -> Sequence[Record]:
        """All rows with these values, oldest first."""
        return self.queries.all(statements.equal(self.table, *wanted), wanted)

    def page(
        self,
        parent_id: str,
        part: Slice,
        *where: ColumnElement[bool],
        now: int = 0,
        **wanted: str | None,
    ) -> Page:
        """A part of the list under `parent_id`: the page next to `before` where it alone is given.

        Of what in it the conditions are true `now`, and whose columns have these values, but for
        None. Raises UnknownCursor.
        """
        cut = part.order, bool(part.after), bool(part.before)
        same = _given(wanted)
        query = statements.between(self.table, self.parent, *cut, *where, same=tuple(same))
        return self._page(query, self.parent, parent_id, part, {"now": now, **same})

    def _page(
        self,
        query: Select[Any],
        parent: str,
        parent_id: str,
        part: Slice,
        values: Values = NOTHING,
    ) -> Page:
        wanted: dict[str, Any] = {"parent": parent_id, "most": part.limit + 1, **values}
        if part.after:
            wanted["after"] = self._position(parent, parent_id, part.after)
        if part.before:
            wanted["before"] = self._position(parent, parent_id, part.before)
        rows, has_more = _first_of(self.queries.some(query, wanted), part.limit)
        backwards = "before" in wanted and "after" not in wanted
        return Page(rows[::-1] if backwards else rows, has_more)

    def bury(self, row: Record) -> None:
        """Delete a row that is listed, and remember where it stood."""
        self.queries.run(statements.delete_from(self.table), {"at_seq": row.seq})
        self.queries.run(
            statements.BURY,
            {
                "id": row.id,
                "project_id": row.project_id,
                "scope": statements.scope(self.table, getattr(row, self.parent)),
                "position": row.seq,
            },
        )

    def _require_room(self, project: str) -> None:
        wanted = {"project": project, "most": self._most}
        if self.queries.scalar(statements.number_in(self.table), wanted) == self._most:
            raise errors.too_many_objects(self.table.name.replace("_", " "), self._most)

    def _among(self, query: ClauseElement, name: str, values: Collection[str]) -> set[str]:
        """What the query finds of all the values, which are given to it as `name`."""
        return set(self.queries.scalars(query, {name: list(values)}))

    def _rows_among(
        self, query: ClauseElement, ids: Collection[str], where: Values
    ) -> dict[str, Record]:
        """The rows that the query finds of all the `ids`, by theirs and in their order."""
        wanted = list(ids)
        rows = {row.id: row for row in self.queries.all(query, {**where, "ids": wanted})}
        return {each: rows[each] for each in wanted if each in rows}

    def _position(self, parent: str, parent_id: str, object_id: str) -> float:
        wanted = {"id": object_id, "parent": parent_id}
        wanted["scope"] = statements.scope(self.table, parent_id)
        place = self.queries.scalar(statements.position(self.table, parent), wanted)
        if place is None:
            raise UnknownCursor(object_id)
        return float(place)


class Labelled(Store):
    """A table whose rows are listed by project, also those that have certain metadata."""

    pairs: Table

    def insert(self, values: Values) -> Record:
        row = super().insert(values)
        self._label(row)
        return row

    def update(self, seq: int, changes: Values) -> Record:
        row = super().update(seq, changes)
        if "metadata" in changes:
            self.queries.run(statements.pairs_of(self.pairs), {"at_seq": seq})
            self._label(row)
        return row

    def of_project(
        self,
        project: str,
        part: Slice,
        metadata: Mapping[str, str],
        status: str | None = None,
    ) -> Page:
        """A part of the list of a project's rows that have all this metadata, and this status.

        Raises UnknownCursor.
        """
        cut = part.order, bool(part.after), bool(part.before)
        values: dict[str, str] = {}
        for i, (key, value) in enumerate(metadata.items()):
            values |= {f"key{i}": key, f"value{i}": value}
        same = _given({"status": status})
        if metadata:
            pairs = self.pairs, len(metadata)
            query = statements.between_labelled(self.table, *pairs, *cut, same=tuple(same))
        else:
            query = statements.between(self.table, "project_id", *cut, same=tuple(same))
        return self._page(query, "project_id", project, part, {**values, **same})

    def _label(self, row: Record) -> None:
        owner = {"project_id": row.project_id, "seq": row.seq}
        pairs = [{**owner, "key": key, "value": value} for key, value in row.metadata.items()]
        if pairs:
            self.queries.run_for_each(statements.insert_many_into(self.pairs), pairs)


class Projects(Store):
    """Projects. What belongs to one is found by its id; the list of them is short."""

    table = core(tables.Project)


class ApiKeys(Store):
    """Keys of projects, those that are revoked or over among them."""

    table = core(tables.ApiKey)
    parent = "project_id"

    def note_uses(self, used: Mapping[str, int]) -> None:
        """When each was used last, by id."""
        values = [{"at_id": key_id, "at": at} for key_id, at in used.items()]
        self.queries.run_for_each(statements.NOTE_USE, values)


class Assistants(Store):
    """Assistants, listed by project."""

    table = core(tables.Assistant)
    parent = "project_id"

    def get(self, project: str, assistant_id: str) -> Record | None:
        return self.first(id=assistant_id, project_id=project)


class Threads(Labelled):
    """Threads, listed by project."""

    table = core(tables.Thread)
    pairs = core(tables.ThreadMetadata)
    parent = "project_id"

    def get(self, project: str, thread_id: str) -> Record | None:
        return self.first(id=thread_id, project_id=project)

    def bury(self, row: Record) -> None:
        """With everything in it: messages and their tombstones, runs, steps and turns."""
        super().bury(row)
        buried = {"scope": statements.scope(Messages.table, row.id)}
        self.queries.run(statements.FORGET, buried)

    def among(self, thread_ids: Collection[str]) -> set[str]:
        """Those of the ids that threads have."""
        return self._among(statements.THREADS_AMONG, "ids", thread_ids)

    def with_active_run(self, project: str, thread_id: str) -> Record | None:
        """The thread's `seq`, `run_id` of its active run or None, `newest_run`, 0 or its `seq`.

        And the project's `busy_policy`, if it has one. One query.
        """
        wanted = {"thread": thread_id, "project": project}
        return self.queries.first(statements.THREAD_AND_RUN, wanted)


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

        No more of it than a context holds. A rescued partial answer is not part of it; a cancelled
        one is.
        """
        wanted = {"thread": thread_id, "run": run_id, "most": limit}
        newest = self.queries.some(statements.SPOKEN_BEFORE_RUN, wanted)
        before, _ = _first_of(newest, characters=lambda row: characters_in(row.content))
        own = self.queries.all(statements.SPOKEN_BY_RUN, {"run": run_id})
        return [*before[::-1], *own]

    def newest_seq(self, thread_id: str) -> int:
        """0 in an empty thread."""
        return self.queries.scalar(statements.NEWEST_MESSAGE, {"thread": thread_id}) or 0

    def shown(self, thread_id: str, part: Slice, run_id: str | None) -> Page:
        """A part of the list, or of what in it one run wrote. Raises UnknownCursor."""
        return self.page(thread_id, part, statements.IS_SHOWN, run_id=run_id)

    def held(self, thread_id: str) -> Sequence[Record]:
        """The messages that wait in a thread, oldest first."""
        return self.queries.all(statements.HELD_MESSAGES, {"thread": thread_id})

    def show(self, row: Record) -> None:
        """Have a message that waited be the newest of its thread."""
        values = {name: value for name, value in row._asdict().items() if name != "seq"}
        self.queries.run(statements.delete_from(self.table), {"at_seq": row.seq})
        self.insert({**values, "held": False})

    def any_from_user(self, thread_id: str) -> bool:
        return self.first(thread_id=thread_id, role="user") is not None

    def give(self, thread_id: str, request_hash: str, number: int, since: int) -> Record | None:
        """The newest message that this request made since then, if no run came after it.

        Each is given once to every retry, told by its number.
        """
        request = {"hash": request_hash, "number": number, "since": since}
        return self.queries.first(statements.GIVE_MESSAGE, {"thread": thread_id, **request})


class Runs(Labelled):
    """Runs, listed by thread and by project, and the queue that they are."""

    table = core(tables.Run)
    pairs = core(tables.RunMetadata)
    parent = "thread_id"

    def get(self, project: str, thread_id: str, run_id: str) -> Record | None:
        return self.first(id=run_id, thread_id=thread_id, project_id=project)

    def active_in_thread(self, thread_id: str) -> Record | None:
        return self.queries.first(statements.ACTIVE_IN_THREAD, {"thread": thread_id})

    def give(self, thread_id: str, request_hash: str, number: int, since: int) -> Record | None:
        """The thread's newest run, if this request made it since then and no message came after it.

        It is given once to every retry, told by its number.
        """
        request = {"hash": request_hash, "number": number, "since": since}
        return self.queries.first(statements.GIVE_RUN, {"thread": thread_id, **request})

    def held(self, thread_id: str) -> Sequence[Record]:
        """The runs that wait in a thread, oldest first."""
        return self.queries.all(statements.HELD_RUNS, {"thread": thread_id})

    def next_queued(self, model_ids: Sequence[str], turns: Mapping[str, int]) -> Record | None:
        """Of the runs that wait for one of these models the one whose turn it is.

        It is of the project that has the fewest in progress; of the same number, of the one whose
        last turn is longest ago; and there it is the oldest.
        """
        oldest = self.queries.all(statements.OLDEST_IN_QUEUE, {"models": list(model_ids)})
        if len(oldest) <= 1:
            return next(iter(oldest), None)
        rows = self.queries.some(statements.IN_PROGRESS_BY_PROJECT)
        busy = {row.project_id: row.number for row in rows}

        def turn(run: Record) -> tuple[int, int, int]:
            return busy.get(run.project_id, 0), turns.get(run.project_id, 0), run.seq

        return min(oldest, key=turn)

    def number_queued(self, most: int, project: str | None = None) -> int:
        """How many wait to be begun, of all or of one project, counted up to `most`.

        For a model, or for other runs of their threads.
        """
        if project is None:
            return self._number(statements.NUMBER_QUEUED, most=most)
        return self._number(statements.NUMBER_QUEUED_OF, most=most, project=project)

    def at_work_of_key(self, key_id: str | None, most: int) -> int:
        """How many that a key has created, or nobody's, do not wait for others of their threads.

        Counted up to `most`.
        """
        return self._number(statements.NUMBER_AT_WORK_OF, most=most, key=key_id)

    def _number(self, statement: ClauseElement, **values: Any) -> int:
        return int(self.queries.scalar(statement, values))

    def queued_for(self, model_id: str, most: int) -> Sequence[Record]:
        """The oldest runs that wait for a model."""
        wanted = {"model": model_id, "most": most}
        return self.queries.all(statements.QUEUED_FOR, wanted)

    def models_waited_for(self) -> set[str]:
        """The ids of the models that queued runs need."""
        return set(self.queries.scalars(statements.MODELS_WAITED_FOR))

    def active(self) -> Sequence[Record]:
        """All active runs of all projects, oldest first."""
        return self.queries.all(statements.ALL_ACTIVE)

    def count_active(self) -> dict[tuple[str, str], int]:
        """How many active runs there are, by model and status."""
        found = self.queries.some(statements.COUNT_ACTIVE)
        return {(model_id, status): number for model_id, status, number in found}

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
        return self.queries.first(query, {**wanted, **changes})


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
        """The tool steps of a thread that began at or after a message and were answered, in order.

        Completed, or failed for the tool's sake: then the model was told so. The newest of them,
        no more than a context holds.
        """
        wanted = {"thread": thread_id, "oldest": after_message}
        newest = self.queries.some(statements.ANSWERED_CALLS, wanted)
        steps, _ = _first_of(newest, characters=lambda row: characters_in(row.step_details))
        return steps[::-1]

    def newest_search(self, thread_id: str) -> Record | None:
        """The newest tool step of a thread with an answered file search in it."""
        wanted = {"thread": thread_id}
        return self.queries.first(statements.NEWEST_SEARCH, wanted)

    def any_code_run(self, thread_id: str) -> bool:
        """Whether any code of a thread was run to its end."""
        return bool(self.queries.scalar(statements.ANY_CODE_RUN, {"thread": thread_id}))

    def rounds(self, run_id: str) -> int:
        """How often the run has called tools and was answered."""
        return int(self.queries.scalar(statements.ROUNDS, {"run": run_id}))


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
        return self.queries.all(statements.TURNS_SINCE, values)

    def _spent(self, **wanted: Any) -> Spent:
        return Spent(*self.queries.one(statements.spent(*wanted), wanted))


class Files(Store):
    """Files, listed by project. One that has expired is as unknown as one that was deleted."""

    table = core(tables.File)
    parent = "project_id"

    def get(self, project: str, file_id: str, now: int) -> Record | None:
        wanted = {"id": file_id, "project_id": project, "now": now}
        return self.queries.first(statements.FILE, wanted)

    def kept(self, project: str, part: Slice, now: int, purpose: str | None) -> Page:
        """A part of the list, or of what in it has one purpose. Raises UnknownCursor."""
        return self.page(project, part, statements.IS_KEPT, now=now, purpose=purpose)

    def expired(self, now: int, most: int) -> Sequence[Record]:
        wanted = {"now": now, "most": most}
        return self.queries.all(statements.EXPIRED_FILES, wanted)

    def among(self, project: str, file_ids: Collection[str], now: int) -> dict[str, Record]:
        """Those of the ids that files of a project have, with these files."""
        where = {"project_id": project, "now": now}
        return self._rows_among(statements.FILES_AMONG, file_ids, where)

    def stored_in(self, project: str) -> int:
        """Bytes of a project's files, and of the parts of its uploads."""
        return int(self.queries.scalar(statements.STORED_IN, {"project": project}) or 0)

    def take_from_tools(self, project: str, file_id: str) -> None:
        """Have no assistant and no thread of a project name a file any more."""
        take_from_tools(self.queries, "code_interpreter.file_ids", project, file_id)

    def has_blob(self, digest: str) -> bool:
        """Whether any file, or any part of an upload, has these bytes."""
        return bool(self.queries.scalar(statements.IS_NAMED, {"digest": digest}))

    def blobs_among(self, digests: Collection[str]) -> set[str]:
        """Those of the digests whose bytes any file, or any part of an upload, has."""
        return self._among(statements.NAMED_AMONG, "digests", digests)

    def blobs(self) -> set[str]:
        """The digests of all bytes that any file, or any part of an upload, has."""
        return set(self.queries.scalars(statements.NAMED))


class Uploads(Store):
    """Uploads; there is no list of them."""

    table = core(tables.Upload)
    parent = "project_id"

    def get(self, project: str, upload_id: str) -> Record | None:
        return self.first(id=upload_id, project_id=project)

    def overdue(self, now: int, most: int) -> Sequence[Record]:
        """Pending ones whose time is over."""
        wanted = {"now": now, "most": most}
        return self.queries.all(statements.OVERDUE_UPLOADS, wanted)

    def prune(self, before: int, most: int) -> int:
        """Delete those that have ended and whose time was over by then; how many."""
        wanted = {"before": before, "most": most}
        return self.queries.run(statements.PRUNE_UPLOADS, wanted)


class UploadParts(Store):
    """The parts of uploads, which live as long as their upload is pending."""

    table = core(tables.UploadPart)
    parent = "upload_id"

    def size(self, upload_id: str) -> tuple[int, int]:
        """How many there are, and their bytes."""
        row = self.queries.one(statements.SIZE_OF_PARTS, {"upload": upload_id})
        return int(row[0]), int(row[1])

    def drop(self, upload_id: str) -> list[str]:
        """Delete those of an upload, and return the digests of their bytes."""
        return self.queries.scalars(statements.DROP_PARTS, {"upload": upload_id})


def take_from_tools(queries: Queries, resource: str, project: str, its_id: str) -> None:
    """Have no assistant and no thread of a project name it among a tool's resources any more."""
    for table in (Assistants.table, Threads.table):
        named = {"project": project, "id": its_id}
        queries.run(statements.take_from(table, resource), named)


class VectorStores(Store):
    """Vector stores, listed by project."""

    table = core(tables.VectorStore)
    parent = "project_id"

    def get(self, project: str, store_id: str) -> Record | None:
        return self.first(id=store_id, project_id=project)

    def delete(self, row: Record) -> None:
        """With its files, their tombstones and its batches; nothing names it any more."""
        self.bury(row)
        buried = {"scope": statements.scope(VectorStoreFiles.table, row.id)}
        self.queries.run(statements.FORGET, buried)
        take_from_tools(self.queries, "file_search.vector_store_ids", row.project_id, row.id)

    def expired(self, now: int, most: int) -> Sequence[Record]:
        """Those whose time is over and whose files are still there."""
        wanted = {"now": now, "most": most}
        return self.queries.all(statements.EXPIRED_STORES, wanted)

    def usable_ids(self) -> set[str]:
        """Those of all stores whose files are there."""
        return set(self.queries.scalars(statements.USABLE_STORES))

    def is_busy(self, store_id: str) -> bool:
        """Whether any of its files is still to be taken in."""
        return bool(self.queries.scalar(statements.IS_BUSY, {"store": store_id}))

    def touch(self, project: str, store_ids: Collection[str], now: int) -> None:
        """They were used now; those that are over stay so."""
        used = {"project": project, "ids": list(store_ids), "at": now}
        self.queries.run(statements.TOUCH, used)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many files of a vector store, or of a batch, have each status, and their bytes."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    usage_bytes: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


class VectorStoreFiles(Store):
    """Files in vector stores, listed by store, and the queue that those in progress are.

    A file that has expired is none of what is shown: it leaves all stores when it is swept away.
    """

    table = core(tables.VectorStoreFile)
    parent = "vector_store_id"

    def get(self, store_id: str, file_id: str) -> Record | None:
        return self.first(id=file_id, vector_store_id=store_id)

    def among(self, store_id: str, file_ids: Collection[str]) -> dict[str, Record]:
        """Those of the ids that files in a store have, with their rows there."""
        return self._rows_among(statements.IN_STORE_AMONG, file_ids, {"store": store_id})

    def count_waiting(self) -> int:
        """How many of all stores wait to be taken in."""
        return int(self.queries.scalar(statements.COUNT_TO_INGEST))

    def shown(self, store_id: str, file_id: str, now: int) -> Record | None:
        """A file, unless it has expired."""
        wanted = {"id": file_id, "store": store_id, "now": now}
        return self.queries.first(statements.STORE_FILE, wanted)

    def kept(
        self,
        store_id: str,
        part: Slice,
        now: int,
        status: str | None = None,
        batch_id: str | None = None,
    ) -> Page:
        """A part of the list, or of what in it has this status or batch. Raises UnknownCursor."""
        wanted = {"status": status, "batch_id": batch_id}
        return self.page(store_id, part, statements.IS_IN_STORE, now=now, **wanted)

    def tallies(self, store_ids: Collection[str], now: int) -> dict[str, Tally]:
        """By store; one that has no files is not among them."""
        return self._tallies("vector_store_id", store_ids, now)

    def tally_of_batch(self, batch_id: str, now: int) -> Tally:
        return self._tallies("batch_id", [batch_id], now).get(batch_id, Tally())

    def _tallies(self, owner: str, owners: Collection[str], now: int) -> dict[str, Tally]:
        """What has expired is taken off, since all else is counted within one index."""
        wanted = {"owners": list(owners), "now": now}
        counts = defaultdict[str, Counter[str]](Counter)
        for query, times in ((statements.tally(owner), 1), (statements.tally_overdue(owner), -1)):
            for row in self.queries.some(query, wanted):
                counts[row.owner][row.status] += times * row.number
                counts[row.owner]["usage_bytes"] += times * row.usage_bytes
        return {owner_id: Tally(**numbers) for owner_id, numbers in counts.items()}

    def completed_ids(
        self, store_ids: Collection[str], now: int, *where: ColumnElement[bool]
    ) -> set[str]:
        """Of what can be found in the stores: the files of which the conditions are true."""
        wanted = {"stores": list(store_ids), "now": now}
        return {row.id for row in self._fitting(statements.IDS_COMPLETED, wanted, where)}

    def completed(
        self,
        store_ids: Collection[str],
        file_ids: Collection[str],
        now: int,
        *where: ColumnElement[bool],
    ) -> Sequence[Record]:
        """Of the files those that can be found in the stores, with their `filename`."""
        wanted = {"stores": list(store_ids), "ids": list(file_ids), "now": now}
        return self._fitting(statements.COMPLETED_AMONG, wanted, where)

    def _fitting(
        self, query: Select[Any], wanted: Values, where: Sequence[ColumnElement[bool]]
    ) -> Sequence[Record]:
        """The rows of which conditions are true that are seldom the same again."""
        if where:
            return self.queries.fresh(query.where(*where), wanted)
        return self.queries.all(query, wanted)

    def next_to_ingest(self, turns: Mapping[str, int]) -> Record | None:
        """The oldest that waits, of the project whose last turn is longest ago."""
        oldest = self.queries.all(statements.OLDEST_TO_INGEST)
        return min(oldest, key=lambda row: (turns.get(row.project_id, 0), row.seq), default=None)

    def oldest_to_ingest_among(self, seqs: Collection[int]) -> Record | None:
        query = statements.OLDEST_TO_INGEST_AMONG
        return self.queries.first(query, {"seqs": [*seqs]})

    def in_progress_among(self, seqs: Collection[int]) -> set[int]:
        """Those that are still to be taken in."""
        return set(self.queries.scalars(statements.IN_PROGRESS_AMONG, {"seqs": [*seqs]}))

    def update_if_in_progress(self, seq: int, changes: Values) -> Record | None:
        """Change the file if it is still to be taken in."""
        query = statements.update_where(self.table, "seq", "status")
        wanted = {"at_seq": seq, "at_status": "in_progress"}
        return self.queries.first(query, {**wanted, **changes})

    def stores_with_text(self) -> set[str]:
        """The stores that have any file that can be found."""
        return set(self.queries.scalars(statements.STORES_WITH_TEXT))

    def completed_in(self, store_id: str, now: int) -> set[str]:
        """The files of a store that can be found."""
        return self.completed_ids([store_id], now)

    def ingest_again(self, store_id: str, file_ids: Collection[str]) -> None:
        """Have completed ones be as they were before."""
        wanted = {"store": store_id, "ids": list(file_ids)}
        self.queries.run(statements.INGEST_AGAIN, wanted)

    def release_all(self) -> Sequence[int]:
        """Nobody has a claim any more; the `seq` of those that were claimed."""
        return self.queries.scalars(statements.RELEASE_ALL)

    def cancel_batch(self, batch_id: str) -> Sequence[str]:
        """Of a batch, take in no more; the ids of the files that will not come."""
        return self.queries.scalars(statements.CANCEL_BATCH, {"batch": batch_id})

    def drop(self, seq: int) -> None:
        """Delete a row as if it had never been listed."""
        self.queries.run(statements.delete_from(self.table), {"at_seq": seq})

    def drop_all(self, store_id: str) -> None:
        self.queries.run(statements.EMPTY_STORE, {"store": store_id})

    def take_out(self, project: str, file_id: str) -> None:
        """Have no vector store of a project have a file any more, nor, later, their indexes."""
        named = {"project": project, "file": file_id}
        for statement in (
            statements.BURY_IN_STORES,
            statements.REMOVE_FROM_INDEXES,
            statements.TAKE_FROM_STORES,
        ):
            self.queries.run(statement, named)


class FileBatches(Store):
    """Batches; there is no list of them."""

    table = core(tables.FileBatch)
    parent = "vector_store_id"

    def get(self, store_id: str, batch_id: str) -> Record | None:
        return self.first(id=batch_id, vector_store_id=store_id)


class IndexRemovals(Store):
    """What the indexes of vector stores have yet to give up."""

    table = core(tables.IndexRemoval)
    parent = "vector_store_id"

    def oldest(self, most: int, after: int = 0) -> Sequence[Record]:
        """So many of those that came after one."""
        wanted = {"most": most, "after": after}
        return self.queries.all(statements.OLDEST_REMOVALS, wanted)

    def settle(self, seqs: Collection[int]) -> None:
        """They are done."""
        self.queries.run(statements.SETTLE_REMOVALS, {"seqs": list(seqs)})


class KeptAnswers(Store):
    """Answers that are kept for repetitions of their requests, by project and digest of the key."""

    table = core(tables.Idempotency)
    parent = "project_id"

    def get(self, project: str, key: str) -> Record | None:
        return self.first(project_id=project, key=key)

    def drop(self, seq: int) -> None:
        self.queries.run(statements.DROP_KEPT, {"at_seq": seq})

    def prune(self, before: int, most: int) -> int:
        """Delete at most so many of the oldest, if they are as old as that; how many."""
        wanted = {"before": before, "most": most}
        return self.queries.run(statements.PRUNE_KEPT, wanted)

    def beyond(self, most: int) -> Sequence[Record]:
        """The projects (`project_id`) that have more than so many, and by how many (`number`)."""
        return self.queries.all(statements.KEPT_BEYOND, {"most": most})

    def drop_oldest(self, project: str, most: int) -> int:
        """Delete at most so many of a project's oldest; how many."""
        wanted = {"project": project, "most": most}
        return self.queries.run(statements.DROP_OLDEST_KEPT, wanted)


class Stores:
    """All stores over one connection, made when first used.

    `most` is how many rows of a table a project may have, by the table's name.
    """

    def __init__(self, queries: Queries, most: Mapping[str, int]) -> None:
        self.queries = queries
        self._most = most

    @cached_property
    def projects(self) -> Projects:
        return Projects(self.queries)

    @cached_property
    def api_keys(self) -> ApiKeys:
        return ApiKeys(self.queries)

    @cached_property
    def assistants(self) -> Assistants:
        return Assistants(self.queries, self._most.get(Assistants.table.name, 0))

    @cached_property
    def threads(self) -> Threads:
        return Threads(self.queries, self._most.get(Threads.table.name, 0))

    @cached_property
    def messages(self) -> Messages:
        return Messages(self.queries)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.queries)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.queries)

    @cached_property
    def turns(self) -> Turns:
        return Turns(self.queries)

    @cached_property
    def files(self) -> Files:
        return Files(self.queries, self._most.get(Files.table.name, 0))

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self.queries)

    @cached_property
    def upload_parts(self) -> UploadParts:
        return UploadParts(self.queries)

    @cached_property
    def vector_stores(self) -> VectorStores:
        return VectorStores(self.queries, self._most.get(VectorStores.table.name, 0))

    @cached_property
    def vector_store_files(self) -> VectorStoreFiles:
        return VectorStoreFiles(self.queries)

    @cached_property
    def file_batches(self) -> FileBatches:
        return FileBatches(self.queries)

    @cached_property
    def index_removals(self) -> IndexRemovals:
        return IndexRemovals(self.queries)

    @cached_property
    def kept_answers(self) -> KeptAnswers:
        return KeptAnswers(self.queries)
