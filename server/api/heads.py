"""Heads of requests, before there is a request: those that offer to speak another protocol."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HeadProtocol(HttpToolsProtocol):
    """Every request is answered in the protocol that it came in, whatever else it offers.

    RFC 9110 (7.8) allows that, and some clients always offer: Java's, `curl --http2`.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.parser = _Parser(self)

    def without_offer(self) -> bytes:
        """The head that was read last, as it would be without an `Upgrade`."""
        version = self.parser.get_http_version().encode()
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/" + version))]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()


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
