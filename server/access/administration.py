"""What the server's operator does to projects and keys: JSON in, JSON out, by verb.

The command line has it done by the running server, or does it itself where none runs.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from server.access.keys import Keys, NewKey, Word
from server.config import BusyPolicy
from server.control import Json, Rejected, Verb
from server.db.stores import Record

Asked = TypeVar("Asked", bound=BaseModel)
_SECRET: Final = frozenset({"seq", "sha256"})


class NewProject(BaseModel):
    """What a project is to be. Without a policy for busy threads it goes by the server's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Word
    busy_policy: BusyPolicy | None = None


class ProjectChange(BaseModel):
    """What a project is to go by from now on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Word
    busy_policy: BusyPolicy | None


class Revocation(BaseModel):
    """Which key is to be good no more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Word


def verbs_of(keys: Keys) -> dict[str, Verb]:
    """The verbs, each with what it takes in its name's place below."""

    async def create_key(asked: Json) -> Json:
        row, secret = await keys.create(_read(NewKey, asked))
        return {**_shown(row), "secret": secret}

    async def revoke_key(asked: Json) -> Json:
        return _shown(await keys.revoke(_read(Revocation, asked).id))

    async def list_keys(_: Json) -> Json:
        return [_shown(row) for row in await keys.all()]

    async def create_project(asked: Json) -> Json:
        wanted = _read(NewProject, asked)
        return _shown(await keys.create_project(wanted.name, wanted.busy_policy))

    async def set_project(asked: Json) -> Json:
        wanted = _read(ProjectChange, asked)
        return _shown(await keys.set_busy_policy(wanted.id, wanted.busy_policy))

    async def list_projects(_: Json) -> Json:
        return [_shown(row) for row in await keys.projects()]

    return {
        "keys.create": create_key,
        "keys.revoke": revoke_key,
        "keys.list": list_keys,
        "projects.create": create_project,
        "projects.set": set_project,
        "projects.list": list_projects,
    }


def _read(kind: type[Asked], asked: Json) -> Asked:
    """Raises Rejected with the first thing that is wrong."""
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Rejected(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _shown(row: Record) -> dict[str, Any]:
    return {name: value for name, value in row._asdict().items() if name not in _SECRET}
