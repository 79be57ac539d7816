"""Heads of requests, before there is a request: how large, how slow, in which protocol."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.api.errors import refusal
from server.errors import HeadTooLarge

MOST: Final = 2**16  # bytes of a head, or of what is between and behind the pieces of a body
OF_A_LINE: Final = 4  # bytes of a header that are neither its name nor its value
TOO_LARGE: Final = HeadTooLarge(
    f"Your request's URL and headers are too large. At most {MOST} bytes of them are taken."
)
CLOSE: Final = (b"connection", b"close")


class HeadProtocol(HttpToolsProtocol):
    """Who has not said what he wants within `head_within` seconds is not waited for any longer.

    Every request is answered in the protocol that it came in, whatever else it offers: RFC 9110
    (7.8) allows that, and some clients always offer, as Java's, or `curl --http2`.
    """

    head_within: float
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _told = 0  # bytes of the head, as far as it was read
    _framing = 0  # bytes since the last one of a body, or of a head that begins or ends
    _too_large = False
    _refused = False

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.parser = _Parser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_deadline()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._framing += len(data)
        super().data_received(data)
        if self._framing > MOST and not self._refused:
            self._too_large = True
            self.send_400_response(TOO_LARGE.message)
        if self._in_head and self._deadline is None and not self._busy:
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._told = self._framing = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also of a trailer, for which there is no room of its own."""
        self._count(len(name) + len(value) + OF_A_LINE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._framing = False, 0
        self._forget_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Or that the head is too large, unless an earlier request waits for its answer."""
        self._refused = True
        if self._too_large and not self._busy:
            self._refuse_size()
        else:
            super().send_400_response(msg)

    def without_offer(self) -> bytes:
        """The head that was read last, as it would be without an `Upgrade`."""
        version = self.parser.get_http_version().encode()
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/" + version))]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    @property
    def _busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first request
        return cycle is not None and not cycle.response_complete

    def _count(self, more: int) -> None:
        self._told += more
        if self._told > MOST:
            self._too_large = True
            raise httptools.HttpParserError(TOO_LARGE.message)

    def _refuse_size(self) -> None:
        """To close at once would lose the answer where more is on its way."""
        answer = refusal(TOO_LARGE)
        headers = [*self.server_state.default_headers, *answer.raw_headers, CLOSE]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + answer.body)
        self.transport.write_eof()
        if self._deadline is None:
            self._wait()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.head_within, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Parser(httptools.HttpRequestParser):
    """httptools leaves a request at the end of its head if that makes an offer.

    Without its body, and with a call of `on_message_complete`. So that head is read once more.
    """

    def __init__(self, protocol: HeadProtocol) -> None:
        self._protocol = protocol
        self._begin()

    def feed_data(self, data: Any) -> None:
        rest = memoryview(data)
        while rest:
            try:
                super().feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                if self.get_method() == b"CONNECT":
                    raise httptools.HttpParserError("no tunnels here") from None
                head, rest = self._protocol.without_offer(), rest[offer.args[0] :]
                self._begin()
                super().feed_data(head)
            else:
                return

    def _begin(self) -> None:
        super().__init__(self._protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
