"""One HTTP exchange over a raw socket, with the time at which each part of the answer came.

While it runs it only keeps what arrives; what that means is worked out afterwards, so that the
client takes next to nothing of the cores that it shares with the server.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from benchmarks.loader import request

LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bytes, and the moment (perf_counter) at which they were there."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    at: float
    name: str
    data: bytes


class Refused(Exception):
    """The server answered with an error, or not at all."""


class Exchange(asyncio.Protocol):
    """Sends one request on a connection of its own and takes the answer.

    `done` resolves when all of it is there or the connection is gone.
    """

    def __init__(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._message = message
        self._tail = b""
        self._missing: int | None = None  # bytes of a body whose length was told
        self._wanted: tuple[re.Pattern[bytes], asyncio.Future[float]] | None = None
        self.arrivals: list[Arrival] = []
        self.sent = 0.0
        self.done: asyncio.Future[float] = loop.create_future()

    @classmethod
    async def open(cls, port: int, message: bytes) -> Exchange:
        """Connect and send."""
        loop = asyncio.get_running_loop()
        _, exchange = await loop.create_connection(lambda: cls(message), "127.0.0.1", port)
        return exchange

    async def sight(self, pattern: re.Pattern[bytes]) -> float:
        """The moment at which `pattern` is in the answer; Refused if that ends without it.

        Only what is yet to come is searched, and its last few kilobytes: ask early.
        """
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._wanted = (pattern, seen)
        self._look(time.perf_counter())
        await asyncio.wait({seen, self.done}, return_when=asyncio.FIRST_COMPLETED)
        if not seen.done():
            raise Refused(f"{pattern.pattern!r} is not in {self._tail[-600:]!r}")
        return seen.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.sent = time.perf_counter()
        transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.arrivals.append(Arrival(now, data))
        self._tail = self._tail[-4096:] + data
        self._look(now)
        if self._is_whole(data):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(time.perf_counter())

    def close(self) -> None:
        """Hang up, as a client that wants no more."""
        self._transport.close()
        if not self.done.done():
            self.done.set_result(time.perf_counter())

    @property
    def status(self) -> int:
        return int(self._all().split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        if self.is_chunked:
            return b"".join(part.data for part in self._chunks())
        return self._all().partition(b"\r\n\r\n")[2]

    @property
    def is_chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self._head()

    def events(self) -> Iterator[Event]:
        """The stream's events, each with the moment at which its end came."""
        text = b""
        for part in self._chunks():
            text += part.data.replace(b"\r\n", b"\n")
            *whole, text = text.split(b"\n\n")
            yield from (_event(part.at, block) for block in whole)

    def _look(self, now: float) -> None:
        if self._wanted is None:
            return
        pattern, seen = self._wanted
        if not seen.done() and pattern.search(self._tail):
            seen.set_result(now)

    def _head(self) -> bytes:
        return self._all().partition(b"\r\n\r\n")[0].lower()

    def _all(self) -> bytes:
        return b"".join(arrival.data for arrival in self.arrivals)

    def _is_whole(self, data: bytes) -> bool:
        if self._missing is not None:
            self._missing -= len(data)
        elif b"\r\n\r\n" in self._tail and not self.is_chunked:
            head, _, body = self._tail.partition(b"\r\n\r\n")
            self._missing = int(head.lower().split(b"content-length:")[1].split()[0]) - len(body)
        return self._missing == 0 or self._tail.endswith(LAST_CHUNK)

    def _chunks(self) -> Iterator[Arrival]:
        """The parts of a chunked body, each with the moment at which its last byte came."""
        arrivals = iter(self.arrivals)
        buffer, at, in_head = b"", 0.0, True
        while True:
            size, found, rest = buffer.partition(b"\r\n\r\n" if in_head else b"\r\n")
            length = 0 if in_head or not found else int(size, 16)
            if not found or len(rest) < length + (0 if in_head else 2):
                arrival = next(arrivals, None)
                if arrival is None:
                    return
                buffer, at = buffer + arrival.data, arrival.at
            elif in_head:
                buffer, in_head = rest, False
            else:
                yield Arrival(at, rest[:length])
                buffer = rest[length + 2 :]


async def fetch(port: int, message: bytes) -> Exchange:
    """A whole exchange; Refused unless it went well."""
    exchange = await Exchange.open(port, message)
    await exchange.done
    if not exchange.arrivals or exchange.status != 200:
        raise Refused(exchange.body.decode() if exchange.arrivals else "no answer")
    return exchange


async def post(port: int, path: str, body: object) -> dict[str, object]:
    """An ordinary POST with its JSON answer."""
    exchange = await fetch(port, request("POST", path, orjson.dumps(body)))
    made: dict[str, object] = orjson.loads(exchange.body)
    return made


async def gauge(port: int, name: str) -> float:
    """What the metrics page says of one figure."""
    page = (await fetch(port, request("GET", "/metrics"))).body.decode()
    lines = (line.rpartition(" ") for line in page.splitlines())
    return next(float(value) for found, _, value in lines if found == f"assistants_{name}")


def _event(at: float, block: bytes) -> Event:
    fields = dict(line.partition(b":")[::2] for line in block.split(b"\n"))
    name = fields.get(b"event", b"").strip().decode()
    return Event(at, name, fields.get(b"data", b"").strip())
