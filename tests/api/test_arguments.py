"""A route refuses, when the server starts, an endpoint that wants what it cannot give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.api.route import WireRoute


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
