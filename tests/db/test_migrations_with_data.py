"""Databases of every version, with rows in every table: up, down, and broken off anywhere."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    event,
)

from server.db import migrate
from server.db.connection import open_engine
from server.db.migrate import upgrade

VERSIONS = [
    revision.revision
    for revision in ScriptDirectory.from_config(
        migrate.configuration(None)  # type: ignore[arg-type]  # no connection is needed to list them
    ).walk_revisions()
][::-1]
ROWS = (71, 72)  # beside those that migrations make
KEPT_BY_ALEMBIC = {"alembic_version", "sqlite_sequence"}

Content = dict[str, dict[str, list[object]]]  # by table and column, in the order of the rows


class BrokenOff(Exception):
    """The machine stops here."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """A connection of the server's own kind."""
    with open_engine(path, busy_timeout=1.0).connect() as connection:
        yield connection


def tables_in(connection: Connection) -> list[Table]:
    """As this version has them, parents first."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name not in KEPT_BY_ALEMBIC]


def content_of(path: Path) -> Content:
    """All rows, but for what a migration may number anew."""
    with opened(path) as connection:
        return {
            table.name: {
                column.name: list(connection.scalars(table.select().with_only_columns(column)))
                for column in table.columns
            }
            for table in tables_in(connection)
        }


def fill(path: Path) -> None:
    """Rows in each table, all of whose columns say something."""
    with opened(path) as connection:
        for table in tables_in(connection):
            for number in ROWS:
                values = {column.name: value_of(column, number) for column in table.columns}
                connection.execute(table.insert().values(values))


def value_of(column: Column[Any], number: int) -> object:
    """A value of the column's type, another one in each row; a parent's key is that of its row."""
    for key in column.foreign_keys:
        return value_of(key.column, number)
    if isinstance(column.type, JSON):
        return {"is": [number, column.name]}
    if isinstance(column.type, Boolean):
        return number == ROWS[0]
    if isinstance(column.type, Integer | Float):
        return number
    if isinstance(column.type, LargeBinary):
        return bytes([number])
    return f"{column.table.name} {column.name} {number}"


def go_down(path: Path, version: str) -> None:
    """To an earlier version."""
    with opened(path) as connection:
        command.downgrade(migrate.configuration(connection), version)


def assert_known(kept: Content, before: Content) -> None:
    """What both versions have a place for is the same."""
    for table in kept.keys() & before.keys():
        for column in kept[table].keys() & before[table].keys():
            assert kept[table][column] == before[table][column], f"{table}.{column}"


@pytest.fixture
def older(tmp_path: Path) -> Callable[[str], Path]:
    """Make a database of a version, with rows."""

    def make(version: str) -> Path:
        path = tmp_path / f"{version}.db"
        with opened(path) as connection:
            command.upgrade(migrate.configuration(connection), version)
        fill(path)
        return path

    return make


@pytest.mark.parametrize("version", VERSIONS)
def test_up_from_each_version(version: str, older: Callable[[str], Path]) -> None:
    """Every value is still there."""
    path = older(version)
    before = content_of(path)
    assert all(len(rows) >= len(ROWS) for table in before.values() for rows in table.values())
    upgrade(path)
    after = content_of(path)
    assert before.keys() <= after.keys()
    assert_known(after, before)


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_down_to_each_version_and_up_again(version: str, path: Path) -> None:
    """What the earlier version knows too is kept both ways."""
    fill(path)
    before = content_of(path)
    go_down(path, version)
    earlier = content_of(path)
    assert earlier["run"].keys() <= before["run"].keys()
    assert_known(earlier, before)
    upgrade(path)
    again = content_of(path)
    assert again.keys() == before.keys()
    assert_known({name: again[name] for name in earlier}, earlier)


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_broken_off_at_each_statement(
    version: str, older: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever statement fails, nothing has changed; the next attempt does it all."""
    original = older(version)
    path = tmp_path / "broken.db"
    for number in itertools.count():
        shutil.copy(original, path)
        with monkeypatch.context() as patched:
            passed = fail_at(number, patched)
            try:
                upgrade(path)
            except BrokenOff:
                assert dump(path) == dump(original), f"statement {number}"
                continue
        break
    assert passed() == number, "each statement has failed once"
    migrations = len(VERSIONS) - 1 - VERSIONS.index(version)
    assert number >= 2 * migrations, "each has a statement, and one for its number"
    assert_known(content_of(path), content_of(original))


def fail_at(number: int, patched: pytest.MonkeyPatch) -> Callable[[], int]:
    """Have that one of the writing statements fail; what is returned counts them at the end."""
    count = itertools.count()

    def opening(path: Path, busy_timeout: float) -> Any:
        engine = open_engine(path, busy_timeout)

        @event.listens_for(engine, "before_cursor_execute")
        def look(*call: Any) -> None:
            statement = str(call[2]).lstrip().upper()
            if not statement.startswith(("SELECT", "PRAGMA")) and next(count) == number:
                raise BrokenOff(statement)

        return engine

    patched.setattr(migrate, "open_engine", opening)
    return lambda: next(count)


def dump(path: Path) -> list[str]:
    """All that the file says, as SQL."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())
