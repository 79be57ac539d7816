"""Clients that take what they asked for slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from server.app import HttpServer, listen
from tests.support import DEADLINE, eventually

PIECE = 16 * 1024
PIECES = 64
SLOW = 0.005  # seconds between two pieces that are taken


class Answerer:
    """An application that sends what its clients may not take."""

    def __init__(self) -> None:
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-length", str(PIECE * PIECES).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for left in reversed(range(PIECES)):
            piece = {"type": "http.response.body", "body": b"x" * PIECE, "more_body": left > 0}
            await send(piece)
        self.told.set_result((await receive())["type"])


@asynccontextmanager
async def asking(
    app: Answerer, stuck_after: float
) -> AsyncIterator[tuple[HttpServer, socket.socket]]:
    """A server, and a client with little room that has asked it."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
    server = HttpServer(config, stuck_after)
    with listen("127.0.0.1", 0, 4096) as listener, socket.socket() as client:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            yield server, client
        finally:
            client.close()
            server.stop()
            await serving


async def test_who_takes_nothing_is_dropped() -> None:
    """Nothing of the connection is left to the server, though its client keeps it open."""
    app = Answerer()
    async with asking(app, stuck_after=0.1) as (server, _):
        assert await asyncio.wait_for(app.told, DEADLINE) == "http.disconnect"

        async def connections() -> int:
            return len(server.server_state.connections)

        await eventually(connections, lambda count: count == 0)


async def test_who_is_slow_gets_all() -> None:
    """However much longer it takes than somebody stuck may."""
    app, loop, taken = Answerer(), asyncio.get_running_loop(), 0
    async with asking(app, stuck_after=1.0) as (_, client):
        began = loop.time()
        while piece := await loop.sock_recv(client, PIECE):
            taken += len(piece)
            await asyncio.sleep(SLOW)
        assert taken > PIECE * PIECES
        assert loop.time() - began > 1.0
