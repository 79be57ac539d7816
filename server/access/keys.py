"""The keys: made, found by their secrets, revoked. No secret is kept, only its SHA-256.

All good keys are held in memory, by digest: a request costs no query, a wrong key leaves nothing
behind, and a look-up by digest says nothing by the time it takes. The server is the only process
that writes them, so a key is known, or is not any more, as soon as its commit is durable.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.access.limits import Allowance, Limits, OwnLimits
from server.access.scopes import Scope
from server.clock import Clock
from server.config import BusyPolicy
from server.control import Rejected
from server.db.database import Database, DatabaseBusy, DatabaseFull, Tx
from server.db.stores import Record
from server.db.sweep import Sweeper
from server.ids import LETTERS

log = logging.getLogger(__name__)

DEFAULT_PROJECT = "default"
PREFIX = "sk-"
SECRET_LENGTH = 48  # letters and digits: some 280 bits
HINT_LENGTH = 4
NOTE_USES_EVERY = 60.0  # seconds

Unknown = Literal["project", "key"]


class NoSuch(Rejected):
    """There is no project, or no key, of this id."""

    def __init__(self, kind: Unknown, object_id: str) -> None:
        super().__init__(f"there is no {kind} {object_id}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was not revoked, and what it may still have. `expires_at` is in Unix seconds."""

    id: str
    project: str
    scope: Scope
    expires_at: int | None
    allowance: Allowance


Word = Annotated[str, Field(max_length=256)]  # with a limit, pydantic looks whether it is text


class NewKey(BaseModel):
    """What a key is to be. `lifetime` is in seconds; without one it is good until it is revoked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Word = DEFAULT_PROJECT
    name: Word = ""
    scope: Scope = "all"
    lifetime: Annotated[int, Field(gt=0)] | None = None
    limits: OwnLimits = OwnLimits()


class Keys:
    """The keys of all projects. Owned by the event loop.

    `limits` hold for each key that has none of its own, and for all together who call without one.
    """

    def __init__(self, db: Database, clock: Clock, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.without = Allowance(None, limits, clock.monotonic)
        self._db = db
        self._clock = clock
        self._limits = limits
        self._by_id: dict[str, Key] = {}
        self._good: dict[str, Key] = {}
        self._used: dict[str, int] = {}
        self._any = False
        self._noting = Sweeper(self.note_uses, "key_uses", NOTE_USES_EVERY)

    async def start(self) -> None:
        """Know the keys that there are, and begin to note now and then which are used."""
        for row in await self._db.read(lambda tx: tx.api_keys.every()):
            self._know(row)
        self._noting.start()

    async def stop(self) -> None:
        """Note what was used since the last time."""
        await self._noting.stop()
        with contextlib.suppress(DatabaseBusy, DatabaseFull):  # then it is not known
            await self.note_uses()

    @property
    def required(self) -> bool:
        """Whether callers need one: from the first one on, also when all are revoked or over."""
        return self._any

    def find(self, secret: str) -> Key | None:
        """The good key of this secret, which is in use now."""
        now = self._clock.now()
        key = self._good.get(_digest(secret))
        if key is None or (key.expires_at is not None and key.expires_at <= now):
            return None
        self._used[key.id] = now
        return key

    def charge(self, key_id: str | None, tokens: int) -> None:
        """A model was asked for somebody with this key, or without one, and took so many."""
        key = self._by_id.get(key_id) if key_id else None
        if key is not None:
            key.allowance.charge(tokens)
        elif key_id is None:
            self.without.charge(tokens)

    async def create(self, wanted: NewKey) -> tuple[Record, str]:
        """A new key and its secret, which nobody is told again. Raises NoSuch."""
        secret = PREFIX + secrets.token_bytes(SECRET_LENGTH).translate(LETTERS).decode()
        row = await self._db.write(partial(self._insert, wanted=wanted, secret=secret))
        log.info("key_created", extra={"key_id": row.id, "project": row.project_id})
        return row, secret

    async def revoke(self, key_id: str) -> Record:
        """Whoever calls with it from now on is refused. Raises NoSuch."""
        row = await self._db.write(partial(self._revoke, key_id=key_id))
        log.info("key_revoked", extra={"key_id": row.id, "project": row.project_id})
        return row

    async def all(self) -> Sequence[Record]:
        """Each key that there ever was, oldest first."""
        await self.note_uses()
        return await self._db.read(lambda tx: tx.api_keys.every())

    async def create_project(self, name: str, busy_policy: BusyPolicy | None = None) -> Record:
        """A new project, which has nothing. Without a policy it goes by the server's."""
        values = {"name": name, "busy_policy": busy_policy}
        return await self._db.write(
            lambda tx: tx.projects.insert(
                {"id": tx.ids.new("proj"), "created_at": tx.now, **values}
            )
        )

    async def set_busy_policy(self, project_id: str, policy: BusyPolicy | None) -> Record:
        """What holds from now on where a request has none of its own; None is the server's.

        Raises NoSuch.
        """
        row = await self._db.write(partial(_set_policy, project_id=project_id, policy=policy))
        log.info("busy_policy_set", extra={"project": project_id, "policy": policy})
        return row

    async def projects(self) -> Sequence[Record]:
        """All, oldest first."""
        return await self._db.read(lambda tx: tx.projects.every())

    async def note_uses(self) -> None:
        """Write down when keys were used last; those that nobody has used cost nothing."""
        noted = dict(self._used)
        if noted:
            await self._db.write(lambda tx: tx.api_keys.note_uses(noted))
            used = self._used.items()
            self._used = {key_id: at for key_id, at in used if noted.get(key_id) != at}

    def _insert(self, tx: Tx, wanted: NewKey, secret: str) -> Record:
        if tx.projects.by_id(wanted.project) is None:
            raise NoSuch("project", wanted.project)
        row = tx.api_keys.insert(
            {
                "id": tx.ids.new("key"),
                "project_id": wanted.project,
                "created_at": tx.now,
                "name": wanted.name,
                "sha256": _digest(secret),
                "hint": f"{PREFIX}…{secret[-HINT_LENGTH:]}",
                "scope": wanted.scope,
                "limits": wanted.limits.model_dump(exclude_none=True),
                "expires_at": wanted.lifetime and tx.now + wanted.lifetime,
            }
        )
        tx.after_commit(partial(self._know, row))
        return row

    def _revoke(self, tx: Tx, key_id: str) -> Record:
        row = tx.api_keys.by_id(key_id)
        if row is None:
            raise NoSuch("key", key_id)
        if row.revoked_at is not None:
            return row
        row = tx.api_keys.update(row.seq, {"revoked_at": tx.now})
        tx.after_commit(partial(self._know, row))
        return row

    def _know(self, row: Record) -> None:
        self._any = True
        if row.revoked_at is not None:
            self._good.pop(row.sha256, None)
            self._by_id.pop(row.id, None)
            return
        limits = OwnLimits(**row.limits).over(self._limits)
        allowance = Allowance(row.id, limits, self._clock.monotonic)
        key = Key(row.id, row.project_id, row.scope, row.expires_at, allowance)
        self._good[row.sha256] = self._by_id[row.id] = key


def _set_policy(tx: Tx, project_id: str, policy: BusyPolicy | None) -> Record:
    row = tx.projects.by_id(project_id)
    if row is None:
        raise NoSuch("project", project_id)
    return tx.projects.update(row.seq, {"busy_policy": policy})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
