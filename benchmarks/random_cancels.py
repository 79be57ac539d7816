"""Runs cancelled at random moments: until their streams say so, and until their slots serve others.

Every slot of the bundled model writes, and one more run waits. One of those that write is
cancelled; the run that waited is then claimed, which takes the slot, and says its first word.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import orjson

from benchmarks.answers import AssistantsSpeaker
from benchmarks.cancelling import CANCELLED, run_in
from benchmarks.exchange import Exchange, post
from benchmarks.goals import Goal
from benchmarks.intervals import interval, percentile
from benchmarks.loader import request
from benchmarks.report import row, verdicts
from benchmarks.servers import bundled_server

SLOTS = 4
SPREAD = 0.5  # seconds of writing within which a run is cancelled
LIMIT_MS = 500.0
QUEUED = re.compile(rb"event: thread\.run\.queued")
CLAIMED = re.compile(rb"event: thread\.run\.in_progress")
ENDLESS = {  # the bundled model is brief unless it is held to more
    "type": "json_schema",
    "json_schema": {
        "name": "numbers",
        "schema": {
            "type": "object",
            "properties": {
                "numbers": {"type": "array", "items": {"type": "integer"}, "minItems": 2000}
            },
            "required": ["numbers"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Milliseconds from the POST, for one run."""

    answered: float
    told: float
    claimed: float
    spoken: float


WHAT = (
    "the POST is answered",
    "the stream says `thread.run.cancelled`",
    "the run that waited for the slot is claimed",
    "that run says its first word",
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its stream."""

    exchange: Exchange
    path: str


async def begin(port: int, assistant: object) -> Run:
    """A run that will write until it is cancelled; queued when this returns."""
    thread = {"messages": [{"role": "user", "content": "Count for as long as you can."}]}
    body = {"assistant_id": assistant, "stream": True, "thread": thread}
    body |= {"response_format": ENDLESS, "max_completion_tokens": 3500}
    message = request("POST", "/v1/threads/runs", orjson.dumps(body))
    exchange = await Exchange.open(port, message)
    await exchange.sight(QUEUED)
    run = run_in(exchange)
    return Run(exchange, f"/v1/threads/{run['thread_id']}/runs/{run['id']}")


async def measured(port: int, cancels: int, chance: random.Random) -> list[Cancelled]:
    """One run after the other, each in the midst of others."""
    assistant = (await post(port, "/v1/assistants", {"model": "gpt-4o"}))["id"]
    writing = [await begin(port, assistant) for _ in range(SLOTS)]
    for run in writing:
        await run.exchange.sight(AssistantsSpeaker.first_text)
    found = []
    for _ in range(cancels):
        waiting = await begin(port, assistant)
        await asyncio.sleep(chance.uniform(0, SPREAD))
        chosen = writing.pop(chance.randrange(SLOTS))
        found.append(await _cancelled(port, chosen, waiting))
        writing.append(waiting)
    for run in writing:
        run.exchange.close()
    return found


async def _cancelled(port: int, chosen: Run, waiting: Run) -> Cancelled:
    told = asyncio.create_task(chosen.exchange.sight(CANCELLED))
    claimed = asyncio.create_task(waiting.exchange.sight(CLAIMED))
    await asyncio.sleep(0)  # both look from now on
    begun = time.perf_counter()
    await post(port, f"{chosen.path}/cancel", {})
    answered = time.perf_counter()
    moments = (answered, await told, await claimed)
    spoken = await waiting.exchange.sight(AssistantsSpeaker.first_text)
    return Cancelled(*((moment - begun) * 1000 for moment in (*moments, spoken)))


def shown(found: list[Cancelled]) -> Iterator[str]:
    """A table of how long it took until what."""
    yield row("ms until", "p50", "p99", "worst")
    yield row("---", "---:", "---:", "---:")
    for what, values in zip(WHAT, zip(*map(astuple, found), strict=True), strict=True):
        figures = (percentile(values, 0.5), percentile(values, 0.99), max(values))
        yield row(what, *(f"{figure:.0f}" for figure in figures))


def goals(found: list[Cancelled]) -> Iterator[Goal]:
    """What was promised."""
    for name, text in (("told", WHAT[1]), ("claimed", WHAT[2])):
        p99 = percentile([getattr(each, name) for each in found], 0.99)
        yield Goal(f"p99, ms: {text}", interval([p99]), LIMIT_MS, at_least=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        bundled_server(Path(folder), {"ENGINE__SLOTS": SLOTS}) as server,
    ):
        chance = random.Random(options.seed)
        found = asyncio.run(measured(server.port, options.cancels, chance))
    print(*shown(found), "", *verdicts(goals(found)), sep="\n")


if __name__ == "__main__":
    main()
