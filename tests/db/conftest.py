"""A database of its own for each test, built by the migrations."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import failpoints
from server.clock import SystemClock
from server.db.database import Database
from server.db.migrate import upgrade
from server.db.stores import Record
from server.ids import RandomIds
from tests.db import rows


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "assistants.db"
    upgrade(path)
    return path


@pytest.fixture
def path(migrated: Path, tmp_path: Path) -> Path:
    """The file of this test's database."""
    return Path(shutil.copy(migrated, tmp_path / "assistants.db"))


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    """An open database that gives up soon when another process holds it."""
    database = Database(path, SystemClock(), RandomIds(), busy_timeout=0.3)
    yield database
    database.close()


@pytest.fixture
async def thread(db: Database) -> Record:
    """A thread that is already there."""
    return await db.write(rows.thread)


@pytest.fixture
def failpoint() -> Iterator[Callable[[str], None]]:
    """Arm a failpoint as the environment variable would, for this test only."""
    armed: list[str] = []

    def arm(text: str) -> None:
        armed.append(text.partition("=")[0])
        failpoints.arm_from(text)

    yield arm
    for name in armed:
        failpoints.disarm(name)
