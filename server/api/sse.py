"""A subscription, or a chat completion, as a response of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from server.api.context import send_of_server
from server.config import StreamsSettings
from server.runs.events import Subscription


def event_stream(subscription: Subscription, *, numbered: bool = False) -> EventSourceResponse:
    """Pre-encoded bytes, whatever is ready in one chunk. `numbered` adds `id:` lines."""
    return _EventStream(subscription.chunks(numbered=numbered), sep="\n", ping=0)  # the bus pings


def chunk_stream(
    chunks: AsyncGenerator[bytes, None], settings: StreamsSettings, when_over: Callable[[], None]
) -> EventSourceResponse:
    """Pre-encoded bytes for one reader. `when_over` is called when it has them all, or is gone."""
    return _ChunkStream(
        chunks,
        when_over,
        sep="\n",
        ping=settings.ping,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
    )


class _EventStream(EventSourceResponse):
    """There is a send for nearly every token: they go straight to the server, with no timer each.

    It drops a reader that is stuck.
    """

    _send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send_of_server(scope)
        await super().__call__(scope, receive, send)

    async def _send_with_timeout(self, _: Send, message: Message) -> None:
        """Every send but the first, which has the headers."""
        await self._send(message)


class _ChunkStream(_EventStream):
    def __init__(
        self, chunks: AsyncGenerator[bytes, None], when_over: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(chunks, **options)
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._when_over()
