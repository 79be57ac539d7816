"""What dies is killed: how soon a new server has runs move again, how soon a worker is missed.

Each round has a server on the bundled model. Its worker is killed while it writes: what is
measured is when the stream says so, when the run speaks again, and whether requests fail meanwhile.
Then runs are queued, and the server itself is killed and started anew on the same folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from benchmarks.answers import AssistantsSpeaker
from benchmarks.exchange import fetch, post
from benchmarks.goals import Goal
from benchmarks.loader import request
from benchmarks.processes import Server, children_of
from benchmarks.random_cancels import begin
from benchmarks.report import row, verdicts
from benchmarks.responsiveness import PACE, PacedConnection
from benchmarks.samples import Samples
from benchmarks.servers import bundled_server

CASE = "killed"
AT_ONCE = 16  # clients that queue runs
PATIENCE = 60.0
GLANCE = 0.02
SETTINGS = {"RUNS__PROJECT_QUEUE": 10_000}
WORKER = b"server.engine.worker"
MISSED = re.compile(rb"event: thread\.(run\.step\.failed|message\.incomplete)")
AGAIN = re.compile(rb"event: thread\.message\.incomplete.*event: thread\.message\.delta", re.DOTALL)
WHAT = {
    "missed": "a worker's death to the event that tells of it",
    "spoken": "a worker's death to the run's next words",
    "ready": "a server's start to /readyz",
    "moved": "a server's start to the first run that was seen to move",
}


async def without_worker(server: Server, turn: int, samples: Samples) -> None:
    """Kill it while it writes. Requests go on all the while; one that fails ends the benchmark."""
    assistant = (await post(server.port, "/v1/assistants", {"model": "gpt-4o"}))["id"]
    run = await begin(server.port, assistant)
    await run.exchange.sight(AssistantsSpeaker.first_text)
    asking, over = True, asyncio.Event()
    message = request("GET", f"/v1/assistants/{assistant}")
    loop = asyncio.get_running_loop()
    _, others = await loop.create_connection(
        lambda: PacedConnection(lambda: message if asking else None, over),
        *("127.0.0.1", server.port),
    )
    await asyncio.sleep(10 * PACE)
    missed = asyncio.create_task(run.exchange.sight(MISSED))
    await asyncio.sleep(0)
    killed = time.perf_counter()
    os.kill(worker_of(server.pid), signal.SIGKILL)
    told = await missed
    spoken = await run.exchange.sight(AGAIN)
    asking = False
    await over.wait()
    samples.add(turn, CASE, "worker", missed=told - killed, spoken=spoken - killed)
    samples.add(turn, CASE, "worker", asked=float(len(others.latencies)))
    await post(server.port, f"{run.path}/cancel", {})
    await run.exchange.done


def worker_of(pid: int) -> int:
    """The process that has a server's model."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children_of(pid)}
    return next(child for child, command in commands.items() if WORKER in command)


async def queue(port: int, runs: int) -> None:
    """Have so many runs wait, each in a thread of its own, save those that are begun meanwhile."""
    assistant = (await post(port, "/v1/assistants", {"model": "gpt-4o"}))["id"]
    thread = {"messages": [{"role": "user", "content": "Hello!"}]}
    left = iter(range(runs))

    async def some() -> None:
        for _ in left:
            await post(port, "/v1/threads/runs", {"assistant_id": assistant, "thread": thread})

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def moved(port: int) -> float:
    """The moment at which a run is seen in progress: a server that starts has them all queued."""
    message = request("GET", "/v1/threads/runs?status=in_progress&limit=1")
    async with asyncio.timeout(PATIENCE):
        while not await _listed(port, message):  # noqa: ASYNC110  # only asking tells
            await asyncio.sleep(GLANCE)
    return time.perf_counter()


async def _listed(port: int, message: bytes) -> list[object]:
    found: list[object] = orjson.loads((await fetch(port, message)).body)["data"]
    return found


def one_round(turn: int, waiting: Sequence[int], samples: Samples) -> None:
    """One folder, and a server after the other on it."""
    with tempfile.TemporaryDirectory() as folder:
        with bundled_server(Path(folder), SETTINGS) as server:
            asyncio.run(without_worker(server, turn, samples))
            asyncio.run(queue(server.port, waiting[0]))
            os.kill(server.pid, signal.SIGKILL)
        for runs, more in zip(waiting, (*waiting[1:], 0), strict=True):
            begun = time.perf_counter()
            with bundled_server(Path(folder), SETTINGS) as server:
                ready = time.perf_counter()
                first = asyncio.run(moved(server.port))
                of = f"{runs:,} runs"
                samples.add(turn, CASE, of, ready=ready - begun, moved=first - begun)
                asyncio.run(queue(server.port, more))
                os.kill(server.pid, signal.SIGKILL)


def shown(samples: Samples) -> Iterator[str]:
    """A table of how long it took until what."""
    yield row("s from", "", "median", "worst")
    yield row("---", "---", "---:", "---:")
    for key, values in samples.rows():
        if key.measure in WHAT:
            figures = (f"{statistics.median(values):.2f}", f"{max(values):.2f}")
            yield row(WHAT[key.measure], key.of, *figures)


def goals(samples: Samples, waiting: Sequence[int]) -> Iterator[Goal]:
    """What was promised."""
    servers = [(f"{runs:,} runs", "moved", 5.0) for runs in waiting]
    for of, measure, bound in (("worker", "missed", 1.0), *servers):
        found = samples.summary(CASE, of, measure)
        assert found is not None
        yield Goal(f"s from {WHAT[measure]}, {of}", found, bound, at_least=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waiting", type=int, nargs="+", default=[200, 1900], help="runs queued")
    options = parser.parse_args()
    samples = Samples()
    for turn in range(options.rounds):
        one_round(turn, options.waiting, samples)
    print(*shown(samples), "", *verdicts(goals(samples, options.waiting)), sep="\n")


if __name__ == "__main__":
    main()
