"""A project and another's ids: each is as unknown as one that never was, wherever it is named.

The places are read from the published document: all parameters of all paths, the cursors, and all
fields of bodies that name something. One that is not known here fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from server.access.keys import NewKey
from server.engine.scripted import ScriptedEngine
from tests.api.conftest import one_of_everything
from tests.api.wire import HELLO, SMALLEST, Json, World, letter_counter
from tests.covering import body_schema, members, routes
from tests.support import eventually, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

Step = str | int
KNOWN = {
    "assistant_id",
    "thread_id",
    "message_id",
    "run_id",
    "step_id",
    "file_id",
    "upload_id",
    "vector_store_id",
    "batch_id",
}
OF_NOBODY = {"model"}  # models are everybody's
NO_NAMES = {
    "order",
    "purpose",
    "filter",
    "include",
    "include[]",
    "limit",
    "metadata",
    "starting_after",
    "status",
}
LISTED = {  # what a cursor names, by the end of its list's path
    "assistants": "assistant_id",
    "messages": "message_id",
    "threads": "thread_id",
    "runs": "run_id",
    "steps": "step_id",
    "vector_stores": "vector_store_id",
    "files": "file_id",
}
AROUND: dict[str, Json] = {  # what an item of an array cannot do without
    "messages": HELLO,
    "additional_messages": HELLO,
    "attachments": {"tools": [{"type": "code_interpreter"}]},
    "content": {"type": "image_file"},
    "files": {},
    "tool_outputs": {},
    "vector_stores": {},
}
# Not looked up when they are sent: a list of an unknown run's messages is empty, ids of calls are
# the caller's own. The answer is the same, and it is not 404.
NOT_LOOKED_UP = ("?run_id", "tool_call_id", "part_ids")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request names something: a parameter of the path or the query, or a field."""

    route: str
    kind: str  # what is named, such as file_id
    path: tuple[Step, ...] = ()
    query: str = ""

    def __str__(self) -> str:
        fields = ".".join(str(step) for step in self.path if step != 0)
        where = fields or (f"?{self.query}" if self.query else self.kind)
        return f"{self.route} {where}"

    @property
    def is_looked_up(self) -> bool:
        """Whether the answer to an unknown one is that it is unknown."""
        return not str(self).endswith(NOT_LOOKED_UP)

    def request(self, own: World, named: str) -> tuple[str, str, dict[str, Any]]:
        """The request of somebody who names this there, and else what is his own."""
        method, _, path = self.route.partition(" ")
        named_in_path = not self.path and not self.query
        world = replace(own, **{self.kind: named}) if named_in_path else own
        options: dict[str, Any] = {}
        if self.query:
            options["params"] = {self.query: named}
        if method == "POST":
            options["json"] = own.own(self._body(own, named))
        return method, world.url(f"{method} {path}"), options

    def _body(self, own: World, named: str) -> Json:
        body = dict(SMALLEST.get(self.route, {}))
        if "assistant_id" in body:
            body["assistant_id"] = own.assistant_id
        if self.path == ("files", 0, "file_id"):
            body.pop("file_ids")  # one of the two
        return merged(body, self.path, named) if self.path else body


def merged(body: Json, path: tuple[Step, ...], named: str) -> Json:
    """The body with the id at a path, and on the way to it what is required there."""
    value: Any = named
    for index in range(len(path) - 1, 0, -1):
        step, outer = path[index], path[index - 1]
        if step == 0:
            value = [value]
        elif outer == 0:
            value = {**AROUND[str(path[index - 2])], step: value}
        else:
            value = {step: value}
    first = str(path[0])
    return {**body, first: {**body[first], **value} if first == "thread" else value}


def places() -> Iterator[Place]:
    """All of the API."""
    for route, operation in routes():
        if " /v1/" not in route:
            continue
        for parameter in operation.get("parameters", ()):
            name, where = parameter["name"], parameter["in"]
            if where == "path" and name not in OF_NOBODY:
                yield Place(route, name)
            if where == "query" and name not in NO_NAMES:
                listed = LISTED[route.rsplit("/", 1)[-1]] if name in ("after", "before") else name
                yield Place(route, listed, query=name)
        for path in named_in(body_schema(operation)):
            names = [str(step) for step in path if step != 0]
            yield Place(route, names[-1].removesuffix("s"), path)


def named_in(
    schema: Json, path: tuple[Step, ...] = (), within: tuple[str, ...] = ()
) -> Iterator[tuple[Step, ...]]:
    """The paths of all fields that name something."""
    for member in (each for one in members(schema) for each in members(one)):
        title = member.get("title", "")
        if title and "properties" in member and title in within:
            continue
        for name, field in member.get("properties", {}).items():
            if name.endswith(("_id", "_ids")):
                yield (*path, name, 0) if name.endswith("s") else (*path, name)
            else:
                yield from named_in(field, (*path, name), (*within, title))
        if "items" in member:
            yield from named_in(member["items"], (*path, 0), within)


PLACES = sorted(set(places()), key=str)
CALLS_OF_MODELS = {"tool_call_id", "part_id"}  # named in bodies, and part of something else


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, World]]:
    """Two projects, between which everything is tried."""
    async with two_projects(tmp_path_factory.mktemp("foreign")) as both:
        yield both


