"""The SQL of the stores, as SQLAlchemy statements that are built once.

Building a statement anew costs four times its execution. Those that differ by table or by columns
come from cached functions, the rest are constants; all values are bound when they are executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Delete,
    FromClause,
    Insert,
    Select,
    Table,
    TextClause,
    UnaryExpression,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    union,
    update,
)
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert, ReturningUpdate
from sqlalchemy.sql.operators import custom_op

from server.db import tables
from server.db.tables import (
    AT_WORK,
    CAN_EXPIRE,
    EXPIRES,
    IN_INGESTION,
    IN_QUEUE,
    IS_ACTIVE,
    NAMES_FILES,
    NAMES_STORES,
    PENDING,
    WAITS,
    core,
)

_api_key = core(tables.ApiKey)
_file = core(tables.File)
_kept = core(tables.Idempotency)
_message = core(tables.Message)
_project = core(tables.Project)
_run = core(tables.Run)
_removal = core(tables.IndexRemoval)
_step = core(tables.Step)
_store = core(tables.VectorStore)
_store_file = core(tables.VectorStoreFile)
_thread = core(tables.Thread)
_tombstone = core(tables.Tombstone)
_turn = core(tables.Turn)
_upload = core(tables.Upload)
_upload_part = core(tables.UploadPart)


def _among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """It has one of the values of this list, however many they are.

    A text in a list ends at its first NUL: what is found is known by the row's own value.
    """
    values = func.json_each(bindparam(name, type_=JSON)).table_valued("value", name="given")
    return column.in_(select(values.c.value))


def _without_index(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column, by which SQLite shall not look for rows: a list beside it has few of them.

    It takes any list for 25 values, and an index of all that a project has for a better one.
    """
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def _having(table: Table, names: Iterable[str]) -> list[ColumnElement[bool]]:
    """Its columns of these names have the values given."""
    return [table.c[name] == bindparam(name) for name in names]


def _oldest_of_projects(
    table: Table, waits: TextClause, *where: ColumnElement[bool]
) -> Select[Any]:
    """The oldest row of each project of those that wait, and of which the conditions are true.

    Of a long queue only these are looked at, project by project.
    """
    first = select(func.min(table.c.project_id).label("id")).where(waits)
    waiting = first.cte("waiting", recursive=True)
    following = first.where(table.c.project_id > waiting.c.id).scalar_subquery()
    waiting = waiting.union_all(select(following).where(waiting.c.id.is_not(None)))
    oldest = (
        select(table.c.seq)
        .where(waits, table.c.project_id == waiting.c.id, *where)
        .order_by(table.c.seq)
        .limit(1)
        .correlate(waiting)
        .scalar_subquery()
    )
    return select(table).select_from(waiting.join(table, table.c.seq == oldest))


@cache
def insert_into(table: Table) -> ReturningInsert[Any]:
    return insert(table).returning(table)


@cache
def insert_many_into(table: Table) -> Insert:
    return insert(table)


@cache
def equal(table: Table, *names: str) -> Select[Any]:
    """The rows whose columns of these names have the values given, oldest first."""
    return select(table).where(*_having(table, names)).order_by(table.c.seq)


def update_of(table: Table) -> ReturningUpdate[Any]:
    """Of the row at `at_seq`."""
    return update_where(table, "seq")


@cache
def number_in(table: Table) -> Select[Any]:
    """How many rows a project has, counted up to `most`."""
    own = table.c.project_id == bindparam("project")
    found = select(table.c.seq).where(own).limit(bindparam("most")).subquery()
    return select(func.count()).select_from(found)


@cache
def update_where(table: Table, *names: str) -> ReturningUpdate[Any]:
    """Of the rows whose columns of these names have the values `at_<name>`."""
    same = (table.c[name] == bindparam(f"at_{name}") for name in names)
    return update(table).where(*same).returning(table)


@cache
def delete_from(table: Table) -> ReturningDelete[Any]:
    """Of the row at `at_seq`; returns its id."""
    return delete(table).where(table.c.seq == bindparam("at_seq")).returning(table.c.id)


