"""The benchmark's client reads streams as servers send them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks.answers import heard
from benchmarks.exchange import Exchange, Refused, fetch
from benchmarks.loader import request

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
GET = request("GET", "/")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def delta(text: str) -> bytes:
    """A chat endpoint's event with a piece of text."""
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode()


@asynccontextmanager
async def sending(parts: Sequence[bytes]) -> AsyncIterator[int]:
    """A server that answers with these parts, each sent when the one before is on its way."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_an_answer_is_put_together_from_any_parts() -> None:
    """Where the network cuts a stream has no part in what is read."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    end = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    whole = HEAD + chunk(delta("one ")) + chunk(delta("two")) + chunk(usage) + end
    async with sending([whole[at : at + 5] for at in range(0, len(whole), 5)]) as port:
        answer = await heard(await Exchange.open(port, GET))
    assert (answer.text, len(answer.pieces)) == ("one two", 2)
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 2)
    assert answer.sent < answer.pieces[0] <= answer.pieces[1] <= answer.ended


async def test_a_head_that_ends_like_a_body_is_no_end() -> None:
    """`max=100` and an empty line look like the last chunk of a body."""
    async with sending([HEAD, chunk(b"data: 1\n\n"), b"0\r\n\r\n"]) as port:
        exchange = await fetch(port, GET)
    assert [event.data for event in exchange.events()] == [b"1"]


async def test_a_long_body_is_read_to_its_length() -> None:
    """An answer with a length ends when that has come."""
    body = b"x" * 100_000
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with sending([head, body]) as port:
        assert (await fetch(port, GET)).body == body


async def test_an_error_is_no_answer() -> None:
    """What the server said of it is told."""
    async with sending([b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops"]) as port:
        with pytest.raises(Refused, match="oops"):
            await fetch(port, GET)


async def test_a_stream_that_ends_without_what_is_awaited_is_refused() -> None:
    """Whoever waits for a text that never comes does not wait for ever."""
    async with sending([HEAD, chunk(delta("one")), b"0\r\n\r\n"]) as port:
        exchange = await Exchange.open(port, GET)
        with pytest.raises(Refused, match="two"):
            await exchange.sight(re.compile(b"two"))
