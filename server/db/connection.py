"""How SQLite is opened, and what its errors mean; transactions are begun and ended by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

_JSON: Final[Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
DIALECT: Final = SQLiteDialect_pysqlite(**_JSON)


class DatabaseBusy(Exception):
    """Another process holds the database; the same unit may succeed later."""


class DatabaseFull(Exception):
    """The disk, or the database's size limit, is full; nothing was written."""


def open_engine(path: Path, busy_timeout: float, *, read_only: bool = False) -> Engine:
    """An engine whose transactions are ours to begin and end. `busy_timeout` is in seconds.

    The driver's own mode begins transactions late and breaks savepoints, hence AUTOCOMMIT.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": busy_timeout},
        poolclass=NullPool,
        **_JSON,
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        if read_only:
            raw.execute("PRAGMA query_only = ON")

    return engine


def make_private(path: Path) -> None:
    """Have the file, for us alone if it is new. What SQLite puts beside it gets the same mode."""
    if not path.exists():
        path.touch(mode=0o600)


def copy_database(source: Path, target: Path) -> None:
    """A file with all that is committed, also in the log, whoever writes meanwhile."""
    target.unlink(missing_ok=True)
    make_private(target)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def driver(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 connection below; the transaction statements cost a tenth there."""
    raw: Any = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def translated(error: Exception) -> Exception:
    """SQLite's words for a locked or full database, as errors of ours; others unchanged."""
    cause = error.orig if isinstance(error, OperationalError) else error
    if not isinstance(cause, sqlite3.OperationalError):
        return error
    match getattr(cause, "sqlite_errorcode", 0) & PRIMARY:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusy(str(cause))
        case sqlite3.SQLITE_FULL:
            return DatabaseFull(str(cause))
    return error


PRIMARY = 0xFF  # an extended result code holds its primary one in the lowest byte


def roll_back(raw: sqlite3.Connection) -> None:
    """End a transaction that is still open."""
    if raw.in_transaction:
        raw.execute("ROLLBACK")
