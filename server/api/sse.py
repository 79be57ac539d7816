"""A subscription, or a chat completion, as a response of server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from server.api.context import send_of_server
from server.config import StreamsSettings
from server.runs.events import Subscription

log = logging.getLogger(__name__)


def event_stream(
    subscription: Subscription, settings: StreamsSettings, *, numbered: bool = False
) -> EventSourceResponse:
    """Pre-encoded bytes, whatever is ready in one chunk. `numbered` adds `id:` lines.

    A reader that takes nothing for `stuck_after` seconds is dropped; its run goes on.
    """
    chunks = subscription.chunks(numbered=numbered)
    return _EventStream(chunks, settings.stuck_after, ping=0)  # the bus pings


def chunk_stream(
    chunks: AsyncGenerator[bytes, None], settings: StreamsSettings, when_over: Callable[[], None]
) -> EventSourceResponse:
    """Pre-encoded bytes for one reader. `when_over` is called when it has them all, or is gone."""
    return _ChunkStream(
        chunks,
        settings.stuck_after,
        when_over,
        ping=settings.ping,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
    )


class _EventStream(EventSourceResponse):
    """There is a send for nearly every token: all sends of a stream share one timer."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], patience: float, **options: Any
    ) -> None:
        super().__init__(chunks, sep="\n", **options)
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle
        self._send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send_of_server(scope)
        try:
            async with asyncio.timeout(None) as limit:
                self._watch(limit)
                await super().__call__(scope, receive, send)
        except TimeoutError:  # no fault of ours; the HTTP server closes the connection
            log.info("stuck_reader_dropped")
        finally:
            self._timer.cancel()

    async def _send_with_timeout(self, _: Send, message: Message) -> None:
        """Every send but the first, which has the headers."""
        self._sending_since = self._loop.time()
        await self._send(message)
        self._sending_since = None

    def _watch(self, limit: asyncio.Timeout) -> None:
        """End the stream if a send has waited for too long, or look again when one may have."""
        now = self._loop.time()
        since = now if self._sending_since is None else self._sending_since
        if since + self._patience <= now:
            limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(since + self._patience, self._watch, limit)


class _ChunkStream(_EventStream):
    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        patience: float,
        when_over: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(chunks, patience, **options)
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._when_over()
