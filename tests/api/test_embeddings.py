"""`POST /v1/embeddings`, on a scripted model whose vectors count letters."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from server.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from tests.api.wire import answer_of, error_of, letter_counter, refused
from tests.covering import covers
from tests.support import LiveServer, eventually, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTE = "POST /v1/embeddings"
SIZE = SCRIPTED_MODEL.vocabulary


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """A server with a model that writes and one that makes vectors."""
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
    folder = tmp_path_factory.mktemp("embeddings")
    async with live_server(folder, engines=engines) as live:
        yield live


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A bare client."""
    async with server.http() as bare:
        yield bare


async def post(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """Ask for vectors."""
    return await http.post("/v1/embeddings", json={"model": "letters", "input": "aab", **body})


def vector(counts: dict[str, float]) -> list[float]:
    """A vector with these numbers at these letters."""
    found = [0.0] * SIZE
    for letter, count in counts.items():
        found[ord(letter)] = count
    return found


AAB = vector({"a": 2 / 5**0.5, "b": 1 / 5**0.5})


@covers(ROUTE, "answer model input encoding_format", "taken")
@covers(ROUTE, "encoding_format dimensions user", "default")
async def test_a_text_has_a_vector(http: httpx.AsyncClient) -> None:
    """Of length 1, as numbers, with the tokens that were read; no beta header is needed."""
    answer = answer_of(await post(http))
    assert list(answer) == ["object", "data", "model", "usage"]
    assert (answer["object"], answer["model"]) == ("list", "letters")
    (item,) = answer["data"]
    assert list(item) == ["object", "index", "embedding"]
    assert (item["object"], item["index"]) == ("embedding", 0)
    assert item["embedding"] == pytest.approx(AAB, abs=1e-6)
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@covers(ROUTE, "input", "taken")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["aab"], [AAB]),
        (["b", "a"], [vector({"b": 1}), vector({"a": 1})]),
        ([97, 97, 98], [AAB]),
        ([[98], [97, 97, 98]], [vector({"b": 1}), AAB]),
    ],
)
async def test_texts_and_tokens_in_every_form(
    http: httpx.AsyncClient, given: Any, expected: list[list[float]]
) -> None:
    """One vector for each, in their order; an array of tokens is one text."""
    data = answer_of(await post(http, input=given))["data"]
    assert [item["index"] for item in data] == list(range(len(expected)))
    for item, wanted in zip(data, expected, strict=True):
        assert item["embedding"] == pytest.approx(wanted, abs=1e-6)


@covers(ROUTE, "encoding_format", "taken", "limit")
async def test_numbers_as_base64(http: httpx.AsyncClient) -> None:
    """32-bit numbers, the lowest byte first; other formats are refused."""
    (item,) = answer_of(await post(http, encoding_format="base64"))["data"]
    numbers = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
    assert numbers.tolist() == pytest.approx(AAB, abs=1e-6)
    assert error_of(await post(http, encoding_format="int8"))["param"] == "encoding_format"


@covers(ROUTE, "dimensions", "taken", "limit")
async def test_fewer_dimensions(http: httpx.AsyncClient) -> None:
    """The first ones, at length 1 again; more than there are, or none, are refused."""
    (item,) = answer_of(await post(http, dimensions=98))["data"]
    assert item["embedding"] == [0.0] * 97 + [1.0]
    answer_of(await post(http, dimensions=SIZE))
    refused(
        await post(http, dimensions=SIZE + 1),
        f"The model's vectors have {SIZE} dimensions, and not {SIZE + 1}.",
        "dimensions",
        None,
    )
    assert error_of(await post(http, dimensions=0))["param"] == "dimensions"


@covers(ROUTE, "user", "taken")
async def test_a_user_changes_nothing(http: httpx.AsyncClient) -> None:
    """It is for the hosted service."""
    assert answer_of(await post(http, user="me"))["data"] == answer_of(await post(http))["data"]


