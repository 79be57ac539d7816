"""What the server's operator does to projects and keys: JSON in, JSON out, by verb.

The command line has it done by the running server, or does it itself where none runs.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from server.access.keys import Keys, NewKey
from server.control import Json, Rejected, Verb
from server.db.stores import Record

_SECRET: Final = frozenset({"seq", "sha256"})


def verbs_of(keys: Keys) -> dict[str, Verb]:
    """The verbs, each with what it takes in its name's place below."""

    async def create_key(asked: Json) -> Json:
        try:
            wanted = NewKey.model_validate(asked)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Rejected(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        row, secret = await keys.create(wanted)
        return {**_shown(row), "secret": secret}

    async def revoke_key(asked: Json) -> Json:
        return _shown(await keys.revoke(asked["id"]))

    async def list_keys(_: Json) -> Json:
        return [_shown(row) for row in await keys.all()]

    async def create_project(asked: Json) -> Json:
        return _shown(await keys.create_project(asked["name"]))

    async def list_projects(_: Json) -> Json:
        return [_shown(row) for row in await keys.projects()]

    return {
        "keys.create": create_key,
        "keys.revoke": revoke_key,
        "keys.list": list_keys,
        "projects.create": create_project,
        "projects.list": list_projects,
    }


def _shown(row: Record) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name not in _SECRET}
