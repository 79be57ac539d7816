"""A route refuses, when the server starts, an endpoint that wants what it cannot give."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends
from starlette.responses import Response

from server.api.route import WireRoute


async def of_nothing() -> str:
    """A dependency that does not take the request."""
    return ""


def test_a_dependency_that_does_not_take_the_request_is_refused() -> None:
    """FastAPI would call it; this route would not know how."""
    router = APIRouter(route_class=WireRoute)

    async def endpoint(found: Annotated[str, Depends(of_nothing)]) -> Response:
        return Response(found)

    with pytest.raises(TypeError, match="of_nothing"):
        router.get("/")(endpoint)
