"""The outermost layer of every request: its id, its time, its line in the log, its headers."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import logs
from server.access.limits import Allowance
from server.ids import request_id
from server.metrics import Metrics
from server.traces import HEADER, Traces, called_by

log = logging.getLogger("server.access")

VERSION = b"2020-10-01"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds, by machines


def request_id_of(scope: Scope) -> str:
    """The id that the answer carries in `x-request-id`."""
    found: str = scope.get("state", {}).get("request_id", "")
    return found


def send_of_server(scope: Scope) -> Send:
    """The HTTP server's, for the parts of a stream once it has begun.

    The layers that wrap it further in are there for the start of an answer only.
    """
    found: Send = scope["state"]["send"]
    return found


class RequestContext:
    """Gives each request an id and adds the headers that the hosted API had on every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ident = request_id()
        state = scope.setdefault("state", {})
        state.update(request_id=ident, begun=time.perf_counter(), send=send)
        if self._traces.on:
            called_by(Headers(scope=scope).get(HEADER))
        with logs.about(request_id=ident):
            await self._answered(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message["headers"], *answer_headers(scope)]
                self._note(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception:  # a fault of ours, which is answered further out
            if not answered:
                self._note(scope, 500)
            raise

    def _note(self, scope: Scope, status: int) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        seconds = _seconds(scope)
        self._metrics.answered(route, scope["method"], status, seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        if log.isEnabledFor(level):
            facts = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.log(level, "request", extra=facts)


def answer_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What the answer to this request carries, whatever it says.

    Of limits the hosted API told only whoever asked a model alone, without a thread. A page that
    may read the answer is told by its origin, which others are not.
    """
    project: str | None = scope["state"].get("project")
    allowance: Allowance | None = scope["state"].get("allowance")
    limits = allowance.headers() if allowance is not None else {}
    return [
        (b"x-request-id", request_id_of(scope).encode()),
        (b"openai-processing-ms", str(round(_seconds(scope) * 1000)).encode()),
        (b"openai-version", VERSION),
        (b"openai-organization", b"default"),
        *([(b"openai-project", project.encode())] if project else []),
        (b"x-content-type-options", b"nosniff"),
        *_for_page(scope["state"].get("page")),
        *((name.encode(), value.encode()) for name, value in limits.items()),
    ]


def _for_page(origin: str | None) -> list[tuple[bytes, bytes]]:
    if origin is None:
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"*"),
        (b"vary", b"origin"),
    ]


def _seconds(scope: Scope) -> float:
    begun: float = scope["state"]["begun"]
    return time.perf_counter() - begun
