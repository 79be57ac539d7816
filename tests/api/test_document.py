"""Requests that the published document allows, and such that it does not: each gets its answer.

They are made up by schemathesis: from each schema at its limits, and at random. The ids in paths
are those of objects that are there, but where a request would end them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from server.engine.scripted import ScriptedEngine
from tests.api.conftest import one_of_everything
from tests.api.wire import World, letter_counter
from tests.covering import published
from tests.support import DEADLINE, live_server
from tests.timing import little_work

EXAMPLES = int(os.environ.get("ASSISTANTS_FUZZ_EXAMPLES", "5"))  # at random, of each route
MOST_SECONDS = 1.0  # of processor time
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
)

# What a request that the document allows is never refused for.
OF_FORM = {
    "unknown_parameter",
    "array_above_max_length",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "empty_array",
    "empty_string",
    "integer_below_min_value",
    "object_above_max_properties",
    "property_name_above_max_length",
    "string_above_max_length",
}

document = schemathesis.openapi.from_dict(
    deepcopy(published()),
    config=SchemathesisConfig.from_dict(
        {"checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}}}
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One of everything, on a server in a thread of its own: schemathesis waits for answers."""
    begun: Future[tuple[World, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
        folder = tmp_path_factory.mktemp("document")
        async with live_server(folder, engines=engines) as server, server.http() as http:
            world, stop = await one_of_everything(server, http), asyncio.Event()
            begun.set_result((world, asyncio.get_running_loop(), stop))
            await stop.wait()

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(asyncio.run, serve())
        world, loop, stop = begun.result(DEADLINE)
        yield world
        loop.call_soon_threadsafe(stop.set)
        serving.result(DEADLINE)


@document.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_any_request_has_its_answer(case: schemathesis.Case, world: World) -> None:
    """Never a fault of the server, soon, and as the document describes it."""
    on_what_is_there(case, world)
    with little_work(MOST_SECONDS, time.process_time), requests.Session() as session:
        session.trust_env = False
        answer = case.call(world.server.url, session=session, timeout=DEADLINE)
    case.validate_response(answer)
    if case.meta.generation.mode.is_positive and answer.status_code == 400:
        assert answer.json()["error"]["code"] not in OF_FORM


def on_what_is_there(case: schemathesis.Case, world: World) -> None:
    """Have the request name objects and models of the server's, as far as it names any."""
    if case.method != "DELETE":
        case.path_parameters.update(existing(case.path_parameters, world))
    if isinstance(case.body, dict):
        model = "letters" if case.path == "/v1/embeddings" else "gpt-4o"
        named = {"model": model, "assistant_id": world.assistant_id}
        case.body.update({key: named[key] for key in named if isinstance(case.body.get(key), str)})


def existing(parameters: dict[str, Any], world: World) -> dict[str, str]:
    """The ids of what is there, for those of the path."""
    return {name: getattr(world, name) for name in parameters if hasattr(world, name)}
