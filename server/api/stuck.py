"""Connections whose clients take nothing of what they asked for."""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)


def impatient(stuck_after: float) -> type[asyncio.Protocol]:
    """The protocol of connections that are dropped after so many seconds."""
    return type("Impatient", (_ImpatientProtocol,), {"stuck_after": stuck_after})


class _ImpatientProtocol(HttpToolsProtocol):
    """Whoever works for the client sees that it is gone, as if it had left.

    To close the connection would not do: that waits for the client to take what is written.
    """

    stuck_after: float
    _limit: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_limit()

    def _look_later(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._limit = self.loop.call_later(self.stuck_after, self._look, waiting)

    def _look(self, waited: int) -> None:
        """Who takes little at a time may have a long answer, too."""
        if self.transport.get_write_buffer_size() < waited:
            self._look_later()
            return
        log.info("stuck_reader_dropped")
        self.transport.abort()

    def _forget_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
