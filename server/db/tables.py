"""What is stored. SQLModel tables: no rule, and no wire word that is not a column.

Names and shapes are the wire's (Unix seconds, JSON for unions), so that a row validates as its wire
object. `seq` orders every list; public ids are random. Columns below a table's blank line are ours.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    TextClause,
    text,
)
from sqlmodel import Field, SQLModel

# Indexes and queries share these words: SQLite uses a partial index only for its own condition.
IS_ACTIVE = text("status IN ('queued', 'in_progress', 'requires_action', 'cancelling')")
AT_WORK = text(f"{IS_ACTIVE.text} AND NOT held")
WAITS = text("held")
IN_QUEUE = text("status = 'queued' AND NOT held")
PENDING = text("status = 'pending'")
EXPIRES = text("expires_at IS NOT NULL")
CAN_EXPIRE = text("expires_at IS NOT NULL AND NOT expired")
IN_INGESTION = text("status = 'in_progress' AND NOT claimed")
NAMES_FILES = text("json_array_length(tool_resources, '$.code_interpreter.file_ids') > 0")
NAMES_STORES = text("json_array_length(tool_resources, '$.file_search.vector_store_ids') > 0")

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata: MetaData = SQLModel.metadata


def _json(name: str | None = None, *, nullable: bool = False) -> Any:
    kind = JSON(none_as_null=True)
    column = Column(name, kind, nullable=nullable) if name else Column(kind, nullable=nullable)
    return Field(default=None, sa_column=column)


def _partial(name: str, *columns: str, where: TextClause, unique: bool = False) -> Index:
    """An index of the rows of which a condition is true."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _parent(column: str, *, index: bool = False) -> Any:
    key = ForeignKey(column, ondelete="CASCADE")
    return Field(sa_column=Column(key, nullable=False, index=index))


def _owner(column: str) -> Any:
    """The `seq` of the row that this one is a part of."""
    key = ForeignKey(column, ondelete="CASCADE")
    return Field(sa_column=Column(key, primary_key=True, index=True))


class Project(SQLModel, table=True):
    """Whose objects nobody else sees. `default` is everybody's for as long as there are no keys.

    `busy_policy` holds where a request has none of its own; None is the server's.
    """

    __tablename__ = "project"

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)

    created_at: int
    name: str
    busy_policy: str | None = None


class ApiKey(SQLModel, table=True):
    """A key: the SHA-256 of its secret, and a `hint` by which its owner knows it again.

    The row stays when the key is revoked. `limits` are its own, where it has any.
    """

    __tablename__ = "api_key"

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str = _parent("project.id")

    created_at: int
    name: str
    sha256: str = Field(unique=True)
    hint: str
    scope: str
    limits: dict[str, int] = Field(
        sa_column=Column(JSON(none_as_null=True), nullable=False, server_default="{}")
    )
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class Assistant(SQLModel, table=True):
    """An assistant. A `seq` is never used again: a tombstone may stand at it."""

    __tablename__ = "assistant"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        Index("ix_assistant_files", "project_id", sqlite_where=NAMES_FILES),
        Index("ix_assistant_stores", "project_id", sqlite_where=NAMES_STORES),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str

    created_at: int
    name: str | None = None
    description: str | None = None
    model: str
    instructions: str | None = None
    tools: list[Any] = _json()
    top_p: float | None = None
    temperature: float | None = None
    reasoning_effort: str | None = None
    tool_resources: dict[str, Any] = _json()
    metadata_: dict[str, str] = _json("metadata")
    response_format: Any = _json()


class Thread(SQLModel, table=True):
    """A thread."""

    __tablename__ = "thread"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        Index("ix_thread_files", "project_id", sqlite_where=NAMES_FILES),
        Index("ix_thread_stores", "project_id", sqlite_where=NAMES_STORES),
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str

    created_at: int
    metadata_: dict[str, str] = _json("metadata")
    tool_resources: dict[str, Any] = _json()


class Pair(SQLModel):
    """A pair of a row's metadata, which leads to it without a look at others."""

    __table_args__ = ({"sqlite_with_rowid": False},)

    project_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str = Field(primary_key=True)


class ThreadMetadata(Pair, table=True):
    """Of a thread's."""

    __tablename__ = "thread_metadata"

    seq: int = _owner("thread.seq")


