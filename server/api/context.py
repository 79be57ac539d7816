"""The outermost layer of every request: its id, its time, its line in the log, its headers."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.ids import request_id
from server.metrics import Metrics

log = logging.getLogger("server.access")

VERSION = b"2020-10-01"


def request_id_of(scope: Scope) -> str:
    """The id that the answer carries in `x-request-id`."""
    found: str = scope.get("state", {}).get("request_id", "")
    return found


class RequestContext:
    """Gives each request an id and adds the headers that the hosted API had on every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = time.perf_counter()
        ident = request_id()
        scope.setdefault("state", {})["request_id"] = ident

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - begun
                message["headers"] = [*message["headers"], *_headers(ident, seconds)]
                self._note(scope, ident, message["status"], seconds)
            await send(message)

        return await self._app(scope, receive, with_headers)

    def _note(self, scope: Scope, ident: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(route, scope["method"], status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if log.isEnabledFor(logging.INFO):
            facts = {
                "request_id": ident,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.info("request", extra=facts)


def _headers(ident: str, seconds: float) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", ident.encode()),
        (b"openai-processing-ms", str(round(seconds * 1000)).encode()),
        (b"openai-version", VERSION),
        (b"openai-organization", b"default"),
        (b"x-content-type-options", b"nosniff"),
    ]
