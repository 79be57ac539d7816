"""Web pages that call. Their browser asks first whether they may, and keeps the answers from them
that do not say whose page may read them.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.keys import Keys
from server.access.loopback import is_from_this_machine

METHOD: Final = "access-control-request-method"  # what a browser asks for, and thereby that it asks
HEADERS: Final = "access-control-request-headers"
REMEMBERED: Final = "7200"  # seconds; some browsers take no more


class Browsers:
    """Answers what browsers ask. That a page may read an answer is told by `answer_headers`.

    Those of this machine may. With keys every page may: it needs one, and its browser knows none.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin and (self._keys.required or is_from_this_machine(origin)):
            scope["state"]["page"] = origin
            if scope["method"] == "OPTIONS" and METHOD in headers:
                await _permission(headers.get(HEADERS))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _permission(wanted: str | None) -> Response:
    """To send any request of the API, with whatever headers; `*` would not be all of them."""
    granted = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-max-age": REMEMBERED,
    }
    if wanted:
        granted["access-control-allow-headers"] = wanted
    return Response(status_code=204, headers=granted)