class Run(SQLModel, table=True):
    """A run is also its place in the queue.

    `fence` grows with every claim: a write that carries an older one is refused. `held` runs wait
    their turn behind an active run of their thread. `model_id` is the configured model that `model`
    was resolved to. `shows_results`: its events tell what searches found; `with_thread`: they begin
    with its thread's, which its request made. `worker_deaths` and `restarts` count what the run has
    survived. `api_key_id` is whose limits it counts against, `traceparent` its caller's span.
    `request_hash` tells who asked for it and how, and `given_to` the number of the last of these
    requests that it answered: 0 is the first.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index(None, "thread_id", "seq"),
        Index(None, "project_id", "seq"),
        Index(None, "project_id", "status", "seq"),
        _partial("uq_run_active_thread", "thread_id", where=AT_WORK, unique=True),
        _partial("ix_run_active", "status", "seq", where=IS_ACTIVE),
        _partial("ix_run_queue", "project_id", "seq", where=IN_QUEUE),
        _partial("ix_run_key", "api_key_id", where=AT_WORK),
        _partial("ix_run_held", "thread_id", "seq", where=WAITS),
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str
    thread_id: str = _parent("thread.id")

    created_at: int
    assistant_id: str
    status: str
    started_at: int | None = None
    expires_at: int | None = None
    cancelled_at: int | None = None
    failed_at: int | None = None
    completed_at: int | None = None
    required_action: dict[str, Any] | None = _json(nullable=True)
    last_error: dict[str, Any] | None = _json(nullable=True)
    model: str
    instructions: str | None = None
    tools: list[Any] = _json()
    tool_resources: dict[str, Any] = _json()
    metadata_: dict[str, str] = _json("metadata")
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    truncation_strategy: dict[str, Any] = _json()
    incomplete_details: dict[str, Any] | None = _json(nullable=True)
    usage: dict[str, Any] | None = _json(nullable=True)
    response_format: Any = _json()
    tool_choice: Any = _json()
    parallel_tool_calls: bool

    x_sampling: dict[str, Any] | None = _json(nullable=True)
    shows_results: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    with_thread: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    model_id: str
    held: bool = False
    fence: int = 0
    attempt: int = 0
    lease_owner: str | None = None
    lease_expires_at: int | None = None
    api_key_id: str | None = None
    worker_deaths: int = 0
    restarts: int = 0
    traceparent: str | None = None
    request_hash: str | None = None
    given_to: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class RunMetadata(Pair, table=True):
    """Of a run's."""

    __tablename__ = "run_metadata"

    seq: int = _owner("run.seq")


class Message(SQLModel, table=True):
    """A message of a thread. A `seq` is never used again: tombstones and steps refer to it.

    A caller's has `after_run`, the `seq` of the thread's newest run when it came, 0 without one,
    and `request_hash` and `given_to` as runs have. A `held` one waits, unseen, for the active run
    of its thread to end.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index(None, "thread_id", "seq"),
        _partial("ix_message_held", "thread_id", "seq", where=WAITS),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str
    thread_id: str = _parent("thread.id")

    created_at: int
    assistant_id: str | None = None
    run_id: str | None = Field(default=None, index=True)
    status: str
    incomplete_details: dict[str, Any] | None = _json(nullable=True)
    incomplete_at: int | None = None
    completed_at: int | None = None
    role: str
    content: list[Any] = _json()
    attachments: list[Any] = _json()
    metadata_: dict[str, str] = _json("metadata")

    held: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    after_run: int | None = None
    request_hash: str | None = None
    given_to: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class Step(SQLModel, table=True):
    """A step of a run. `after_message` is the `seq` of the thread's newest message at its start."""

    __tablename__ = "run_step"
    __table_args__ = (Index(None, "run_id", "seq"), Index(None, "thread_id", "seq"))

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str
    thread_id: str = _parent("thread.id")
    run_id: str = _parent("run.id")

    created_at: int
    assistant_id: str
    type: str
    status: str
    cancelled_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    failed_at: int | None = None
    last_error: dict[str, Any] | None = _json(nullable=True)
    step_details: dict[str, Any] = _json()
    usage: dict[str, Any] | None = _json(nullable=True)
    metadata_: dict[str, str] = _json("metadata")

    after_message: int


class Turn(SQLModel, table=True):
    """One model call of a run. Counts are tokens; `token_ids` are little-endian 32-bit integers.

    A step's usage is the sum over its turns, a run's the sum over all of its turns. `text` is what
    the tokens say, markers and all; it followed a prompt of `prompt_length` characters.
    """

    __tablename__ = "turn"
    __table_args__ = (Index(None, "run_id", "ordinal", unique=True),)

    seq: int | None = Field(default=None, primary_key=True)
    run_id: str = _parent("run.id")
    step_id: str | None = Field(default=None, index=True)
    ordinal: int
    created_at: int
    model_fingerprint: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    finish_reason: str
    token_ids: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    prompt_length: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    prompt_digest: str = Field(default="", sa_column_kwargs={"server_default": ""})
    text: str = Field(default="", sa_column_kwargs={"server_default": ""})


