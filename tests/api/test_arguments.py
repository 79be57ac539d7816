"""Routes: what an endpoint may want of them, and how what it wants is checked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI
from pydantic import BaseModel, field_validator
from starlette.requests import Request
from starlette.responses import Response

from server.api.body import BodyLimits
from server.api.refusals import Refusals
from server.api.route import LONG, WireRoute


async def of_nothing() -> str:
    """A dependency that does not take the request."""
    return ""


async def of_request(endpoint_request: Request) -> str:
    """A dependency as it should be."""
    return endpoint_request.method


def test_a_dependency_that_does_not_take_the_request_is_refused() -> None:
    """FastAPI would call it; this route would not know how."""
    router = APIRouter(route_class=WireRoute)

    async def endpoint(found: Annotated[str, Depends(of_nothing)]) -> Response:
        return Response(found)

    with pytest.raises(TypeError, match="of_nothing"):
        router.get("/")(endpoint)


async def with_cookie(session: Annotated[str, Cookie()]) -> Response:
    """Wants a cookie."""
    return Response(session)


async def with_number(number: int) -> Response:
    """Wants a number of the path."""
    return Response(str(number))


async def with_request(request: Request) -> Response:
    """Wants the request itself."""
    return Response(request.method)


def not_async(found: Annotated[str, Depends(of_request)]) -> Response:
    """Would hold up the loop, or need a thread."""
    return Response(found)


@pytest.mark.parametrize("endpoint", [with_cookie, with_number, with_request, not_async])
def test_what_an_endpoint_cannot_have(endpoint: Callable[..., Any]) -> None:
    """It would be missing, or not what it says, when the first request comes."""
    with pytest.raises(TypeError):
        APIRouter(route_class=WireRoute).get("/{number}")(endpoint)


class Checked(BaseModel):
    """Says in which thread it was checked."""

    text: str

    @field_validator("text")
    @classmethod
    def _thread(cls, text: str) -> str:
        return threading.current_thread().name


async def with_body(body: Checked) -> Response:
    """Answers with the body."""
    return Response(body.text)


@pytest.mark.parametrize("length", [1, LONG], ids=["short", "long"])
async def test_a_long_body_holds_up_nobody(length: int) -> None:
    """It is checked beside the event loop; one that is short takes less time than the way there."""
    app = FastAPI()
    app.state.body_limits = BodyLimits()
    app.state.refusals = Refusals()
    router = APIRouter(route_class=WireRoute)
    router.post("/")(with_body)
    app.include_router(router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post("/", json={"text": "x" * length})
    assert (answer.text == threading.current_thread().name) == (length < LONG)
