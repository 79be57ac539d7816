"""The schema's version: bring a database up to date, keeping a copy of the old file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from server.bundled import bundled_path
from server.db.connection import copy_database, make_private, open_engine


class WrongVersion(Exception):
    """The database was written by a version of the server that this one does not know."""


def upgrade(path: Path) -> None:
    """Bring the file to the newest schema; nothing is changed if a migration fails.

    A file that needs it is first copied beside itself, with its old revision in the name. Raises
    WrongVersion, OSError.
    """
    make_private(path)
    try:
        with open_engine(path, busy_timeout=5.0).connect() as connection:
            _upgrade(connection, path)
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
            raise
        raise WrongVersion(f"{path} is not a database; use another --data-dir") from error


def _upgrade(connection: Connection, path: Path) -> None:
    config = configuration(connection)
    current, newest = revisions(connection, config)
    if current == newest:
        return
    if current is not None:
        _keep(path, path.with_name(f"{path.name}.{current}.bak"))
    command.upgrade(config, "head")


def configuration(connection: Connection) -> Config:
    """Alembic's settings, for this connection."""
    config = Config()
    config.set_main_option("script_location", str(bundled_path("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions(connection: Connection, config: Config) -> tuple[str | None, str | None]:
    """The database's revision and the newest one. Raises WrongVersion for one that is not ours."""
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise WrongVersion(
            f"the database has schema version {current}, which this version of the server does "
            "not know; use the server that wrote it, or another --data-dir"
        )
    return current, script.get_current_head()


def _keep(source: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".part")
    copy_database(source, partial)
    partial.replace(target)
