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


async def test_nothing_is_passed_on(server: LiveServer) -> None:
    """To ask for a tunnel is no request of this server."""
    async with connected(server) as wire:
        await wire.say(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.reader.readline()).startswith(b"HTTP/1.1 400 ")
