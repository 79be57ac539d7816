"""Keys: what is kept of them, and from when until when they are good."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from server.access.keys import Keys, NewKey, NoSuch
from server.db.database import Database
from server.db.migrate import upgrade
from server.ids import RandomIds
from tests.support import ManualClock

NOBODYS = "sk-nobodys"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of this test's database."""
    upgrade(tmp_path / "assistants.db")
    return tmp_path / "assistants.db"


@pytest.fixture
async def db(path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    """An open database."""
    database = Database(path, clock, RandomIds())
    yield database
    database.close()


@pytest.fixture
async def keys(db: Database, clock: ManualClock) -> AsyncIterator[Keys]:
    """The keys of a server that runs on it."""
    found = Keys(db, clock)
    await found.start()
    yield found
    await found.stop()


async def restarted(db: Database, clock: ManualClock) -> Keys:
    """What the next server knows of them."""
    found = Keys(db, clock)
    await found.start()
    return found


async def test_new_key(keys: Keys) -> None:
    """It is good at once, for its project and its scope, and looks like one of OpenAI's."""
    assert not keys.required
    project = await keys.create_project("Ours")
    row, secret = await keys.create(NewKey(project=project.id, scope="read"))
    assert secret.startswith("sk-")
    assert len(secret) == 51
    assert secret[3:].isalnum()
    found = keys.find(secret)
    assert found is not None
    assert (found.id, found.project, found.scope) == (row.id, project.id, "read")
    assert keys.find(NOBODYS) is None
    assert keys.find("") is None
    assert keys.find("sk-\xff\u20ac") is None
    assert keys.required


async def test_nothing_of_a_secret_is_kept(keys: Keys, path: Path) -> None:
    """Neither the database nor its log has it, but its digest, and its last four characters."""
    secrets = [(await keys.create(NewKey()))[1] for _ in range(3)]
    for file in path.parent.iterdir():
        content = file.read_bytes()
        for secret in secrets:
            assert secret[3:-4].encode() not in content
    with closing(sqlite3.connect(path)) as raw:
        hints = [row[0] for row in raw.execute("SELECT hint FROM api_key ORDER BY seq")]
    assert hints == [f"sk-…{secret[-4:]}" for secret in secrets]


async def test_revoked_key(keys: Keys, db: Database, clock: ManualClock) -> None:
    """It is refused as soon as that is written, for good; others are not touched."""
    row, secret = await keys.create(NewKey())
    _, other = await keys.create(NewKey())
    revoked = await keys.revoke(row.id)
    assert revoked.revoked_at == clock.now()
    assert keys.find(secret) is None
    assert keys.find(other) is not None
    clock.advance(60)
    assert (await keys.revoke(row.id)).revoked_at == revoked.revoked_at
    after = await restarted(db, clock)
    assert after.find(secret) is None
    assert after.find(other) is not None
    await after.stop()


async def test_no_key_is_left(keys: Keys, db: Database, clock: ManualClock) -> None:
    """A server whose keys are all revoked is as closed as before, also after a restart."""
    row, _ = await keys.create(NewKey())
    await keys.revoke(row.id)
    assert keys.required
    after = await restarted(db, clock)
    assert after.required
    await after.stop()


async def test_key_that_expires(keys: Keys, clock: ManualClock) -> None:
    """It is good until its time is over, to the second."""
    row, secret = await keys.create(NewKey(lifetime=60))
    assert row.expires_at == clock.now() + 60
    clock.advance(59)
    assert keys.find(secret) is not None
    clock.advance(1)
    assert keys.find(secret) is None


async def test_uses_are_noted_now_and_then(keys: Keys, db: Database, clock: ManualClock) -> None:
    """When a key was used last is known, and written once for however many requests."""
    row, secret = await keys.create(NewKey())
    await keys.create(NewKey())
    writes: list[str] = []

    def note(statement: str) -> None:
        if statement not in ("BEGIN IMMEDIATE", "COMMIT"):
            writes.append(statement)

    assert [each.last_used_at for each in await keys.all()] == [None, None]
    await db.write(lambda tx: tx.queries.raw.set_trace_callback(note))
    for _ in range(1000):
        clock.advance(1)
        assert keys.find(secret) is not None
    assert writes == []
    assert [each.last_used_at for each in await keys.all()] == [clock.now(), None]
    assert len(writes) == 1
    await keys.note_uses()
    assert len(writes) == 1
    assert row.last_used_at is None


async def test_uses_are_noted_at_the_end(db: Database, clock: ManualClock) -> None:
    """Also what was used just before the server stops."""
    keys = await restarted(db, clock)
    _, secret = await keys.create(NewKey())
    clock.advance(5)
    keys.find(secret)
    await keys.stop()
    (row,) = await db.read(lambda tx: tx.api_keys.every())
    assert row.last_used_at == clock.now()


async def test_wrong_keys_leave_nothing_behind(keys: Keys) -> None:
    """A million guesses take no memory."""
    await keys.create(NewKey())
    before = (len(keys._good), len(keys._used))
    for number in range(1000):
        assert keys.find(f"sk-{number}") is None
    assert (len(keys._good), len(keys._used)) == before


async def test_what_does_not_exist(keys: Keys) -> None:
    """Neither a key for a project that is not there, nor one that is not there to be revoked."""
    with pytest.raises(NoSuch, match="there is no project proj_x"):
        await keys.create(NewKey(project="proj_x"))
    with pytest.raises(NoSuch, match="there is no key key_x"):
        await keys.revoke("key_x")
    assert not keys.required
