"""JSON bodies: how they are read, what is refused before their schema is asked.

`WireRoute` lets an endpoint declare its body as a schema, as with any FastAPI route. A body is JSON
whatever its content type says, and no body at all is an empty object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from server.api.validation import wrong_type
from server.errors import InvalidRequest, TooLarge, TooSlow

NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
    "valid JSON. If you have trouble figuring out how to fix this, please contact us through our "
    "help center at help.openai.com.)"
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The largest body taken, and how many seconds it may take to arrive.

    The depth must stay below what orjson writes, 254 levels.
    """

    bytes: int = 16 * 2**20
    depth: int = 100
    timeout: float = 60.0


class JsonRequest(Request):
    """A request whose body is read and parsed."""

    def __init__(self, request: Request, body: bytes, value: dict[str, Any]) -> None:
        super().__init__(_as_json(request), request.receive)
        self._raw = body
        self._value = value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


class WireRoute(APIRoute):
    """A route whose body is JSON within the limits of `app.state.body_limits`."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        return _parsing(handle) if self.body_field else handle


def _parsing(handle: Handler) -> Handler:
    async def parse_and_handle(request: Request) -> Response:
        limits: BodyLimits = request.app.state.body_limits
        body = await read(request, limits) or b"{}"
        return await handle(JsonRequest(request, body, parse(body, limits.depth)))

    return parse_and_handle


async def read(request: Request, limits: BodyLimits) -> bytes:
    """The whole body. A length that is announced is believed only if it is too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.bytes:
        raise _too_large(limits.bytes, int(announced))
    try:
        async with asyncio.timeout(limits.timeout):
            return await _joined(request, limits.bytes)
    except ClientDisconnect:
        raise InvalidRequest("The request's body ended before it was complete.") from None
    except TimeoutError:
        raise TooSlow("The request's body did not arrive in time.") from None


async def _joined(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit, len(body))
    return bytes(body)


def parse(body: bytes, depth: int) -> dict[str, Any]:
    """The object in a body. The parser refuses NaN, infinities and lone surrogates."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(NOT_JSON) from None
    if not isinstance(value, dict):
        raise wrong_type("", "an object", value)
    if body.count(b"{") + body.count(b"[") > depth and deeper_than(depth, value):
        raise InvalidRequest(
            f"The JSON body of your request is nested too deeply. At most {depth} levels are taken."
        )
    return value


def deeper_than(depth: int, value: Any) -> bool:
    """Goes down level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(depth):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
    return bool(level)


def _too_large(limit: int, size: int) -> TooLarge:
    return TooLarge(f"Maximum content size limit ({limit}) exceeded ({size} bytes read)")


def _as_json(request: Request) -> Scope:
    """The request's scope, with a content type for which FastAPI asks for `json()`."""
    if request.headers.get("content-type") == "application/json":
        return request.scope
    others = [(name, value) for name, value in request.headers.raw if name != b"content-type"]
    return {**request.scope, "headers": [*others, (b"content-type", b"application/json")]}
