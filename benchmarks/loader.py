"""A raw-socket HTTP/1.1 load generator: it costs far less than what it measures.

Requests are bytes made beforehand; answers are read by their Content-Length only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Headers = "Host: localhost\r\nOpenAI-Beta: assistants=v2\r\nContent-Type: application/json\r\n"


def request(method: str, path: str, body: bytes = b"", *, key: str = "") -> bytes:
    """One request, as it goes on the wire."""
    caller = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\n{Headers}{caller}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Result:
    """What one round measured: answers a second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


class Connection(asyncio.Protocol):
    """Sends one request after the other over one connection and notes how long each took."""

    def __init__(self, take: Callable[[], bytes | None], done: asyncio.Event) -> None:
        self._take = take
        self._done = done
        self._buffer = b""
        self._sent = 0.0
        self.latencies: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {self._buffer.decode()}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self.latencies.append((time.perf_counter() - self._sent) * 1000)
            self._buffer = body[length:]
            self._next()

    def _next(self) -> None:
        message = self._take()
        if message is None:
            self._transport.close()
            self._done.set()
            return
        self._sent = time.perf_counter()
        self._transport.write(message)


async def load(port: int, messages: Sequence[bytes], clients: int) -> Result:
    """Send all messages over `clients` connections, each waiting for its answer."""
    left = iter(messages)
    loop = asyncio.get_running_loop()
    events = [asyncio.Event() for _ in range(clients)]
    begun = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda event=event: Connection(lambda: next(left, None), event), "127.0.0.1", port
        )
        for event in events
    ]
    await asyncio.gather(*(event.wait() for event in events))
    seconds = time.perf_counter() - begun
    latencies = sorted(ms for _, connection in made for ms in connection.latencies)
    return Result(
        len(latencies) / seconds,
        latencies[len(latencies) // 2],
        latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
    )
