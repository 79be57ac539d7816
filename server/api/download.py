"""A file as an answer, read in pieces as its client takes them."""

from __future__ import annotations

import logging
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.connection import ClientConnection
from server.errors import ClientGone
from server.files.blobs import Reader

log = logging.getLogger(__name__)

PIECE = 256 * 2**10


class Download(Response):
    """Closes the blob at its end, or when its client is gone."""

    media_type = "application/octet-stream"

    def __init__(self, source: Reader, size: int, filename: str) -> None:
        super().__init__(
            headers={"content-length": str(size), "content-disposition": _attachment(filename)}
        )
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._source:
            try:
                await ClientConnection(receive).unless_closed(self._send(send))
            except ClientGone:
                log.debug("download_left")

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        while piece := await self._source.read(PIECE):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _attachment(filename: str) -> str:
    """Names of plain letters stand as they are, others in the form of RFC 6266."""
    quoted = quote(filename, safe="")
    if quoted == filename:
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=utf-8''{quoted}"