@cache
def between(
    table: Table,
    parent: str,
    order: str,
    after: bool,
    before: bool,
    *where: ColumnElement[bool],
    same: tuple[str, ...] = (),
) -> Select[Any]:
    """At most `most` rows under `parent`, from the cursor on: backwards from a lone `before`.

    Of those of which the conditions are true, and whose columns `same` have the values given.
    """
    query = select(table).where(table.c[parent] == bindparam("parent"), *where)
    query = query.where(*_having(table, same))
    return _part(query, table.c.seq, order, after, before)


@cache
def between_labelled(
    table: Table,
    pairs: Table,
    number: int,
    order: str,
    after: bool,
    before: bool,
    same: tuple[str, ...] = (),
) -> Select[Any]:
    """The same of a project's rows whose metadata has all of `key0`, `value0`, `key1` and so on.

    The pairs lead to the rows, in order, so that no other row is looked at.
    """
    first, *others = (pairs.alias(f"pair{i}") for i in range(number))
    source = first.join(table, table.c.seq == first.c.seq)
    for pair in others:
        source = source.join(pair, pair.c.seq == first.c.seq)
    query = select(table).select_from(source).where(*_having(table, same))
    for i, pair in enumerate((first, *others)):
        query = query.where(
            pair.c.project_id == bindparam("parent"),
            pair.c.key == bindparam(f"key{i}"),
            pair.c.value == bindparam(f"value{i}"),
        )
    return _part(query, first.c.seq, order, after, before)


@cache
def pairs_of(pairs: Table) -> Delete:
    """Delete those of the row at `at_seq`."""
    return delete(pairs).where(pairs.c.seq == bindparam("at_seq"))


def _part(query: Select[Any], seq: Any, order: str, after: bool, before: bool) -> Select[Any]:
    ascending, backwards = order == "asc", before and not after
    if after:
        query = query.where(_beyond(seq, "after", ascending))
    if before:
        query = query.where(_beyond(seq, "before", not ascending))
    first = seq.asc() if ascending != backwards else seq.desc()
    return query.order_by(first).limit(bindparam("most"))


def _beyond(seq: Any, cursor: str, upwards: bool) -> Any:
    return seq > bindparam(cursor) if upwards else seq < bindparam(cursor)


@cache
def position(table: Table, parent: str) -> Select[Any]:
    """Where `id` stands in the list under `parent`, or stood before it was deleted.

    That is just before what has been given its `seq` since.
    """
    live = select(table.c.seq).where(
        table.c.id == bindparam("id"), table.c[parent] == bindparam("parent")
    )
    buried = select(_tombstone.c.position - 0.5).where(
        _tombstone.c.id == bindparam("id"), _tombstone.c.scope == bindparam("scope")
    )
    return select(func.coalesce(live.scalar_subquery(), buried.scalar_subquery()))


def scope(table: Table, parent_id: str) -> str:
    """The name of a list among the tombstones."""
    return f"{table.name}:{parent_id}"


@cache
def spent(*names: str) -> Select[Any]:
    """The sums over the turns whose columns of these names have the values given."""
    c = _turn.c
    counts = (c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.reasoning_tokens)
    sums = (func.coalesce(func.sum(count), 0) for count in counts)
    return select(*sums, func.count()).where(*(c[name] == bindparam(name) for name in names))


_call = func.json_each(_step.c.step_details, "$.tool_calls").table_valued("value", name="call")
_is_unanswered = exists().where(
    func.json_extract(_call.c.value, "$.asked").is_(None),
    func.json_extract(_call.c.value, "$.function.output").is_(None),
)
# A step may fail for the sake of a tool of ours, which is an answer, or before it has one.
_IS_ANSWERED = (_step.c.type == "tool_calls") & or_(
    _step.c.status == "completed",
    (_step.c.status == "failed")
    & (func.json_array_length(_step.c.step_details, "$.tool_calls") > 0)
    & ~_is_unanswered,
)

ROUNDS = select(func.count()).where(_step.c.run_id == bindparam("run"), _IS_ANSWERED)

