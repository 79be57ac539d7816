"""JSON bodies: how they are read, what is refused before their schema is asked."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request

from server.api.validation import wrong_type
from server.errors import InvalidRequest, TooSlow, too_large
from server.nesting import deeper_than, more_than

NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
    "valid JSON. If you have trouble figuring out how to fix this, please contact us through our "
    "help center at help.openai.com.)"
)


EMPTY: Final = b"{}"  # what no body at all is taken for
MOST_VALUES: Final = 500_000  # in a body; of empty arrays 16 MiB have five million


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The largest body taken, and how many seconds it may take to arrive.

    The depth must stay below what orjson writes, 254 levels.
    """

    bytes: int = 16 * 2**20
    depth: int = 100
    timeout: float = 60.0


async def read(request: Request, limits: BodyLimits) -> bytes:
    """The whole body."""
    refuse_announced(request, limits.bytes)
    with _told_when_late():
        async with asyncio.timeout(limits.timeout):
            return await _joined(request, limits.bytes)


async def arriving(request: Request, silence: float) -> AsyncIterator[bytes]:
    """The body piece by piece, for as long as there are never so many seconds without any."""
    pieces = request.stream()
    while True:
        with _told_when_late():
            async with asyncio.timeout(silence):
                piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


def refuse_announced(request: Request, most: int, beside: int = 0) -> None:
    """A length that is announced is believed only if it is too large.

    So many bytes `beside` what is limited may belong to the body.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most + beside:
        raise too_large(most, int(announced))


@contextmanager
def _told_when_late() -> Iterator[None]:
    try:
        yield
    except ClientDisconnect:
        raise InvalidRequest("The request's body ended before it was complete.") from None
    except TimeoutError:
        raise TooSlow("The request's body did not arrive in time.") from None


async def _joined(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit, len(body))
    return bytes(body)


def parse(body: bytes, depth: int) -> dict[str, Any]:
    """The object in a body. The parser refuses NaN, infinities and lone surrogates."""
    value = _loaded(body)
    if value in (None, []):
        return {}  # as some clients send where nothing is asked for
    if not isinstance(value, dict):
        raise wrong_type("", "an object", value)
    containers = body.count(b"{") + body.count(b"[")
    if containers + body.count(b",") > MOST_VALUES and more_than(MOST_VALUES, value):
        raise InvalidRequest(
            "The JSON body of your request has too many values in it. "
            f"At most {MOST_VALUES} are taken."
        )
    if containers > depth and deeper_than(depth, value):
        raise InvalidRequest(
            f"The JSON body of your request is nested too deeply. At most {depth} levels are taken."
        )
    return value


def _loaded(body: bytes) -> Any:
    """Without collections of garbage: looking through millions of new values takes a second."""
    gc.disable()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(NOT_JSON) from None
    finally:
        gc.enable()
