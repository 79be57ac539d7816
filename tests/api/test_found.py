"""Threads and runs of a whole project, by their metadata and their status."""

from __future__ import annotations

from typing import Any, get_args
from uuid import uuid4

import pytest

from server import schemas
from tests.api.wire import HELLO, Json, World, answer_of, error_of, refused
from tests.covering import covers

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALL_THREADS = "GET /v1/threads"
ALL_RUNS = "GET /v1/threads/runs"
EACH = pytest.mark.parametrize(
    "route",
    [
        pytest.param(route, marks=covers(route, "metadata", "taken", "default"))
        for route in (ALL_THREADS, ALL_RUNS)
    ],
)


async def ids(world: World, route: str, **query: Any) -> list[str]:
    """What is found, newest first."""
    page = answer_of(await world.http.get(route.removeprefix("GET "), params=query))
    return [each["id"] for each in page["data"]]


async def made(world: World, route: str, metadata: Json) -> str:
    """A new thread, or a run of one, with this metadata."""
    if route == ALL_THREADS:
        body: Json = {"metadata": metadata}
        return str(answer_of(await world.http.post("/v1/threads", json=body))["id"])
    thread = {"messages": [HELLO], "metadata": {"of": "the thread"}}
    body = {"assistant_id": world.assistant_id, "thread": thread, "metadata": metadata}
    return str(answer_of(await world.http.post("/v1/threads/runs", json=body))["id"])


@EACH
async def test_those_with_all_the_metadata_are_found(world: World, route: str) -> None:
    """In the order of the list, page by page; a pair that another has does not count."""
    user, other = uuid4().hex, uuid4().hex
    first = await made(world, route, {"user": user, "kind": "a", "a]b": ""})
    await made(world, route, {"user": other, "kind": "a"})
    second = await made(world, route, {"user": user, "kind": "b"})
    third = await made(world, route, {"user": user, "kind": "a"})
    assert await ids(world, route, **{"metadata[user]": user}) == [third, second, first]
    both = {"metadata[user]": user, "metadata[kind]": "a"}
    assert await ids(world, route, **both) == [third, first]
    assert await ids(world, route, **both, limit=1, after=third) == [first]
    assert await ids(world, route, **both, limit=1, order="asc") == [first]
    assert await ids(world, route, **both, before=first) == [third]
    assert await ids(world, route, **both, **{"metadata[a]b]": ""}) == [first]
    assert await ids(world, route, **both, **{"metadata[missing]": ""}) == []
    assert third in await ids(world, route)


@EACH
async def test_metadata_that_has_changed_is_what_counts(world: World, route: str) -> None:
    """And what was deleted is found no more."""
    user = uuid4().hex
    found = {"metadata[user]": user}
    changed = await made(world, route, {"user": user})
    url = f"/v1/threads/{changed}"
    if route == ALL_RUNS:
        run = answer_of(await world.http.get("/v1/threads/runs", params=found))["data"][0]
        url = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    answer_of(await world.http.post(url, json={"metadata": {"user": "somebody else"}}))
    assert await ids(world, route, **found) == []
    answer_of(await world.http.post(url, json={"metadata": {"user": user}}))
    assert await ids(world, route, **found) == [changed]
    answer_of(await world.http.delete("/".join(url.split("/")[:4])))
    assert await ids(world, route, **found) == []


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(route, marks=covers(route, "metadata", "limit", "error"))
        for route in (ALL_THREADS, ALL_RUNS)
    ],
)
async def test_metadata_has_the_limits_that_it_has_elsewhere(world: World, route: str) -> None:
    """Pairs, keys, values, and that it is an object."""
    path = route.removeprefix("GET ")
    nobodys = uuid4().hex
    pairs = {f"metadata[{number}]": nobodys for number in range(16)}
    assert await ids(world, route, **pairs) == []
    assert await ids(world, route, **{f"metadata[{'k' * 64}]": nobodys * 16}) == []
    refused(
        await world.http.get(path, params={**pairs, "metadata[16]": "x"}),
        "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
        "but got an object with 17 properties instead.",
        "metadata",
        "object_above_max_properties",
    )
    refused(
        await world.http.get(path, params={f"metadata[{'k' * 65}]": "x"}),
        "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string with "
        "maximum length 64, but got a string with length 65 instead.",
        f"metadata.{'k' * 65}",
        "property_name_above_max_length",
    )
    refused(
        await world.http.get(path, params={"metadata[key]": "v" * 513}),
        "Invalid 'metadata.key': string too long. Expected a string with maximum length 512, but "
        "got a string with length 513 instead.",
        "metadata.key",
        "string_above_max_length",
    )
    refused(
        await world.http.get(path, params={"metadata": "x"}),
        "Invalid type for 'metadata': expected a metadata object, but got a string instead.",
        "metadata",
        "invalid_type",
    )


@EACH
async def test_an_empty_key_is_a_key(world: World, route: str) -> None:
    """As it is in a body."""
    value = uuid4().hex
    made_so = await made(world, route, {"": value})
    assert await ids(world, route, **{"metadata[]": value}) == [made_so]


@EACH
@pytest.mark.parametrize(
    "name", ["metadat[user]", "metadata[user", "status[]", "thread_id", "Limit", ""]
)
async def test_what_does_not_filter_is_refused(world: World, route: str, name: str) -> None:
    """A list that was asked for under a wrong name would be taken for a part of itself."""
    refused(
        await world.http.get(route.removeprefix("GET "), params={"limit": 1, name: "queued"}),
        f"Unknown parameter: '{name}'.",
        name,
        "unknown_parameter",
    )


@EACH
@pytest.mark.parametrize("name", ["limit", "metadata[user]", "metadata"])
async def test_what_comes_twice_is_refused(world: World, route: str, name: str) -> None:
    """Only one of both could count."""
    refused(
        await world.http.get(route.removeprefix("GET "), params={name: ["1", "2", "2"]}),
        f"Invalid '{name}': expected it at most once, but got it 3 times.",
        name,
        "invalid_value",
    )


async def test_a_status_alone_belongs_to_runs(world: World) -> None:
    """It is one of them; threads have none."""
    both = {"status": ["queued", "in_progress"]}
    twice = await world.http.get("/v1/threads/runs", params=both)
    assert error_of(twice)["param"] == "status"
    of_threads = await world.http.get("/v1/threads", params={"status": "queued"})
    assert error_of(of_threads)["code"] == "unknown_parameter"


@covers(ALL_RUNS, "status", "taken", "default", "limit")
async def test_runs_are_found_by_their_status(world: World) -> None:
    """Beside metadata, or alone."""
    user = uuid4().hex
    run_id = await made(world, ALL_RUNS, {"user": user})
    url = f"{world.server.url}/v1/threads/runs?metadata[user]={user}"
    thread_id = answer_of(await world.http.get(url))["data"][0]["thread_id"]
    async with world.server.sdk() as sdk:
        await sdk.beta.threads.runs.poll(run_id, thread_id=thread_id)
    for status in get_args(schemas.RunStatus):
        wanted = [run_id] if status == "completed" else []
        assert await ids(world, ALL_RUNS, status=status, **{"metadata[user]": user}) == wanted
    assert run_id in await ids(world, ALL_RUNS, status="completed")
    assert run_id not in await ids(world, ALL_RUNS, status="failed")
    refused(
        await world.http.get("/v1/threads/runs", params={"status": "done"}),
        "Invalid value: 'done'. Supported values are: 'queued', 'in_progress', 'requires_action', "
        "'cancelling', 'cancelled', 'failed', 'completed', 'incomplete', and 'expired'.",
        "status",
        "invalid_value",
    )
