"""Models, and the names that stand for them."""

from __future__ import annotations

import pytest

from tests.api.wire import World, answer_of, refused
from tests.covering import covers

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "GET /v1/models/{model}"


@covers("GET /v1/models", "answer", "taken")
async def test_all_models_are_listed_with_their_plain_names(world: World) -> None:
    """The served model first, then the names that applications use for it; no pages."""
    page = answer_of(await world.http.get("/v1/models"))
    assert list(page) == ["object", "data"]
    names = [model["id"] for model in page["data"]]
    assert names[0] == "tiny-assistant"
    assert {"gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo"} <= set(names)
    assert not any("*" in name for name in names)


@covers(MODEL, "answer model", "taken")
@pytest.mark.parametrize("name", ["tiny-assistant", "gpt-4o", "gpt-5-turbo-2031-01-01"])
async def test_a_model_answers_to_its_names(world: World, name: str) -> None:
    """Also to those that only match a pattern; the answer bears the name that was asked for."""
    model = answer_of(await world.http.get(f"/v1/models/{name}"))
    assert model == {
        "id": name,
        "object": "model",
        "created": model["created"],
        "owned_by": "local",
        "context_length": 8192,
        "state": "ready",
        "error": None,
    }


@covers(MODEL, "model", "error")
@covers("DELETE /v1/models/{model}", "model", "error")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["fake_id", "some/other-model"])
async def test_a_model_that_does_not_exist_is_not_found(
    world: World, method: str, name: str
) -> None:
    """The text has no final dot."""
    refused(
        await world.http.request(method, f"/v1/models/{name}"),
        f"The model '{name}' does not exist",
        "model",
        "model_not_found",
        404,
    )


@covers("DELETE /v1/models/{model}", "answer model", "taken")
async def test_a_served_model_cannot_be_deleted(world: World) -> None:
    """It is a file of whoever runs the server."""
    refused(
        await world.http.delete("/v1/models/tiny-assistant"),
        "The model 'tiny-assistant' belongs to this server's configuration and cannot be deleted.",
        "model",
        None,
        403,
    )
    answer_of(await world.http.get("/v1/models/tiny-assistant"))
