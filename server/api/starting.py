"""What is answered while the server starts: from the moment its port is bound until its parts run.

Loading a large model takes minutes. Probes are told the truth meanwhile, and clients to come again.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server import errors
from server.api.errors import error_response
from server.api.refusals import Refusals
from server.api.respond import wire

COME_AGAIN: Final = {"retry-after": "5"}  # an SDK comes twice: a short start passes meanwhile


class Starting:
    """An application before there is one. `refusals` is for the one that follows."""

    def __init__(self) -> None:
        self.refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(Request(scope, receive))
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        match request.url.path:
            case "/healthz":
                return wire({"status": "ok"})
            case "/readyz":
                return wire({"status": "starting"}, 503)
        starting = errors.Unavailable("The server is starting. Please retry in a moment.")
        if request.method == "POST":
            await self.refusals.note(request, starting)
        return error_response(request, starting, COME_AGAIN)