# Newest first, in the order of an index.
TURNS_SINCE = (
    select(_turn)
    .select_from(_step.join(_turn, _turn.c.step_id == _step.c.id))
    .where(
        _step.c.thread_id == bindparam("thread"),
        _step.c.after_message >= bindparam("oldest"),
        _turn.c.prompt_length > 0,
    )
    .order_by(_step.c.seq.desc(), _turn.c.seq.desc())
    .limit(bindparam("most"))
)

NOTE_USE = (
    update(_api_key).where(_api_key.c.id == bindparam("at_id")).values(last_used_at=bindparam("at"))
)

BURY = insert(_tombstone).prefix_with("OR REPLACE")  # a file may be added and removed again
FORGET = delete(_tombstone).where(_tombstone.c.scope == bindparam("scope"))

THREADS_AMONG = select(_thread.c.id).where(_among(_thread.c.id, "ids"))
_other_run = _run.alias("other_run")
_newest_run = (
    select(func.coalesce(func.max(_other_run.c.seq), 0))
    .where(_other_run.c.thread_id == bindparam("thread"))
    .scalar_subquery()
)
_policy_of_project = (
    select(_project.c.busy_policy).where(_project.c.id == bindparam("project")).scalar_subquery()
)
THREAD_AND_RUN: Select[Any] = (
    select(
        _thread.c.seq,
        _run.c.id.label("run_id"),
        _newest_run.label("newest_run"),
        _policy_of_project.label("busy_policy"),
    )
    .select_from(_thread.outerjoin(_run, (_run.c.thread_id == _thread.c.id) & AT_WORK))
    .where(_thread.c.id == bindparam("thread"), _thread.c.project_id == bindparam("project"))
)

# Not what waits or is still written, nor what a run that failed left behind.
_SPOKEN = (
    ~_message.c.held
    & (_message.c.status != "in_progress")
    & or_(
        _message.c.incomplete_details.is_(None),
        _message.c.incomplete_details["reason"].as_string() != "run_failed",
    )
)
SPOKEN_BEFORE_RUN = (
    select(_message)
    .where(
        _message.c.thread_id == bindparam("thread"),
        _message.c.run_id.is_distinct_from(bindparam("run")),
        _SPOKEN,
    )
    .order_by(_message.c.seq.desc())
    .limit(bindparam("most"))
)
SPOKEN_BY_RUN = (
    select(_message).where(_message.c.run_id == bindparam("run"), _SPOKEN).order_by(_message.c.seq)
)


def _made_by_request(table: FromClause) -> ColumnElement[bool]:
    """The rows of a thread that this request made, and that no later retry of it was given."""
    return (
        (table.c.thread_id == bindparam("thread"))
        & (table.c.request_hash == bindparam("hash"))
        & (table.c.given_to < bindparam("number"))
        & (table.c.created_at >= bindparam("since"))
    )


