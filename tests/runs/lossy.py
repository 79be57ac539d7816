"""A proxy on loopback that loses answers: the server has given them, and the client gets none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"


@contextlib.asynccontextmanager
async def lossy_proxy(url: str, loses: Callable[[bytes], bool]) -> AsyncIterator[str]:
    """The URL of a proxy to `url`. `loses` decides by a request's head whether its answer is lost.

    One request a connection; an answer that is lost was read to its end first.
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head, body = await _request(reader)
            upstream, sending = await asyncio.open_connection(host, port)
            sending.write(_closing(head) + body)
            answer = await upstream.read()
            sending.close()
            if not loses(head):
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed a connection that it did not need
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(HEAD_END)
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head, await reader.readexactly(int(value))
    return head, b""


def _closing(head: bytes) -> bytes:
    """The same head, with an answer that ends with its connection."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])
