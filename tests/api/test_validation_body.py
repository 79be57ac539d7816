"""How bodies are read: what counts as JSON, what is refused, and that limits hold while reading."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import schemas
from server.api.body import NOT_JSON, BodyLimits
from server.api.refusals import Refusals
from server.api.route import WireRoute
from server.api.validation import to_openai
from server.errors import TooLarge, WireError

JSON = {"content-type": "application/json"}


def told(error: WireError) -> Response:
    """The parts of an error, for the tests to see."""
    status = 413 if isinstance(error, TooLarge) else 400
    return JSONResponse({"message": error.message, "code": error.code}, status)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with small limits that echoes the columns of a thread."""
    app = FastAPI()
    app.state.body_limits = BodyLimits(bytes=1000, depth=10)
    app.state.refusals = Refusals()
    router = APIRouter(route_class=WireRoute)

    @router.post("/threads")
    async def create(body: schemas.CreateThread) -> Response:
        return JSONResponse(body.stored())

    @router.post("/cancel")
    async def cancel() -> Response:
        return JSONResponse({})

    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, WireError)
        return told(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return told(to_openai(error.errors()))

    app.include_router(router)
    app.add_exception_handler(WireError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def test_no_body_is_an_empty_object(client: httpx.AsyncClient) -> None:
    """Some clients send nothing to create a thread with nothing in it."""
    answer = await client.post("/threads")
    assert answer.json() == {"metadata": {}, "tool_resources": {}}
    assert (await client.post("/cancel")).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "text/plain", ""]
)
async def test_a_body_is_json_whatever_its_type_says(client: httpx.AsyncClient, kind: str) -> None:
    """What parses is taken."""
    answer = await client.post(
        "/threads", content=b'{"metadata":{"a":"b"}}', headers={"content-type": kind}
    )
    assert answer.json()["metadata"] == {"a": "b"}


async def test_of_a_key_given_twice_the_last_counts(client: httpx.AsyncClient) -> None:
    """As with most parsers."""
    content = b'{"metadata":{"a":"1"},"metadata":{"a":"2"}}'
    answer = await client.post("/threads", content=content, headers=JSON)
    assert answer.json()["metadata"] == {"a": "2"}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nonsense",
        b'{"metadata":NaN}',
        b'{"metadata":{"a":-Infinity}}',
        rb'{"metadata":{"a":"\ud800"}}',
        b'{"metadata":{"a":"\xff"}}',
        b"{'metadata':{}}",
        b"{} {}",
    ],
)
async def test_what_is_not_json_is_refused_with_the_hosted_apis_text(
    client: httpx.AsyncClient, content: bytes
) -> None:
    """Also numbers that are none, half a surrogate pair, and bytes that are no UTF-8."""
    answer = await client.post("/threads", content=content, headers=JSON)
    assert (answer.status_code, answer.json()) == (400, {"message": NOT_JSON, "code": None})


@pytest.mark.parametrize(
    ("content", "got"), [(b"[{}]", "an array"), (b"true", "a boolean"), (b'"x"', "a string")]
)
async def test_a_body_that_is_no_object_is_refused(
    client: httpx.AsyncClient, content: bytes, got: str
) -> None:
    """Only an object has parameters."""
    answer = await client.post("/threads", content=content, headers=JSON)
    text = f"Invalid type for the request body: expected an object, but got {got} instead."
    assert (answer.status_code, answer.json()) == (400, {"message": text, "code": "invalid_type"})


async def test_faults_in_the_schema_are_told_through_fastapi(client: httpx.AsyncClient) -> None:
    """The body's place in FastAPI's locations does not show."""
    answer = await client.post("/threads", json={"messages": [{"role": "user", "content": 7}]})
    assert answer.json() == {
        "message": "Invalid type for 'messages[0].content': "
        "expected one of a string or array of objects, but got an integer instead.",
        "code": "invalid_type",
    }


async def test_a_body_that_announces_too_much_is_not_read(client: httpx.AsyncClient) -> None:
    """413 from the header alone."""

    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    answer = await client.post(
        "/threads", content=body(), headers={**JSON, "content-length": "1001"}
    )
    text = "Maximum content size limit (1000) exceeded (1001 bytes read)"
    assert (answer.status_code, answer.json()["message"]) == (413, text)


async def test_a_body_that_lies_about_its_length_is_cut_off(client: httpx.AsyncClient) -> None:
    """The limit holds while reading, with a small announced length or none."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 400
        pytest.fail("more was read than the limit")

    for headers in ({"content-length": "5"}, {}):
        answer = await client.post("/threads", content=body(), headers={**JSON, **headers})
        assert answer.status_code == 413


async def test_deep_json_is_refused(client: httpx.AsyncClient) -> None:
    """Ten levels are taken here; an eleventh is not, however it is nested."""
    for deep in (b'{"metadata":' + b"[" * 10 + b"]" * 10 + b"}", b'{"a":' * 11 + b"1" + b"}" * 11):
        answer = await client.post("/threads", content=deep, headers=JSON)
        assert answer.status_code == 400
        assert "nested too deeply. At most 10 levels" in answer.json()["message"]


async def test_many_shallow_values_are_not_deep(client: httpx.AsyncClient) -> None:
    """It is the depth that counts, not the number of objects."""
    messages = [{"role": "user", "content": "x"}] * 20
    assert (await client.post("/threads", json={"messages": messages})).status_code == 200
