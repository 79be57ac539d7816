"""Many streams at once through a scripted model: events a second, memory a stream, delay.

First at a pace that the server can hold, for the delay from the model's piece to the client; then
as fast as it goes, in short answers and in long ones. Prints medians over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field

from benchmarks.api import call
from benchmarks.loader import request
from benchmarks.processes import cpu_of, memory_of, started

STAMP = re.compile(rb'"index":0,"type":"text","text":\{"value":" ?(\d+\.\d+)')


@dataclass
class Seen:
    """What all readers of one round received."""

    events: int = 0
    done: int = 0
    delays: list[float] = field(default_factory=list)


class Reader(asyncio.Protocol):
    """One stream: counts events and how late their pieces are."""

    def __init__(self, message: bytes, seen: Seen, over: asyncio.Event) -> None:
        self._message = message
        self._seen = seen
        self._over = over
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        whole, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        self._seen.events += whole.count(b"event: ")
        self._seen.delays += [now - float(stamp) for stamp in STAMP.findall(whole)]
        if b"data: [DONE]" in whole:
            self._seen.done += 1
            self._transport.close()
            self._over.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.set()


async def read_all(port: int, messages: list[bytes]) -> Seen:
    """Open all streams and read them to their ends."""
    seen, loop = Seen(), asyncio.get_running_loop()
    overs = [asyncio.Event() for _ in messages]
    for message, over in zip(messages, overs, strict=True):
        await loop.create_connection(
            lambda message=message, over=over: Reader(message, seen, over), "127.0.0.1", port
        )
    async with asyncio.timeout(300):
        await asyncio.gather(*(over.wait() for over in overs))
    return seen


def one_round(streams: int, pieces: int, interval: float) -> dict[str, float]:
    """A fresh server, and all streams at once on it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        started(
            "scripted_server",
            *("--data-dir", folder, "--slots", str(streams)),
            *("--pieces", str(pieces), "--interval", str(interval)),
        ) as (port, pid),
    ):
        assistant = call(port, "/v1/assistants", b'{"model":"gpt-4o","instructions":"x"}')["id"]
        body = json.dumps({"assistant_id": assistant, "stream": True}).encode()
        messages = []
        for _ in range(streams):
            thread = call(port, "/v1/threads", b"{}")["id"]
            messages.append(request("POST", f"/v1/threads/{thread}/runs", body))
        idle, cpu, begun = memory_of(pid), cpu_of(pid), time.perf_counter()
        seen = asyncio.run(read_all(port, messages))
        seconds = time.perf_counter() - begun
        delays = sorted(seen.delays)
        return {
            "streams that ended with [DONE]": seen.done,
            "events": seen.events,
            "events a second": seen.events / seconds,
            "delay p50 ms": delays[len(delays) // 2] * 1000,
            "delay p99 ms": delays[len(delays) * 99 // 100] * 1000,
            "memory KB a stream": (memory_of(pid) - idle) / streams / 1024,
            "server CPU us an event": (cpu_of(pid) - cpu) / seen.events * 1e6,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--pieces", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=float, default=0.5, help="pace of the first part")
    options = parser.parse_args()
    paced = (max(10, int(10 / options.interval)), options.interval)
    for pieces, interval in (paced, *((pieces, 0.0) for pieces in options.pieces)):
        title = "paced" if interval else "as fast as it goes"
        rounds = [one_round(options.streams, pieces, interval) for _ in range(options.rounds)]
        print(f"{options.streams} streams, {pieces} pieces each, {title}:")
        for name in rounds[0]:
            print(f"  {name:32} {statistics.median(r[name] for r in rounds):12,.1f}")


if __name__ == "__main__":
    main()
