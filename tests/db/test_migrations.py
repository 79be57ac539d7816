"""The schema's versions: up, down, halfway, and from somewhere else."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from server.bundled import bundled_path
from server.db import migrate
from server.db.connection import open_engine
from server.db.migrate import WrongVersion, upgrade
from server.db.tables import metadata

HEAD = ScriptDirectory(str(bundled_path("migrations"))).get_current_head() or ""
AFTER_HEAD = f"{int(HEAD) + 1:04}"
NEXT = '''"""The next one."""

import sqlalchemy as sa
from alembic import op

revision = "{after}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    {}
'''
REMAKE_THREAD = """with op.batch_alter_table("thread", recreate="always") as thread:
        thread.add_column(sa.Column("title", sa.String(), nullable=True))"""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """A connection of the server's own kind."""
    with open_engine(path, busy_timeout=1.0).connect() as connection:
        yield connection


def dump(path: Path) -> list[str]:
    """All that the file says, as SQL."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


def revision_of(path: Path) -> str:
    """The version that is written in the file."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return str(raw.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def filled(path: Path) -> Path:
    """A database with a thread and a message in it."""
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("INSERT INTO thread VALUES (1, 'thread_1', 'default', 1, '{}', '{}')")
        raw.execute(
            "INSERT INTO message (id, project_id, thread_id, created_at, status, role, content,"
            " attachments, metadata)"
            " VALUES ('msg_1', 'default', 'thread_1', 1, 'completed', 'user', '[]', '[]', '{}')"
        )
    return path


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the server know one more migration, with this body."""
    folder = tmp_path / "migrations"

    def add(body: str) -> None:
        shutil.copytree(bundled_path("migrations"), folder, dirs_exist_ok=True)
        text = NEXT.format(body, head=HEAD, after=AFTER_HEAD)
        (folder / "versions" / "next.py").write_text(text)
        monkeypatch.setattr(migrate, "bundled_path", lambda _: folder)

    return add


def test_from_nothing(tmp_path: Path) -> None:
    """A new file gets the schema that the tables describe; a second time changes nothing."""
    path = tmp_path / "new.db"
    upgrade(path)
    with opened(path) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "render_as_batch": True}
        )
        assert compare_metadata(context, metadata) == []
    before = dump(path)
    upgrade(path)
    assert dump(path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["new.db"]


def test_conditions_of_partial_indexes(path: Path, tmp_path: Path) -> None:
    """The migrations and the tables agree on what the comparison of schemas does not look at."""
    described = tmp_path / "described.db"
    with opened(described) as connection:
        metadata.create_all(connection)
    query = "SELECT name, sql FROM sqlite_master WHERE sql LIKE '% WHERE %' ORDER BY name"
    found = []
    for file in (path, described):
        with contextlib.closing(sqlite3.connect(file)) as raw:
            found.append(raw.execute(query).fetchall())
    names = [
        "ix_assistant_files",
        "ix_assistant_stores",
        "ix_file_expiry",
        "ix_message_held",
        "ix_run_active",
        "ix_run_held",
        "ix_run_key",
        "ix_run_queue",
        "ix_thread_files",
        "ix_thread_stores",
        "ix_upload_pending",
        "ix_vector_store_expiry",
        "ix_vector_store_file_queue",
        "uq_run_active_thread",
    ]
    assert [name for name, _ in found[0]] == names
    assert found[0] == found[1]


def test_down_and_up_again(path: Path) -> None:
    """The first migration can be undone to the last table, and done again."""
    before = dump(path)
    with opened(path) as connection:
        command.downgrade(migrate.configuration(connection), "base")
        left = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {row[0] for row in left} <= {"alembic_version", "sqlite_sequence"}
    upgrade(path)
    assert sorted(dump(path)) == sorted(before)


def test_metadata_leads_to_what_is_there_already(tmp_path: Path) -> None:
    """Threads and runs of an older version are found by it, too."""
    path = tmp_path / "older.db"
    upgrade(path)
    with opened(path) as connection:
        command.downgrade(migrate.configuration(connection), "0006")
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        metadata = """'{"a": "b", "c": ""}'"""
        raw.execute(f"INSERT INTO thread VALUES (7, 'thread_1', 'default', 1, {metadata}, '{{}}')")
        raw.execute("INSERT INTO thread VALUES (8, 'thread_2', 'default', 1, '{}', '{}')")
    upgrade(path)
    with contextlib.closing(sqlite3.connect(path)) as raw:
        found = raw.execute("SELECT * FROM thread_metadata").fetchall()
    assert found == [("default", "a", "b", 7), ("default", "c", "", 7)]


def test_tombstones_outlive_their_new_key(tmp_path: Path) -> None:
    """An id that stood in one list still does, and may now have stood in another."""
    path = tmp_path / "older.db"
    upgrade(path)
    with opened(path) as connection:
        command.downgrade(migrate.configuration(connection), "0003")
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("INSERT INTO tombstone VALUES ('file-1', 'default', 'file:default', 7)")
    upgrade(path)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "INSERT INTO tombstone VALUES ('vector_store_file:vs_1', 'file-1', 'default', 9)"
        )
        found = raw.execute("SELECT scope, position FROM tombstone WHERE id = 'file-1'").fetchall()
    assert sorted(found) == [("file:default", 7), ("vector_store_file:vs_1", 9)]


def test_migration_that_fails(filled: Path, next_migration: Callable[[str], None]) -> None:
    """Nothing of it is kept, although it had already changed the schema; it can be tried again."""
    before = dump(filled)
    next_migration('op.create_table("half", sa.Column("id", sa.Integer()))\n    1 / 0')
    with pytest.raises(ZeroDivisionError):
        upgrade(filled)
    assert dump(filled) == before
    next_migration('op.create_table("whole", sa.Column("id", sa.Integer()))')
    upgrade(filled)
    assert revision_of(filled) == AFTER_HEAD


def test_copy_before_a_migration(filled: Path, next_migration: Callable[[str], None]) -> None:
    """The old file is kept beside the new one, also with what was still in the log."""
    with contextlib.closing(sqlite3.connect(filled)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        with raw:
            raw.execute("UPDATE thread SET created_at = 77")
        before = list(raw.iterdump())
        filled.with_name(f"assistants.db.{HEAD}.bak.part").write_text("left by a crash")
        next_migration('op.create_table("added", sa.Column("id", sa.Integer()))')
        upgrade(filled)
    copy = filled.with_name(f"assistants.db.{HEAD}.bak")
    assert dump(copy) == before
    assert revision_of(copy) == HEAD
    assert revision_of(filled) == AFTER_HEAD


def test_table_made_anew(filled: Path, next_migration: Callable[[str], None]) -> None:
    """A migration that has to rebuild a table does not lose the rows that refer to it."""
    next_migration(REMAKE_THREAD)
    upgrade(filled)
    with contextlib.closing(sqlite3.connect(filled)) as raw:
        assert raw.execute("SELECT id, title FROM thread").fetchall() == [("thread_1", None)]
        assert raw.execute("SELECT id FROM message").fetchall() == [("msg_1",)]
        assert "REFERENCES thread" in "".join(raw.iterdump())


def test_migration_that_leaves_orphans(filled: Path, next_migration: Callable[[str], None]) -> None:
    """Foreign keys are off during a migration, so it is checked before it is kept."""
    before = dump(filled)
    next_migration('op.execute("DELETE FROM thread")')
    with pytest.raises(RuntimeError, match="orphan"):
        upgrade(filled)
    assert dump(filled) == before


def test_database_of_a_later_server(filled: Path) -> None:
    """A revision that this server does not know is refused, and the file left as it is."""
    with contextlib.closing(sqlite3.connect(filled)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    before = dump(filled)
    with pytest.raises(WrongVersion, match="0999"):
        upgrade(filled)
    assert dump(filled) == before


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """Something else under the database's name is refused with the file's path."""
    path = tmp_path / "assistants.db"
    path.write_text("Dear diary, today I am not a database at all. " * 100)
    with pytest.raises(WrongVersion, match=r"assistants\.db"):
        upgrade(path)
