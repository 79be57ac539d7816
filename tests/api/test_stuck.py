"""Clients that take what they asked for slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from server.app import HttpServer, listen
from tests.support import DEADLINE, eventually

SIZE = 2**20
PIECES = 64
SLOW = 0.01  # seconds between two pieces that are taken


class Answerer:
    """An application that sends what its clients may not take."""

    def __init__(self, pieces: int = PIECES) -> None:
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-length", str(SIZE).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"x" * (SIZE // self._pieces)
        for left in reversed(range(self._pieces)):
            await send({"type": "http.response.body", "body": body, "more_body": left > 0})
        self.told.set_result((await receive())["type"])


@asynccontextmanager
async def asking(
    app: Answerer, stuck_after: float, connection: str = "close"
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
        request = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n"
        await loop.sock_sendall(client, request.encode())
        try:
            yield server, client
        finally:
            client.close()
            server.stop()
            await serving


async def gone(server: HttpServer) -> None:
    """Nothing of the connection is left to the server."""

    async def connections() -> int:
        return len(server.server_state.connections)

    await eventually(connections, lambda count: count == 0)


async def test_who_takes_nothing_is_dropped() -> None:
    """Whoever works for it sees it gone, though its client keeps the connection open."""
    app = Answerer()
    async with asking(app, stuck_after=0.1) as (server, _):
        assert await asyncio.wait_for(app.told, DEADLINE) == "http.disconnect"
        await gone(server)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("left", [28_000, 200_000])
async def test_who_leaves_a_rest_is_dropped(connection: str, left: int) -> None:
    """Also where the rest is in the server's buffer alone, for which nobody waits."""
    async with asking(Answerer(1), stuck_after=0.2, connection=connection) as (server, client):
        taken = 0
        while taken < SIZE - left:
            taken += len(await asyncio.get_running_loop().sock_recv(client, 4096))
        await gone(server)


@pytest.mark.parametrize("pieces", [PIECES, 1])
async def test_who_is_slow_gets_all(pieces: int) -> None:
    """However much longer it takes than somebody stuck may."""
    app, loop, taken = Answerer(pieces), asyncio.get_running_loop(), 0
    async with asking(app, stuck_after=1.0) as (_, client):
        began = loop.time()
        while piece := await loop.sock_recv(client, 4096):
            taken += len(piece)
            await asyncio.sleep(SLOW)
        assert taken > SIZE
        assert loop.time() - began > 1.0
