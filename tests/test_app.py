"""How the server listens."""

from __future__ import annotations

import asyncio
import socket

from server.app import listen


async def test_answers_are_not_held_back() -> None:
    """A short write goes out at once: it does not wait until the one before it is acknowledged."""
    accepted: asyncio.Queue[int] = asyncio.Queue()

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        accepted.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen("127.0.0.1", 0, send_buffer=65_536) as listener:
        host, port = listener.getsockname()
        async with await asyncio.start_server(look, sock=listener):
            _, writer = await asyncio.open_connection(host, port)
            assert await accepted.get() == 1
            writer.close()
