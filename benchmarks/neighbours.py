"""What a project notices of another one that does all it can: its calls and its first tokens.

The neighbour has one client, which creates, lists and retrieves at a steady pace, and one run at a
time. The heavy one (`flood.py`, a process of its own) has runs, messages, lists, chat completions,
uploads and vector stores made all at once. The neighbour is measured alone, beside it where its key
has limits as an operator would set them, and where it has none; and once more alone, which says
what the same measurement gives twice.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.answers import AssistantsSpeaker
from benchmarks.exchange import Exchange, fetch
from benchmarks.goals import Goal
from benchmarks.intervals import percentile
from benchmarks.loader import request
from benchmarks.processes import ROOT
from benchmarks.report import row, spread, verdicts
from benchmarks.samples import Key, Samples
from benchmarks.servers import bundled_server
from server.access.keys import DEFAULT_PROJECT
from server.control import ask, socket_in

PACE = 0.03  # seconds that the neighbour thinks between two calls
SETTLING = 12.0  # seconds in which the flood uses up the minute's worth that it has at first
STOPPING = 30.0
LIMITS = {"requests_per_minute": 120, "tokens_per_minute": 1500, "concurrent_runs": 1}
OPEN: Mapping[str, int] = {}
CALLS, FIRST = "calls", "first token"
ALONE, AGAIN, LIMITED, FREE = "alone", "alone, again", "beside limits", "beside no limits"


@dataclass(slots=True)
class Steady:
    """The neighbour. Times in milliseconds."""

    port: int
    key: str
    calls: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)

    async def work(self, seconds: float) -> None:
        """Calls and runs, beside each other, for so long."""
        self.calls, self.firsts = [], []
        assistant = (await self._post("/v1/assistants", {"model": "gpt-4o"}))["id"]
        self.calls = []
        until = time.perf_counter() + seconds
        await asyncio.gather(self._call(until), self._run(str(assistant), until))

    async def _call(self, until: float) -> None:
        while time.perf_counter() < until:
            thread = (await self._post("/v1/threads", {}))["id"]
            messages = f"/v1/threads/{thread}/messages"
            message = (await self._post(messages, {"role": "user", "content": "Hello!"}))["id"]
            await self._get(f"{messages}?limit=20")
            await self._get(f"{messages}/{message}")

    async def _run(self, assistant: str, until: float) -> None:
        thread = {"messages": [{"role": "user", "content": "What is your name?"}]}
        body = {"assistant_id": assistant, "stream": True, "thread": thread}
        message = request("POST", "/v1/threads/runs", orjson.dumps(body), key=self.key)
        while time.perf_counter() < until:
            exchange = await Exchange.open(self.port, message)
            seen = await exchange.sight(AssistantsSpeaker.first_text)
            self.firsts.append((seen - exchange.sent) * 1000)
            await exchange.done
            await asyncio.sleep(PACE)

    async def _post(self, path: str, body: object) -> dict[str, object]:
        return await self._timed(request("POST", path, orjson.dumps(body), key=self.key))

    async def _get(self, path: str) -> dict[str, object]:
        return await self._timed(request("GET", path, key=self.key))

    async def _timed(self, message: bytes) -> dict[str, object]:
        exchange = await fetch(self.port, message)
        self.calls.append((exchange.arrivals[-1].at - exchange.sent) * 1000)
        await asyncio.sleep(PACE)
        answer: dict[str, object] = orjson.loads(exchange.body)
        return answer


def key_of(folder: Path, project: str, limits: Mapping[str, int] = OPEN) -> str:
    """A new key, as `assistants keys create` makes it."""
    wanted = {"project": project, "name": "", "scope": "all", "lifetime": None, "limits": limits}
    return str(ask(socket_in(folder), "keys.create", wanted)["secret"])


@contextmanager
def flooded(port: int, key: str | None) -> Iterator[None]:
    """Meanwhile the heavy one is at work, if there is a key for it."""
    if key is None:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.flood", str(port), key]
    process = subprocess.Popen(command, cwd=ROOT)
    time.sleep(SETTLING)
    try:
        yield
        assert process.poll() is None, "the heavy one gave up"
    finally:
        process.terminate()
        process.wait(STOPPING)


def one_round(turn: int, seconds: float, limits: Mapping[str, int], samples: Samples) -> None:
    """A server for each case: what the flood has left would be in the next one's way."""
    for case, own in ((ALONE, None), (LIMITED, limits), (FREE, OPEN), (AGAIN, None)):
        with (
            tempfile.TemporaryDirectory() as folder,
            bundled_server(Path(folder), {"SERVER__SHUTDOWN_GRACE": 0.1}) as server,
        ):
            project = ask(socket_in(Path(folder)), "projects.create", {"name": "heavy"})["id"]
            steady = Steady(server.port, key_of(Path(folder), DEFAULT_PROJECT))
            heavy = None if own is None else key_of(Path(folder), project, own)
            with flooded(server.port, heavy):
                asyncio.run(steady.work(seconds))
        for of, found in ((CALLS, steady.calls), (FIRST, steady.firsts)):
            p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
            samples.add(turn, case, of, p50=p50, p99=p99, n=float(len(found)))


def shown(samples: Samples) -> Iterator[str]:
    """A table: what, in which case, how long."""
    yield row("", "", "p50 ms", "p99 ms", "of a round")
    yield row("---", "---", "---:", "---:", "---:")
    for of in (CALLS, FIRST):
        for case in (ALONE, AGAIN, LIMITED, FREE):
            found = [samples.summary(case, of, measure) for measure in ("p50", "p99", "n")]
            yield row(of, case, *(spread(each, ".1f") for each in found if each))


def goals(samples: Samples) -> Iterator[Goal]:
    """What was promised, and how far the same measurement differs from itself."""
    for of in (CALLS, FIRST):
        for case in (AGAIN, LIMITED, FREE):
            found = samples.ratio(Key(case, of, "p99"), Key(ALONE, of, "p99"))
            assert found is not None
            yield Goal(f"p99 of {of}, {case} / alone", found, 1.2, at_least=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each case")
    for name, usual in LIMITS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=usual, help="of the heavy key")
    options = parser.parse_args()
    limits = {name: getattr(options, name) for name in LIMITS}
    samples = Samples()
    for turn in range(options.rounds):
        one_round(turn, options.seconds, limits, samples)
    print(*shown(samples), "", *verdicts(goals(samples)), sep="\n")


if __name__ == "__main__":
    main()
