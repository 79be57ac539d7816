"""Eight readers that never read, beside a hundred that do: who notices them, and for how long.

A scripted model writes to a hundred streams. After a while the eight attach to some of its runs
from the first event, so that they are stuck at once; delays of the others are compared with those
before and after. What a stuck reader takes is measured on an idle server, where nothing else grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from benchmarks.api import call
from benchmarks.exchange import fetch, gauge
from benchmarks.goals import Goal
from benchmarks.intervals import percentile
from benchmarks.loader import request
from benchmarks.processes import memory_of, started
from benchmarks.report import verdicts
from benchmarks.samples import Key, Samples
from benchmarks.streams import Reader, Seen

FAST = 100
STUCK = 8
WEIGHED = 64  # many, since memory is had in large pieces
INTERVAL = 0.02  # seconds between two pieces of a stream
BACKLOG = 15.0  # seconds in which a run's log outgrows what the kernel and the server buffer
STUCK_FOR = 25.0  # seconds in which all of them are there
PATIENCE = 60.0
GLANCE = 0.1
LITTLE_ROOM = 4096  # bytes that a stuck reader's kernel takes
ESTABLISHED = "01"

CASE = "streams"
ALONE, BESIDE = "alone", "beside stuck readers"


async def noticed(port: int, turn: int, samples: Samples) -> None:
    """One round: before the stuck ones, beside them until the last is dropped, and after."""
    seen, overs, threads = Seen(), [asyncio.Event() for _ in range(FAST)], []
    loop = asyncio.get_running_loop()
    for over in overs:
        thread, message = run_in_new_thread(port)
        reader = Reader(message, seen, over)
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)
        threads.append(thread)
    await asyncio.sleep(1.0)  # connections are made
    before = await delays_in(BACKLOG, seen)
    streams = await gauge(port, "open_streams")
    paths = [await events_of(port, thread) for thread in threads[:STUCK]]
    with stuck_readers(port, paths):
        begun = time.monotonic()
        beside = await delays_in(STUCK_FOR, seen)
        await until_streams(port, streams)
        dropped = time.monotonic() - begun
        after = await delays_in(BACKLOG, seen)
    for name, delays in ((ALONE, before + after), (BESIDE, beside)):
        p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
        samples.add(turn, CASE, name, p50=p50 * 1000, p99=p99 * 1000)
    samples.add(turn, CASE, BESIDE, dropped=dropped)


async def weighed(port: int, pid: int, turn: int, samples: Samples) -> None:
    """One round: what stuck readers of a long run that has ended take, and leave behind."""
    thread, message = run_in_new_thread(port)
    seen, over = Seen(), asyncio.Event()
    reader = Reader(message, seen, over)
    await asyncio.get_running_loop().create_connection(lambda: reader, "127.0.0.1", port)
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    path = await events_of(port, thread)
    with stuck_readers(port, [path] * 4):  # code that runs for the first time takes memory, too
        await until_streams(port, 4)
    await until_streams(port, 0)
    await asyncio.sleep(1.0)
    memory, connections = memory_of(pid), connections_to(port)
    with stuck_readers(port, [path] * WEIGHED):
        await until_streams(port, WEIGHED)
        await asyncio.sleep(1.0)
        own = (memory_of(pid) - memory) / WEIGHED
        samples.add(turn, CASE, BESIDE, own=own / 1024, kernel=queued_to(port) / WEIGHED / 1024)
        await until_streams(port, 0)
        await asyncio.sleep(1.0)
        samples.add(turn, CASE, BESIDE, left=float(connections_to(port) - connections))


def run_in_new_thread(port: int) -> tuple[object, bytes]:
    """A thread, and the request that streams a run in it."""
    assistant = call(port, "/v1/assistants", b'{"model":"gpt-4o","instructions":"x"}')["id"]
    thread = call(port, "/v1/threads", b"{}")["id"]
    body = json.dumps({"assistant_id": assistant, "stream": True}).encode()
    return thread, request("POST", f"/v1/threads/{thread}/runs", body)


async def events_of(port: int, thread: object) -> str:
    """Where a thread's only run is streamed again."""
    runs = f"/v1/threads/{thread}/runs"
    found = orjson.loads((await fetch(port, request("GET", runs))).body)
    return f"{runs}/{found['data'][0]['id']}/events"


