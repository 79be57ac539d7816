"""A subscription as a response of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from server.config import StreamsSettings
from server.runs.events import DONE, StreamBroken, Subscription, error_event


def event_stream(
    subscription: Subscription, settings: StreamsSettings, *, numbered: bool = False
) -> EventSourceResponse:
    """Pre-encoded bytes, whatever is ready in one chunk. `numbered` adds `id:` lines.

    A reader that takes nothing for `stuck_after` seconds is dropped; its run goes on.
    """
    body = _numbered(subscription) if numbered else _joined(subscription)
    return EventSourceResponse(
        body,
        sep="\n",
        ping=settings.ping,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        send_timeout=settings.stuck_after,
    )


async def _joined(subscription: Subscription) -> AsyncIterator[bytes]:
    try:
        async for chunk in subscription.chunks():
            yield chunk
    except StreamBroken as broken:
        yield error_event(str(broken))
    finally:
        subscription.close()
    yield DONE


async def _numbered(subscription: Subscription) -> AsyncIterator[bytes]:
    try:
        async for number, event in subscription.numbered():
            yield event if number is None else b"id: %d\n" % number + event
    except StreamBroken as broken:
        yield error_event(str(broken))
    finally:
        subscription.close()
    yield DONE
