"""Requests that were told to come again: when they do, they repeat nothing that was done.

Without this, the retry of a message that a limit has kept out might be taken for one of the message
before it. Owned by the event loop.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from server import errors
from server.db.stores import UnknownCursor

RETRIES: Final = "x-stainless-retry-count"
KEPT_FOR: Final = 300.0  # seconds; nobody is told to wait for longer
MOST: Final = 10_000


class Refusals:
    """First sendings that were refused for now, by caller and path, until a retry is taken."""

    def __init__(self) -> None:
        self._since = OrderedDict[int, float]()

    def note(self, request: Request, error: Exception) -> None:
        """A request has failed with this error."""
        if number_of(request) > 0 or not _may_come_again(error):
            return
        self._since[_who(request)] = time.monotonic()
        self._since.move_to_end(_who(request))
        if len(self._since) > MOST:
            self._since.popitem(last=False)

    def forget(self, request: Request) -> None:
        """A request has been taken."""
        if self._since:
            self._since.pop(_who(request), None)

    def knows(self, request: Request) -> bool:
        """Whether the first sending of this retry was refused."""
        since = self._since.get(_who(request)) if self._since else None
        return since is not None and time.monotonic() - since < KEPT_FOR


def number_of(request: Request) -> int:
    """0 for a first sending, else the number of the retry."""
    count = request.headers.get(RETRIES, "0")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0


def _who(request: Request) -> int:
    return hash((request.headers.get("authorization"), request.url.path))


def _may_come_again(error: Exception) -> bool:
    """What the SDKs send again: limits, and faults, of which most are not ours to name."""
    if isinstance(error, errors.TooMany | errors.Unavailable | errors.ServerFault):
        return True
    return not isinstance(error, errors.WireError | RequestValidationError | UnknownCursor)
