"""Requests that were told to come again: when they do, they repeat nothing that was done.

Without this, the retry of a message that a limit has kept out might be taken for one of the message
before it. Owned by the event loop.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from server import errors
from server.api.body import EMPTY, BodyLimits, read
from server.db.stores import UnknownCursor

RETRIES: Final = "x-stainless-retry-count"
KEPT_FOR: Final = 300.0  # seconds; nobody is told to wait for longer
MOST: Final = 10_000
FEW: Final = BodyLimits(bytes=2**16, timeout=5.0)  # of a body that is read for nothing but this


class Refusals:
    """First sendings that were refused for now, by their fingerprints, until a retry is taken.

    What a request asks for has to be known, since others may have the same key or none: whoever is
    over a limit is heard out, if that is short. A longer one is not noted.
    """

    def __init__(self) -> None:
        self._since = OrderedDict[str, float]()

    async def note(self, request: Request, error: Exception) -> None:
        """A request has failed with this error."""
        if number_of(request) > 0 or not _may_come_again(error):
            return
        if not hasattr(request.state, "body"):
            try:
                request.state.body = await read(request, FEW)
            except errors.WireError:
                return
        asked = fingerprint(request)
        self._since[asked] = time.monotonic()
        self._since.move_to_end(asked)
        if len(self._since) > MOST:
            self._since.popitem(last=False)

    def forget(self, request: Request) -> None:
        """A request has been taken. What was refused long ago is forgotten with it."""
        while self._since and time.monotonic() - next(iter(self._since.values())) > KEPT_FOR:
            self._since.popitem(last=False)
        if self._since:
            self._since.pop(fingerprint(request), None)

    def knows(self, asked: str) -> bool:
        """Whether the first sending of the retry with this fingerprint was refused."""
        since = self._since.get(asked)
        return since is not None and time.monotonic() - since < KEPT_FOR


def number_of(request: Request) -> int:
    """0 for a first sending, else the number of the retry."""
    count = request.headers.get(RETRIES, "0")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0


def caller_of(request: Request) -> bytes:
    """Who asks; whether he may is decided elsewhere."""
    return request.headers.get("authorization", "").encode()


def fingerprint(request: Request) -> str:
    """Of who asks for what: two sendings of one request have the same. The body has been read."""
    known: str | None = getattr(request.state, "fingerprint", None)
    if known is None:
        path, query = request.scope["raw_path"], request.scope["query_string"]
        body = request.state.body or EMPTY
        known = digest(caller_of(request), request.method.encode(), path, query, body)
        request.state.fingerprint = known
    return known


def digest(*parts: bytes) -> str:
    """Of parts that have no NUL, but for the last."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _may_come_again(error: Exception) -> bool:
    """What the SDKs send again: limits, and faults, of which most are not ours to name."""
    if isinstance(error, errors.TooMany | errors.Unavailable | errors.ServerFault):
        return True
    return not isinstance(error, errors.WireError | RequestValidationError | UnknownCursor)