@contextmanager
def stuck_readers(port: int, paths: list[str]) -> Iterator[None]:
    """Connections that ask for a stream and take nothing of it, for as long as the block lasts."""
    connections = []
    try:
        for path in paths:
            connections.append(connection := socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE_ROOM)
            connection.connect(("127.0.0.1", port))
            connection.sendall(request("GET", path))
        yield
    finally:
        for connection in connections:
            connection.close()


async def delays_in(seconds: float, seen: Seen) -> list[float]:
    """How late pieces came, in so many seconds from now on."""
    seen.delays = []
    await asyncio.sleep(seconds)
    delays, seen.delays = seen.delays, []
    return delays


async def until_streams(port: int, count: float) -> None:
    """Wait until so many streams are open; from above, or from below."""
    async with asyncio.timeout(PATIENCE):
        while await gauge(port, "open_streams") != count:  # noqa: ASYNC110  # only asking tells
            await asyncio.sleep(GLANCE)


def connections_to(port: int) -> int:
    """That the server has not closed."""
    return sum(state == ESTABLISHED for state, _ in _sockets(port))


def queued_to(port: int) -> int:
    """Bytes that the kernel holds for the server's clients."""
    return sum(queued for state, queued in _sockets(port) if state == ESTABLISHED)


def _sockets(port: int) -> Iterator[tuple[str, int]]:
    """The state of each of the server's sockets, and what waits to be sent on it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port:
            yield state, int(queues.partition(":")[0], 16)


def one_round(turn: int, samples: Samples) -> None:
    """On fresh servers."""
    pieces = str(int(600 / INTERVAL))
    with (
        tempfile.TemporaryDirectory() as folder,
        started(
            "scripted_server",
            *("--data-dir", folder, "--slots", str(FAST)),
            *("--pieces", pieces, "--interval", str(INTERVAL)),
        ) as (port, _),
    ):
        asyncio.run(noticed(port, turn, samples))
    with (
        tempfile.TemporaryDirectory() as folder,
        started(
            *("scripted_server", "--data-dir", folder, "--pieces", "2000", "--interval", "0"),
        ) as (port, pid),
    ):
        asyncio.run(weighed(port, pid, turn, samples))


def goals(samples: Samples) -> Iterator[Goal]:
    """What was promised."""
    late = samples.ratio(Key(CASE, BESIDE, "p99"), Key(CASE, ALONE, "p99"))
    assert late is not None
    yield Goal("p99 of the fast ones' delay, over that without stuck ones", late, 1.1, False)
    wanted = {
        "dropped": ("seconds until the last stuck reader is seen to be gone", 30.0 + 2 * GLANCE),
        "own": ("KB of the server's memory for each", 256.0),
        "kernel": ("KB in the kernel for each", 256.0),
        "left": ("connections left open to those that were dropped", 0.0),
    }
    for measure, (text, bound) in wanted.items():
        found = samples.summary(CASE, BESIDE, measure)
        assert found is not None
        yield Goal(text, found, bound, at_least=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    samples = Samples()
    for turn in range(options.rounds):
        one_round(turn, samples)
    for name in (ALONE, BESIDE):
        p50, p99 = (samples.summary(CASE, name, each) for each in ("p50", "p99"))
        assert p50 is not None
        assert p99 is not None
        print(f"{name}: delay p50 {p50.median:.2f} ms, p99 {p99.median:.2f} ms")
    print(*verdicts(goals(samples)), sep="\n")


if __name__ == "__main__":
    main()
