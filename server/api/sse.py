"""A subscription as a response of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sse_starlette import EventSourceResponse, ServerSentEvent

from server.config import StreamsSettings
from server.runs.events import DONE, StreamBroken, Subscription, error_event


def event_stream(
    subscription: Subscription, settings: StreamsSettings, *, numbered: bool = False
) -> EventSourceResponse:
    """Pre-encoded bytes, whatever is ready in one chunk. `numbered` adds `id:` lines.

    A reader that takes nothing for `stuck_after` seconds is dropped; its run goes on.
    """
    return EventSourceResponse(
        _chunks(subscription, numbered=numbered),
        sep="\n",
        ping=settings.ping,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=settings.stuck_after,
    )


async def _chunks(subscription: Subscription, *, numbered: bool) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(subscription.chunks(numbered=numbered)) as chunks:
            async for chunk in chunks:
                yield chunk
    except StreamBroken as broken:
        yield error_event(str(broken))
    yield DONE
