"""How fast a plain GET is answered: on an idle server, and while every sequence is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.answers import AssistantsSpeaker
from benchmarks.intervals import percentile
from benchmarks.loader import Connection, request
from benchmarks.prompts import Prompts
from benchmarks.samples import Samples

CASE = "GET /v1/assistants/{id}"
PACE = 0.02  # seconds between an answer and the next request
IDLE_REQUESTS = 100


class PacedConnection(Connection):
    """A client that thinks between two requests, so that it is no load of its own."""

    def _next(self) -> None:
        asyncio.get_running_loop().call_later(PACE, super()._next)


async def measure(
    turn: int,
    speaker: AssistantsSpeaker,
    runs: int,
    answer: int,
    prompts: Prompts,
    samples: Samples,
) -> None:
    """One round: on the idle server, then from the first text of many streams to the first end."""
    left = iter(range(IDLE_REQUESTS))
    idle = await _latencies(speaker, lambda: next(left, None) is not None)
    streams = [await speaker.start(prompts.of(16), answer) for _ in range(runs)]
    await streams[0].sight(speaker.first_text)
    busy = await _latencies(speaker, lambda: not any(stream.done.done() for stream in streams))
    await asyncio.gather(*(stream.done for stream in streams))
    for name, found in (("idle", idle), (f"beside {runs} streams", busy)):
        if found:
            p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
            samples.add(turn, CASE, name, p50=p50, p99=p99, n=len(found))


async def _latencies(speaker: AssistantsSpeaker, go_on: Callable[[], bool]) -> list[float]:
    """In milliseconds, for as long as `go_on` says so."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    message = request("GET", f"/v1/assistants/{speaker.assistant}")
    _, connection = await loop.create_connection(
        lambda: PacedConnection(lambda: message if go_on() else None, over),
        *("127.0.0.1", speaker.port),
    )
    await over.wait()
    return connection.latencies