@covers(ROUTE, "input", "limit", "error")
@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        ([[1], []], "input[1]"),
        ([[]], "input[0]"),
        (["a"] * 2049, "input"),
        ([[1]] * 2049, "input"),
        (["a", 1], "input[1]"),
        ([1, "a"], "input[1]"),
        ([1.5], "input[0]"),
        ({"text": "a"}, "input"),
        (7, "input"),
        (None, "input"),
    ],
)
async def test_what_is_no_text_is_refused(http: httpx.AsyncClient, given: Any, param: str) -> None:
    """By where it stands: empty ones, too many, and what is neither text nor tokens."""
    error = error_of(await post(http, input=given))
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@covers(ROUTE, "input", "limit")
async def test_as_many_texts_as_there_may_be(http: httpx.AsyncClient) -> None:
    """2048 in one request."""
    assert len(answer_of(await post(http, input=["a"] * 2048, dimensions=1))["data"]) == 2048


@covers(ROUTE, "input", "limit")
@pytest.mark.parametrize("longer", ["a", [97]])
async def test_as_many_tokens_as_there_may_be(http: httpx.AsyncClient, longer: Any) -> None:
    """300,000 in all texts of a request, whether they are text or ids."""
    texts = [longer * 3000] * 100
    answer_of(await post(http, input=texts, dimensions=1))
    refused(
        await post(http, input=[*texts, longer], dimensions=1),
        "The texts have more than 300000 tokens together.",
        "input",
        None,
    )


@covers(ROUTE, "model", "error")
async def test_models_that_make_no_vectors(http: httpx.AsyncClient) -> None:
    """One that does not exist, and one that writes, also by its alias."""
    refused(
        await post(http, model="nothing"),
        "The model 'nothing' does not exist",
        "model",
        "model_not_found",
        404,
    )
    for name in ("tiny-assistant", "gpt-4o"):
        message = f"The model '{name}' writes text; it makes no embeddings."
        refused(await post(http, model=name), message, "model", None)


@covers(ROUTE, "input model", "error")
@covers(ROUTE, "encoding_format dimensions user", "error")
async def test_wrong_types_and_missing_keys(http: httpx.AsyncClient) -> None:
    """As everywhere."""
    for name in ("model", "encoding_format", "dimensions", "user"):
        assert error_of(await post(http, **{name: []}))["param"] == name
    for missing in ("model", "input"):
        body = {"model": "letters", "input": "a"}
        del body[missing]
        response = await http.post("/v1/embeddings", json=body)
        assert error_of(response)["param"] == missing


async def test_runs_are_refused_on_a_model_that_makes_vectors(http: httpx.AsyncClient) -> None:
    """When they are created, by the name that was asked for."""
    created = await http.post("/v1/assistants", json={"model": "letters"})
    thread = await http.post(
        "/v1/threads", json={"messages": [{"role": "user", "content": "Hello!"}]}
    )
    run = {"assistant_id": created.json()["id"]}
    refused(
        await http.post(f"/v1/threads/{thread.json()['id']}/runs", json=run),
        "The model 'letters' makes embeddings; it cannot be run.",
        "model",
        None,
    )


async def test_nobody_computes_for_a_client_that_left(tmp_path: Path) -> None:
    """And its model makes room for another."""
    letters = ScriptedEngine(info=letter_counter().info, takes=80)
    engines = {"tiny-assistant": ScriptedEngine(takes=80), "letters": letters}
    async with (
        live_server(tmp_path, engines=engines, models__memory=100) as small,
        small.http() as http,
    ):

        async def state() -> str:
            return small.services.pool.standing("letters").state

        letters.freeze()
        asking = asyncio.create_task(post(http))
        await eventually(state, lambda state: state == "ready")
        asking.cancel()
        chat = {"model": "tiny-assistant", "messages": [{"role": "user", "content": "Hello!"}]}
        answer_of(await http.post("/v1/chat/completions", json=chat))
        assert await state() == "unloaded"


async def test_a_model_that_cannot_be_loaded(server: LiveServer, http: httpx.AsyncClient) -> None:
    """Its reason is told, as a fault that may pass."""
    engine = server.engines["letters"]
    assert isinstance(engine, ScriptedEngine)
    await server.services.pool.close()
    engine.unusable = "letters.gguf is gone."
    error = error_of(await post(http), 503)
    assert (error["type"], error["message"]) == ("server_error", "letters.gguf is gone.")
    engine.unusable = None
    answer_of(await post(http))
