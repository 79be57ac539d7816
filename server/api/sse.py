"""A subscription as a response of server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

from server.config import StreamsSettings
from server.runs.events import DONE, StreamBroken, Subscription, error_event

log = logging.getLogger(__name__)


def event_stream(
    subscription: Subscription, settings: StreamsSettings, *, numbered: bool = False
) -> EventSourceResponse:
    """Pre-encoded bytes, whatever is ready in one chunk. `numbered` adds `id:` lines.

    A reader that takes nothing for `stuck_after` seconds is dropped; its run goes on.
    """
    return _EventStream(
        _chunks(subscription, numbered=numbered),
        sep="\n",
        ping=0,  # the bus pings
        send_timeout=settings.stuck_after,
    )


class _EventStream(EventSourceResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:  # no fault of ours; the HTTP server closes the connection
            log.info("stuck_reader_dropped")

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """As inherited, on the loop's own timer: there is one send for nearly every token."""
        try:
            async with asyncio.timeout(self.send_timeout):
                await send(message)
        except TimeoutError:
            raise SendTimeoutError from None


async def _chunks(subscription: Subscription, *, numbered: bool) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(subscription.chunks(numbered=numbered)) as chunks:
            async for chunk in chunks:
                yield chunk
    except StreamBroken as broken:
        yield error_event(str(broken))
    yield DONE
