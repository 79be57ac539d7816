"""Connections whose clients take nothing of what they asked for."""

from __future__ import annotations

import asyncio
import logging

from server.api.heads import HeadProtocol

log = logging.getLogger(__name__)


def impatient(stuck_after: float, head_within: float) -> type[asyncio.Protocol]:
    """The protocol of connections that are dropped after so many seconds."""
    limits = {"stuck_after": stuck_after, "head_within": head_within}
    return type("Impatient", (_ImpatientProtocol,), limits)


class _ImpatientProtocol(HeadProtocol):
    """Whoever works for the client sees that it is gone, as if it had left.

    To close the connection would not do: that waits for the client to take what is written.
    """

    stuck_after: float
    _limit: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_limit()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_limit()

    def _watch(self) -> None:
        """Where something waits for the client and nobody adds to it: it has to become less."""
        waiting = self.transport.get_write_buffer_size()
        whole = self.cycle.response_complete
        if waiting and self._limit is None and (whole or self.flow.write_paused):
            self._limit = self.loop.call_later(self.stuck_after, self._look, waiting, self.cycle)

    def _look(self, waited: int, answer: object) -> None:
        """Who takes little at a time may have a long answer, too."""
        self._limit = None
        if self.cycle is answer and self.transport.get_write_buffer_size() >= waited:
            log.info("stuck_reader_dropped")
            self.transport.abort()
        else:
            self._watch()

    def _forget_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