def _given(table: Table, chosen: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """Note the number of the retry that is given this row."""
    return update(table).where(chosen).values(given_to=bindparam("number")).returning(table)


_same = _message.alias("same")
_newest_same = (
    select(_same.c.seq)
    .where(_made_by_request(_same), _same.c.after_run == _newest_run)
    .order_by(_same.c.seq.desc())
    .limit(1)
)
_is_answered = exists().where(
    _message.c.thread_id == bindparam("thread"), _message.c.after_run >= _run.c.seq
)
# Once a run came after the message, or a caller's message after the run, the conversation has gone
# on, and the same request is another one.
GIVE_MESSAGE = _given(_message, _message.c.seq == _newest_same.scalar_subquery())
GIVE_RUN = _given(_run, (_run.c.seq == _newest_run) & _made_by_request(_run) & ~_is_answered)

NEWEST_MESSAGE = select(func.max(_message.c.seq)).where(_message.c.thread_id == bindparam("thread"))

IS_SHOWN = ~_message.c.held
HELD_MESSAGES = (
    select(_message)
    .where(WAITS, _message.c.thread_id == bindparam("thread"))
    .order_by(_message.c.seq)
)
HELD_RUNS = select(_run).where(WAITS, _run.c.thread_id == bindparam("thread")).order_by(_run.c.seq)

ACTIVE_IN_THREAD = select(_run).where(_run.c.thread_id == bindparam("thread"), AT_WORK)


def _number_of(*where: ColumnElement[bool] | TextClause) -> Select[Any]:
    """How many runs, counted up to `most`."""
    found = select(_run.c.seq).where(*where).limit(bindparam("most")).subquery()
    return select(func.count()).select_from(found)


# Each looks at no more rows of an index than it may count.
NUMBER_QUEUED = _number_of(IS_ACTIVE, _run.c.status == "queued")
NUMBER_QUEUED_OF = _number_of(_run.c.status == "queued", _run.c.project_id == bindparam("project"))
NUMBER_AT_WORK_OF = _number_of(AT_WORK, _run.c.api_key_id.is_not_distinct_from(bindparam("key")))
OLDEST_IN_QUEUE = _oldest_of_projects(_run, IN_QUEUE, _among(_run.c.model_id, "models"))
IN_PROGRESS_BY_PROJECT = (
    select(_run.c.project_id, func.count().label("number"))
    .where(IS_ACTIVE, _run.c.status == "in_progress")
    .group_by(_run.c.project_id)
)
QUEUED_FOR = (
    select(_run)
    .where(AT_WORK, _run.c.status == "queued", _run.c.model_id == bindparam("model"))
    .order_by(_run.c.seq)
    .limit(bindparam("most"))
)
MODELS_WAITED_FOR = select(_run.c.model_id).where(AT_WORK, _run.c.status == "queued").distinct()
ALL_ACTIVE = select(_run).where(IS_ACTIVE).order_by(_run.c.seq)
COUNT_ACTIVE = (
    select(_run.c.model_id, _run.c.status, func.count())
    .where(IS_ACTIVE)
    .group_by(_run.c.model_id, _run.c.status)
)

# Newest first.
ANSWERED_CALLS = (
    select(_step)
    .where(
        _step.c.thread_id == bindparam("thread"),
        _IS_ANSWERED,
        _step.c.after_message >= bindparam("oldest"),
    )
    .order_by(_step.c.seq.desc())
)
NEWEST_SEARCH = (
    select(_step)
    .where(
        _step.c.thread_id == bindparam("thread"),
        _step.c.type == "tool_calls",
        or_(_step.c.status == "completed", _step.c.status == "failed"),
        exists().where(
            func.json_extract(_call.c.value, "$.type") == "file_search",
            func.json_extract(_call.c.value, "$.asked").is_not(None),
        ),
    )
    .order_by(_step.c.seq.desc())
    .limit(1)
)
ANY_CODE_RUN = select(
    exists().where(
        _step.c.thread_id == bindparam("thread"),
        _step.c.type == "tool_calls",
        exists().where(
            func.json_extract(_call.c.value, "$.type") == "code_interpreter",
            func.json_extract(_call.c.value, "$.asked.problem") == "",
        ),
    )
)


def kept_at(now: Any) -> ColumnElement[bool]:
    """The files that have not expired."""
    return or_(_file.c.expires_at.is_(None), _file.c.expires_at > now)


def overdue(now: Any) -> Select[Any]:
    """The ids of files that have expired, and were not swept away yet."""
    return select(_file.c.id).where(EXPIRES, _file.c.expires_at <= now)


IS_KEPT = kept_at(bindparam("now"))
FILE = select(_file).where(
    _file.c.id == bindparam("id"), _file.c.project_id == bindparam("project_id"), IS_KEPT
)
EXPIRED_FILES = (
    select(_file)
    .where(EXPIRES, _file.c.expires_at <= bindparam("now"))
    .order_by(_file.c.expires_at)
    .limit(bindparam("most"))
)
OVERDUE_UPLOADS = (
    select(_upload)
    .where(PENDING, _upload.c.expires_at <= bindparam("now"))
    .order_by(_upload.c.expires_at)
    .limit(bindparam("most"))
)
PRUNE_UPLOADS = delete(_upload).where(
    _upload.c.seq.in_(
        select(_upload.c.seq)
        .where(_upload.c.status != "pending", _upload.c.expires_at <= bindparam("before"))
        .order_by(_upload.c.seq)
        .limit(bindparam("most"))
    )
)
SIZE_OF_PARTS = select(func.count(), func.coalesce(func.sum(_upload_part.c.bytes), 0)).where(
    _upload_part.c.upload_id == bindparam("upload")
)
STORED_IN = select(
    select(func.coalesce(func.sum(_file.c.bytes), 0))
    .where(_file.c.project_id == bindparam("project"))
    .scalar_subquery()
    + select(func.coalesce(func.sum(_upload_part.c.bytes), 0))
    .select_from(_upload.join(_upload_part, _upload_part.c.upload_id == _upload.c.id))
    .where(PENDING, _upload.c.project_id == bindparam("project"))
    .scalar_subquery()
)
DROP_PARTS = (
    delete(_upload_part)
    .where(_upload_part.c.upload_id == bindparam("upload"))
    .returning(_upload_part.c.sha256)
)

IS_NAMED = select(
    or_(
        exists().where(_file.c.sha256 == bindparam("digest")),
        exists().where(_upload_part.c.sha256 == bindparam("digest")),
    )
)
NAMED = union(select(_file.c.sha256), select(_upload_part.c.sha256))
NAMED_AMONG = union(
    select(_file.c.sha256).where(_among(_file.c.sha256, "digests")),
    select(_upload_part.c.sha256).where(_among(_upload_part.c.sha256, "digests")),
)


FILES_AMONG = select(_file).where(
    _among(_file.c.id, "ids"),
    _without_index(_file.c.project_id) == bindparam("project_id"),
    IS_KEPT,
)


@cache
def tally(owner: str) -> Select[Any]:
    """By owner, a vector store or a batch, and status: how many files, and their bytes."""
    column = _store_file.c[owner]
    return (
        select(
            column.label("owner"),
            _store_file.c.status,
            func.count().label("number"),
            func.sum(_store_file.c.usage_bytes).label("usage_bytes"),
        )
        .where(_among(column, "owners"))
        .group_by(column, _store_file.c.status)
    )


@cache
def tally_overdue(owner: str) -> Select[Any]:
    """The same of the files that have expired."""
    overdue_at = overdue(bindparam("now"))
    return tally(owner).where(_store_file.c.id.in_(overdue_at))


IS_IN_STORE = _store_file.c.id.not_in(overdue(bindparam("now")))
STORE_FILE = select(_store_file).where(
    _store_file.c.id == bindparam("id"),
    _store_file.c.vector_store_id == bindparam("store"),
    IS_IN_STORE,
)
IN_STORE_AMONG = select(_store_file).where(
    _among(_store_file.c.id, "ids"),
    _store_file.c.vector_store_id == bindparam("store"),
)
COMPLETED_AMONG = (
    select(_store_file, _file.c.filename)
    .select_from(_store_file.join(_file, _file.c.id == _store_file.c.id))
    .where(
        _among(_store_file.c.vector_store_id, "stores"),
        _among(_store_file.c.id, "ids"),
        _store_file.c.status == "completed",
        IS_KEPT,
    )
)
IDS_COMPLETED = (
    select(_store_file.c.id)
    .select_from(_store_file.join(_file, _file.c.id == _store_file.c.id))
    .where(
        _among(_store_file.c.vector_store_id, "stores"),
        _store_file.c.status == "completed",
        IS_KEPT,
    )
    .distinct()
)
STORES_WITH_TEXT = (
    select(_store_file.c.vector_store_id).where(_store_file.c.status == "completed").distinct()
)
COUNT_TO_INGEST = select(func.count()).select_from(_store_file).where(IN_INGESTION)
OLDEST_TO_INGEST = _oldest_of_projects(_store_file, IN_INGESTION)
OLDEST_TO_INGEST_AMONG = (
    select(_store_file)
    .where(IN_INGESTION, _among(_store_file.c.seq, "seqs"))
    .order_by(_store_file.c.seq)
    .limit(1)
)
IN_PROGRESS_AMONG = select(_store_file.c.seq).where(
    _store_file.c.status == "in_progress",
    _among(_store_file.c.seq, "seqs"),
)
INGEST_AGAIN = (
    update(_store_file)
    .where(
        _store_file.c.vector_store_id == bindparam("store"),
        _among(_store_file.c.id, "ids"),
        _without_index(_store_file.c.status) == "completed",
    )
    .values(status="in_progress", usage_bytes=0, attempts=0)
)
RELEASE_ALL = (
    update(_store_file)
    .where(_store_file.c.claimed)
    .values(claimed=False)
    .returning(_store_file.c.seq)
)
CANCEL_BATCH = (
    update(_store_file)
    .where(_store_file.c.batch_id == bindparam("batch"), _store_file.c.status == "in_progress")
    .values(status="cancelled", claimed=False)
    .returning(_store_file.c.id)
)

USABLE_STORES = select(_store.c.id).where(_store.c.expired.is_(False))
IS_BUSY = select(
    exists().where(
        _store_file.c.vector_store_id == bindparam("store"), _store_file.c.status == "in_progress"
    )
)
EXPIRED_STORES = (
    select(_store)
    .where(CAN_EXPIRE, _store.c.expires_at <= bindparam("now"))
    .order_by(_store.c.expires_at)
    .limit(bindparam("most"))
)
TOUCH = (
    update(_store)
    .where(
        _among(_store.c.id, "ids"),
        _without_index(_store.c.project_id) == bindparam("project"),
        _store.c.last_active_at < bindparam("at"),
        or_(_store.c.expires_at.is_(None), _store.c.expires_at > bindparam("at")),
    )
    .values(
        last_active_at=bindparam("at"),
        expires_at=_store.c.expires_at + bindparam("at") - _store.c.last_active_at,
    )
)

OLDEST_REMOVALS = (
    select(_removal)
    .where(_removal.c.seq > bindparam("after"))
    .order_by(_removal.c.seq)
    .limit(bindparam("most"))
)
SETTLE_REMOVALS = delete(_removal).where(_among(_removal.c.seq, "seqs"))

_oldest_kept = select(_kept.c.seq).order_by(_kept.c.seq).limit(bindparam("most"))
DROP_KEPT = delete(_kept).where(_kept.c.seq == bindparam("at_seq"))
PRUNE_KEPT = delete(_kept).where(
    _kept.c.seq.in_(_oldest_kept), _kept.c.created_at <= bindparam("before")
)
KEPT_BEYOND = (
    select(_kept.c.project_id, (func.count() - bindparam("most")).label("number"))
    .group_by(_kept.c.project_id)
    .having(func.count() > bindparam("most"))
)
DROP_OLDEST_KEPT = delete(_kept).where(
    _kept.c.seq.in_(
        select(_kept.c.seq)
        .where(_kept.c.project_id == bindparam("project"))
        .order_by(_kept.c.seq)
        .limit(bindparam("most"))
    )
)

_of_file = (_store_file.c.id == bindparam("file")) & (
    _store_file.c.project_id == bindparam("project")
)
BURY_IN_STORES = BURY.from_select(
    ["scope", "id", "project_id", "position"],
    select(
        literal(scope(_store_file, "")).concat(_store_file.c.vector_store_id),
        _store_file.c.id,
        _store_file.c.project_id,
        _store_file.c.seq,
    ).where(_of_file),
)
REMOVE_FROM_INDEXES = insert(_removal).from_select(
    ["vector_store_id", "file_id"],
    select(_store_file.c.vector_store_id, _store_file.c.id).where(_of_file),
)
TAKE_FROM_STORES = delete(_store_file).where(_of_file)
EMPTY_STORE = delete(_store_file).where(_store_file.c.vector_store_id == bindparam("store"))


@cache
def take_from(table: Table, resource: str) -> TextClause:
    """Out of the tools' resources of all rows that name it, however many they are.

    `resource` is `code_interpreter.file_ids` or `file_search.vector_store_ids`.
    """
    names = {"code_interpreter.file_ids": NAMES_FILES, "file_search.vector_store_ids": NAMES_STORES}
    path = f"tool_resources, '$.{resource}'"
    return text(
        f"UPDATE {table.name} SET tool_resources = json_set({path}, json(("
        f" SELECT json_group_array(value) FROM json_each({path}) WHERE value <> :id)))"
        f" WHERE project_id = :project AND {names[resource].text}"
        f" AND EXISTS (SELECT 1 FROM json_each({path}) WHERE value = :id)"
    )