class File(SQLModel, table=True):
    """A file: what its client called it, and the digest of its bytes, which others may share.

    A `seq` is never used again: a tombstone may stand at it.
    """

    __tablename__ = "file"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        _partial("ix_file_expiry", "expires_at", where=EXPIRES),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str

    purpose: str
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None = None
    status: str
    status_details: str | None = None

    sha256: str = Field(index=True)


class Upload(SQLModel, table=True):
    """A file that comes in parts. `lifetime` is the finished file's, in seconds.

    `completion` is the digest of what it was completed with.
    """

    __tablename__ = "upload"
    __table_args__ = (_partial("ix_upload_pending", "expires_at", where=PENDING),)

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str

    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    expires_at: int

    mime_type: str
    lifetime: int | None = None
    completion: str | None = None
    file_id: str | None = None


class UploadPart(SQLModel, table=True):
    """A part of a pending upload."""

    __tablename__ = "upload_part"

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    upload_id: str = _parent("upload.id", index=True)

    created_at: int

    bytes: int
    sha256: str = Field(index=True)


class VectorStore(SQLModel, table=True):
    """A vector store. Its status and its files are counted when somebody asks.

    It is over at `expires_at`; `expired` says that its files are gone, which nothing undoes. A
    `seq` is never used again: a tombstone may stand at it.
    """

    __tablename__ = "vector_store"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        _partial("ix_vector_store_expiry", "expires_at", where=CAN_EXPIRE),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str

    created_at: int
    name: str | None = None
    description: str | None = None
    expires_after: dict[str, Any] | None = _json(nullable=True)
    expires_at: int | None = None
    last_active_at: int
    metadata_: dict[str, str] = _json("metadata")

    expired: bool = False


class FileBatch(SQLModel, table=True):
    """Files that were added to a vector store together; its status follows from theirs."""

    __tablename__ = "file_batch"

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    project_id: str
    vector_store_id: str = _parent("vector_store.id", index=True)

    created_at: int

    cancelled: bool = False


class VectorStoreFile(SQLModel, table=True):
    """A file in a vector store, under the file's own id. In progress, it is its place in the queue.

    `claimed` by this process: it is being taken in, or waits to be tried again. `attempts` counts
    how often that was begun. Files that are added anew get another `seq`, and a `seq` is never used
    again, so that it tells one addition from another.
    """

    __tablename__ = "vector_store_file"
    __table_args__ = (
        Index(None, "id", "vector_store_id", unique=True),
        Index(None, "vector_store_id", "seq"),
        Index(None, "vector_store_id", "status", "seq", "usage_bytes"),  # all that counting needs
        Index(None, "batch_id", "seq"),
        _partial("ix_vector_store_file_queue", "project_id", "seq", where=IN_INGESTION),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str
    project_id: str
    vector_store_id: str = _parent("vector_store.id")

    usage_bytes: int = 0
    created_at: int
    status: str
    last_error: dict[str, Any] | None = _json(nullable=True)
    chunking_strategy: dict[str, Any] = _json()
    attributes: dict[str, Any] = _json()

    batch_id: str | None = None
    claimed: bool = False
    attempts: int = 0


class IndexRemoval(SQLModel, table=True):
    """What has left a vector store, and has yet to leave its index: a file, or without one all."""

    __tablename__ = "index_removal"

    seq: int | None = Field(default=None, primary_key=True)
    vector_store_id: str
    file_id: str | None = None


class Idempotency(SQLModel, table=True):
    """The answer that a POST with an `Idempotency-Key` got, to be given again to its repetition.

    `key` is a digest of the key and of who sent it; `object_id` is of what a stream is about.
    """

    __tablename__ = "idempotency"
    __table_args__ = (Index(None, "project_id", "key", unique=True),)

    seq: int | None = Field(default=None, primary_key=True)
    project_id: str
    key: str
    request_hash: str
    object_id: str | None = None
    status_code: int
    response: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: int


class Tombstone(SQLModel, table=True):
    """Where a deleted object stood in its list: a client that deletes as it pages can go on.

    A file has stood in the list of all files, and in those of its vector stores.
    """

    __tablename__ = "tombstone"

    scope: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    project_id: str
    position: int


def core(model: type[SQLModel]) -> Table:
    """The Core table of a model, for statements that need no objects."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table
