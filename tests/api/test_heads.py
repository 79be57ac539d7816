"""Heads of requests, byte for byte: what they may offer, and what they may not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import DEADLINE, LiveServer, live_server

BODY = b'{"metadata": {"color": "red"}}'
LENGTH = b"content-length: %d" % len(BODY)
H2C = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection on which a test says what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *packets: bytes) -> None:
        """Each is read before the next one is sent."""
        for packet in packets:
            self.writer.write(packet)
            await self.writer.drain()
            await asyncio.sleep(0.01)

    async def answer(self) -> Answer:
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, json.loads(body))

    async def closed(self) -> bool:
        """Nothing more comes, and the connection ends."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read() == b""


@asynccontextmanager
async def connected(server: LiveServer) -> AsyncIterator[Wire]:
    """A connection to the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LiveServer]:
    """A server of the test's own."""
    async with live_server(tmp_path) as server:
        yield server


def head(*lines: bytes, request: bytes = b"POST /v1/threads HTTP/1.1") -> bytes:
    """A head with what every one needs."""
    usual = (b"Host: localhost", b"OpenAI-Beta: assistants=v2", b"X-Nothing:")
    return b"\r\n".join([request, *usual, *lines, b"", b""])


def split(packet: bytes, size: int) -> list[bytes]:
    """The same, in packets of this size."""
    return [packet[start : start + size] for start in range(0, len(packet), size)]


OFFER = head(*H2C, LENGTH)


@pytest.mark.parametrize(
    "packets",
    [
        [OFFER + BODY],
        [OFFER, BODY],
        [*split(OFFER, 50), BODY[:9], BODY[9:]],
        [OFFER[:-1], OFFER[-1:] + BODY],
        [head(*H2C, b"Transfer-Encoding: chunked") + b"1e\r\n" + BODY + b"\r\n0\r\n\r\n"],
        [head(*WEBSOCKET, LENGTH) + BODY],
    ],
    ids=["at once", "body later", "in pieces", "cut in the line", "chunked", "websocket"],
)
async def test_who_offers_another_protocol_is_answered_in_this_one(
    server: LiveServer, packets: list[bytes]
) -> None:
    """With all of the request's body, and on a connection that stays."""
    async with connected(server) as wire:
        for _ in range(2):
            await wire.say(*packets)
            answer = await wire.answer()
            assert answer.status == 200
            assert answer.body["metadata"] == {"color": "red"}


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
async def test_a_request_without_a_body_may_offer_another_protocol(
    server: LiveServer, offer: tuple[bytes, ...]
) -> None:
    """Also several that are sent at once."""
    request = head(*offer, request=b"GET /v1/models?x=1 HTTP/1.1")
    async with connected(server) as wire:
        await wire.say(request * 100 + OFFER + BODY)
        for _ in range(100):
            answer = await wire.answer()
            assert (answer.status, answer.body["object"]) == (200, "list")
        assert (await wire.answer()).body["metadata"] == {"color": "red"}


@pytest.mark.parametrize(
    ("version", "connection"), [(b"1.1", b"close, Upgrade"), (b"1.0", b"Upgrade")]
)
async def test_an_offer_does_not_keep_a_connection(
    server: LiveServer, version: bytes, connection: bytes
) -> None:
    """What else its head says of the connection holds."""
    post = b"POST /v1/threads HTTP/" + version
    lines = (b"Connection: " + connection, b"Upgrade: h2c", LENGTH)
    async with connected(server) as wire:
        await wire.say(head(*lines, request=post) + BODY)
        answer = await wire.answer()
        assert answer.headers["connection"] == "close"
        assert answer.body["metadata"] == {"color": "red"}
        assert await wire.closed()


MOST = 2**16
TOO_LARGE = {
    "message": "Your request's URL and headers are too large. At most 65536 bytes of them are "
    "taken.",
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}
LONG = b"x" * 1_000_000
LINES = b"X-Some: " + b"x" * 992


@pytest.mark.parametrize(
    "packet",
    [
        head(b"X-Long: " + b"x" * MOST),
        head(*[LINES] * 66),
        head(b"X-Long: " + LONG)[:-4],
        head(*[LINES] * 1000)[:-4],
        b"GET /v1/models?" + LONG,
        b"GET /v1/models?" + b"x" * MOST + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\n" * 200_000,
        head(*H2C, *[LINES] * 66),
    ],
    ids=["header", "headers", "no end", "no ends", "endless", "URL", "nothing", "an offer"],
)
async def test_a_head_is_bounded(server: LiveServer, packet: bytes) -> None:
    """Whether it comes to its end or not, the answer says so, and the connection is closed."""
    async with connected(server) as wire:
        wire.writer.write(packet)
        answer = await wire.answer()
        assert (answer.status, answer.body["error"]) == (431, TOO_LARGE)
        assert answer.headers["connection"] == "close"
        assert await wire.closed()


async def test_what_is_no_head_is_not_counted(server: LiveServer) -> None:
    """However large the body, however many heads, and up to the bound."""
    pad = b" " * (2 * MOST)
    chunks = b"".join(b"1\r\n" + byte + b"\r\n" for byte in split(BODY, 1))
    spaces = b"1\r\n \r\n" * MOST
    async with connected(server) as wire:
        await wire.say(head(b"Content-Length: %d" % len(pad + BODY)) + pad + BODY)
        assert (await wire.answer()).body["metadata"] == {"color": "red"}
        await wire.say(head(b"Transfer-Encoding: chunked") + spaces + chunks + b"0\r\n\r\n")
        assert (await wire.answer()).body["metadata"] == {"color": "red"}
        await wire.say(head(*[LINES] * 64, request=b"GET /v1/models HTTP/1.1") * 9)
        for _ in range(9):
            assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    "packet",
    [b"X-Trailer: " + LONG, b"X-Trailer: x\r\n" * 20_000],
    ids=["one", "many"],
)
async def test_trailers_are_bounded(server: LiveServer, packet: bytes) -> None:
    """So is whatever else stands between a body's pieces and is none."""
    async with connected(server) as wire:
        await wire.say(head(b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n")
        wire.writer.write(packet)
        assert (await wire.reader.readline()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("before", "begin"), [(0, b""), (0, head()[:-2]), (1, head()[:-2]), (1, b"G"), (1, b"\r\n")]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, before: int, begin: bytes
) -> None:
    """Be it the first one of its connection, or another that has begun."""
    async with (
        live_server(tmp_path, limits__body_timeout=0.1) as server,
        connected(server) as wire,
    ):
        for _ in range(before):
            await wire.say(head(LENGTH) + BODY)
            assert (await wire.answer()).status == 200
        wire.writer.write(begin)
        assert await wire.closed()


async def test_who_has_an_answer_may_be_idle(tmp_path: Path) -> None:
    """For longer than a head may take."""
    async with (
        live_server(tmp_path, limits__body_timeout=0.1) as server,
        connected(server) as wire,
    ):
        for _ in range(2):
            await wire.say(head(LENGTH) + BODY)
            assert (await wire.answer()).status == 200
            await asyncio.sleep(0.3)


async def test_nothing_is_passed_on(server: LiveServer) -> None:
    """To ask for a tunnel is no request of this server."""
    async with connected(server) as wire:
        await wire.say(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.reader.readline()).startswith(b"HTTP/1.1 400 ")