@asynccontextmanager
async def two_projects(folder: Path) -> AsyncIterator[tuple[World, World]]:
    """On one server, with one of everything each."""
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
    async with live_server(folder, engines=engines) as server:
        keys, found = server.services.keys, []
        for name in ("ours", "theirs"):
            project = await keys.create_project(name)
            _, secret = await keys.create(NewKey(project=project.id))
            http = server.http()
            http.headers["Authorization"] = f"Bearer {secret}"
            found.append(await one_of_everything(server, http, secret))
        yield found[0], found[1]
        for world in found:
            await world.http.aclose()


async def answered(world: World, place: Place, named: str) -> httpx.Response:
    """What is said to somebody who names this."""
    method, url, options = place.request(world, named)
    answer = await world.http.request(method, url, **options)
    if answer.status_code == 200 and answer.json()["object"] == "thread.run":
        await ended(world, answer.json())
    return answer


async def ended(world: World, run: Json) -> None:
    """Wait for a run that could be created, or the next one on its thread could not."""
    url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"

    async def status() -> str:
        return str((await world.http.get(url)).json()["status"])

    await eventually(status, lambda status: status not in ("queued", "in_progress"))


def told(response: httpx.Response) -> tuple[int, dict[str, str], str]:
    """What of an answer may tell something: all but ids and times."""
    head = {
        name: value
        for name, value in response.headers.items()
        if name not in ("date", "x-request-id", "openai-processing-ms", "content-length")
    }
    text = re.sub(r"\b[a-z]+[_-][A-Za-z0-9]{24,32}\b", "ID", response.text)
    return response.status_code, head, re.sub(r"\b\d{10}\b", "TIME", text)


def invented(like: str) -> str:
    """An id of the same form that nobody has."""
    return like[:-8] + "0" * 8


def theirs_of(world: World, place: Place) -> str:
    """What another project has that could be named there."""
    if place.kind in CALLS_OF_MODELS:
        return f"{place.kind.removesuffix('_id')}_{world.run_id[-24:]}"
    return str(getattr(world, place.kind))


async def test_every_name_is_known() -> None:
    """A route, a parameter or a field that names something new has to be thought of here."""
    assert {place.kind for place in PLACES} == KNOWN | CALLS_OF_MODELS
    named = {place.route for place in PLACES}
    without = {route for route, _ in routes() if " /v1/" in route} - named
    assert without == {
        "DELETE /v1/models/{model}",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "POST /v1/embeddings",
        "POST /v1/files",
        "POST /v1/uploads",
    }


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_a_foreign_id_is_as_unknown_as_an_invented_one(
    worlds: tuple[World, World], place: Place
) -> None:
    """The answers are the same to the byte, whatever is done to it: 404, where it is looked up."""
    ours, theirs = worlds
    foreign = theirs_of(theirs, place)
    there = await answered(ours, place, foreign)
    nowhere = await answered(ours, place, invented(foreign))
    assert told(there) == told(nowhere)
    assert (there.status_code == 404) == place.is_looked_up, there.text


@pytest.mark.parametrize(
    "place", [place for place in PLACES if place.route.startswith("GET")], ids=str
)
async def test_what_is_ones_own_is_found(worlds: tuple[World, World], place: Place) -> None:
    """So that what is said of foreign ids is said because they are foreign."""
    ours, _ = worlds
    answer = await ours.http.request(*place.request(ours, str(getattr(ours, place.kind)))[:2])
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "route", [route for route, _ in routes() if "{" in route and "{model}" not in route]
)
async def test_a_foreign_path(worlds: tuple[World, World], route: str) -> None:
    """Nor is anything found where all that a path names is of one other project."""
    ours, theirs = worlds
    method = route.partition(" ")[0]
    body = ours.own(Place(route, "")._body(ours, "")) if method == "POST" else None
    answer = await ours.http.request(method, theirs.url(route), json=body)
    assert answer.status_code == 404


async def test_lists_have_ones_own_only(tmp_path: Path) -> None:
    """What a project reads has all its own ids in it, and none of another's."""
    async with two_projects(tmp_path) as (ours, theirs):
        seen = await everything(ours)
        assert {name for name in KNOWN if getattr(ours, name) in seen} == KNOWN - {"upload_id"}
        assert [name for name in KNOWN if getattr(theirs, name) in seen] == []


async def test_nothing_of_theirs_was_changed(worlds: tuple[World, World]) -> None:
    """Whatever was tried above, and is tried here once more, all of theirs is as it was made."""
    ours, theirs = worlds
    before = await everything(theirs)
    for place in PLACES:
        await answered(ours, place, theirs_of(theirs, place))
    assert await everything(theirs) == before
    assert f'"{theirs.file_id}"' in before


async def everything(world: World) -> str:
    """All that a project can read of its own."""
    found = {}
    for route, _ in routes():
        if route.startswith("GET /v1/") and "/models" not in route and "/events" not in route:
            answer = await world.send(route)
            assert answer.status_code == 200, (route, answer.text)
            found[route] = answer.text
    return json.dumps(found).replace("\\", "")
