"""A server as it is shipped, under all that clients do, while its workers die; then it is at rest.

The report says what was seen, and names what was not as promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from server import control
from server.access.keys import DEFAULT_PROJECT
from tests.process import ServerProcess, served
from tests.runs.story import HELLO, granted, metric_in
from tests.soak.visitors import VISITS, Found, Visit, Visitor, run_code, visit
from tests.soak.vitals import MIB, Rest, Vitals, at_rest, workers
from tests.support import BETA, DEADLINE

SETTINGS = {
    # What is held for a while goes soon, so that what stays is seen.
    "ASSISTANTS_STREAMS__KEEP": "20",
    "ASSISTANTS_CODE_INTERPRETER__IDLE_AFTER": "20",
    "ASSISTANTS_CODE_INTERPRETER__SESSIONS": "3",
    "ASSISTANTS_CODE_INTERPRETER__BACKEND": "auto",
    "ASSISTANTS_SEARCH__EMBEDDING_MODEL": "ngrams",
    # Who hangs and who is stuck shows within seconds.
    "ASSISTANTS_ENGINE__HANG_TIMEOUT": "8",
    "ASSISTANTS_STREAMS__STUCK_AFTER": "3",
    "ASSISTANTS_STREAMS__SEND_BUFFER": "8192",
    "ASSISTANTS_STREAMS__PING": "5",
}
VISITORS = 10  # at once
GRACE = 30.0  # seconds, within which all is at rest when the last visitor has gone
RECOVERY = 15.0  # seconds, within which a run that comes after a worker's death has ended
HANG_RECOVERY = 30.0  # the same where the worker was stopped, which has to be noticed first
GLANCE = 2.0  # seconds between two readings
GROWTH = 8 * MIB  # of the server's memory, from the second third of the time to the last
SHARE = 0.03  # and this share of it
SHORTEST_THIRD = 120.0  # seconds: memory of less is still warming up, and is not judged
HANDLES = 4  # that may be open beside those of the beginning
ORDINARY = {"engine.worker_died"}  # events of the log that are errors, and no fault here


@dataclass(frozen=True, slots=True)
class Plan:
    """For how long; a worker dies every `kill_every` seconds, each `hang_every`th by hanging."""

    seconds: float
    seed: int = 1
    kill_every: float = 60.0
    hang_every: int = 5


@dataclass(frozen=True, slots=True)
class Keys:
    """Secrets: of two projects, and of whoever may read `/metrics`."""

    projects: tuple[str, str]
    metrics: str


@dataclass(slots=True)
class Soak:
    """One server, and what becomes of it."""

    server: ServerProcess
    keys: Keys
    plan: Plan
    visits: tuple[Visit, ...]
    chance: random.Random
    vitals: Vitals
    no_code: str | None  # why not
    found: Found = field(default_factory=Found)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: {"killed": [], "hung": []})
    metrics: str = ""
    faults: list[str] = field(default_factory=list)

    async def last(self) -> None:
        """All of it. `faults` are what was not as promised."""
        await asyncio.gather(*map(self._visit, self.visits))
        before = await self._rest(None)
        looking, killing = asyncio.create_task(self._look()), asyncio.create_task(self._kill())
        until = self._now() + self.plan.seconds
        await asyncio.gather(*(self._come_again(until) for _ in range(VISITORS)))
        for task in (looking, killing):
            task.cancel()
        ends = await asyncio.gather(looking, killing, return_exceptions=True)
        self.faults += [repr(end) for end in ends if isinstance(end, Exception)]
        for project in self.keys.projects:
            await self._visit(give_up, project)
        after = await self._rest(before)
        self.faults += [
            *self.found.faults,
            *differences(before, after),
            *self._judged(),
            *unexpected(self.server.log.read_text()),
        ]

    async def _visit(self, what: Visit, project: str | None = None) -> None:
        """By somebody who has a key of this project, or of any."""
        key = project or self.chance.choice(self.keys.projects)
        [another] = set(self.keys.projects) - {key}
        dice = random.Random(self.chance.random())
        async with self._client(key) as http, self._client(another) as stranger:
            await visit(what, Visitor(http, stranger, dice, self.found))

    async def _come_again(self, until: float) -> None:
        """One visitor after the other."""
        while self._now() < until:
            await self._visit(self.chance.choice(self.visits))

    async def _look(self) -> None:
        while True:
            self.vitals.read()
            await asyncio.sleep(GLANCE)

    async def _kill(self) -> None:
        """End the worker that is there, and see how long the next visitor has to wait."""
        for count in itertools.count(1):
            await asyncio.sleep(self.plan.kill_every)
            hangs = count % self.plan.hang_every == 0
            for worker in workers(self.vitals.pid):
                self.found.deaths.append(self._now())
                os.kill(worker, signal.SIGSTOP if hangs else signal.SIGKILL)
            began = self._now()
            await self._visit(greet)
            self.recoveries["hung" if hangs else "killed"].append(self._now() - began)

    async def _rest(self, before: Rest | None) -> Rest:
        """Delete all that is left, and wait until all else has gone, too, or too long."""
        for key in self.keys.projects:
            async with self._client(key) as http:
                await clear_away(http)
        until = self._now() + GRACE
        while True:
            rest = at_rest(self.vitals.pid, self.server.log.parent, await self._figures())
            if self._now() > until or not differences(before or rest, rest):
                return rest
            await asyncio.sleep(0.2)

    async def _figures(self) -> str:
        """`/metrics`, once a small answer has renewed what the engine tells of itself."""
        async with self._client(self.keys.projects[0]) as http:
            body = {"model": "gpt-4o", "messages": [HELLO]}
            granted(await http.post("/v1/chat/completions", json=body))
        async with self._client(self.keys.metrics) as http:
            self.metrics = (await http.get("/metrics")).text
        return self.metrics

    def _client(self, key: str) -> httpx.AsyncClient:
        headers = {**BETA, "Authorization": f"Bearer {key}"}
        base = self.server.url.removesuffix("/v1")
        return httpx.AsyncClient(
            base_url=base, headers=headers, timeout=DEADLINE, trust_env=False, verify=False
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _judged(self) -> Iterator[str]:
        """What was seen on the way."""
        if self.vitals.undead:
            yield f"{len(self.vitals.undead)} processes that ended were never waited for"
        for name, bound in (("killed", RECOVERY), ("hung", HANG_RECOVERY)):
            if max(self.recoveries[name], default=0.0) > bound:
                yield f"slow to come back from a worker that was {name}: {self.recoveries[name]}"
        if not self.found.deaths:
            yield "no worker was there to be killed"
        died = metric_in(self.metrics, "assistants_engine_restarts_total")
        if died != len(self.found.deaths):
            yield f"{died:.0f} workers died, of {len(self.found.deaths)} that were killed"
        for (route, _, status), number in self.requests.items():
            if status.startswith("5") and route != "/v1/chat/completions":
                yield f"{number} answers of {route} were {status}"
        if self.plan.seconds / 3 >= SHORTEST_THIRD and (fault := growth(self.vitals.thirds)):
            yield fault

    @property
    def requests(self) -> Counter[tuple[str, str, str]]:
        """How many there were, by route, method and status."""
        line = r'http_requests_total{method="(.+?)",route="(.+?)",status="(.+?)"} (\S+)'
        found = re.findall(line, self.metrics)
        return Counter(
            {(route, method, status): int(float(n)) for method, route, status, n in found}
        )

    def report(self) -> str:
        """What was seen, for a reader."""
        by_status = Counter[str]()
        by_route = Counter[str]()
        for (route, method, status), number in self.requests.items():
            by_status[status] += number
            by_route[f"{method} {route}"] += number
        first, second, last = (value / MIB for value in self.vitals.thirds)
        readings = self.vitals.readings
        lines = [
            f"visits     {listed(self.found.visits)}",
            f"requests   {by_route.total()}: {listed(by_status)}",
            *(f"           {number:7} {route}" for route, number in by_route.most_common()),
            f"runs       {listed(self.found.ends)}",
            f"streams    {self.found.streams} with every delta as it is stored",
            f"workers    {len(self.found.deaths)} ended;"
            f" slowest recovery {self._slowest('killed')} s, {self._slowest('hung')} s of a hang",
            f"memory     {first:.1f}, {second:.1f}, {last:.1f} MiB in the thirds of the time;"
            f" at most: workers {max(r.worker for r in readings) / MIB:.0f},"
            f" sessions and readers of documents {max(r.others for r in readings) / MIB:.0f} MiB",
            f"handles    at most {max(r.files for r in readings)},"
            f" processes at most {max(r.processes for r in readings)}",
            *([f"NO CODE    was run: {self.no_code}"] if self.no_code else []),
            *(f"FAULT      {fault}" for fault in self.faults),
            "" if self.faults else "nothing stuck, nothing leaked",
        ]
        return "\n".join(lines)

    def _slowest(self, how: str) -> str:
        return f"{max(self.recoveries[how], default=0.0):.1f}"


def listed(counts: Counter[str]) -> str:
    """In words."""
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


async def greet(visitor: Visitor) -> None:
    """A run that is over soon."""
    async with visitor.talk() as talk:
        await visitor.ended(talk, await talk.start())


async def give_up(visitor: Visitor) -> None:
    """End the runs of the visitor's project that wait for outputs, unless their time is over."""
    key = visitor.http.headers["Authorization"]
    for talk, run in visitor.found.waiting:
        if talk.http.headers["Authorization"] == key:
            mine = replace(talk, http=visitor.http)
            await mine.cancel(run)
            await visitor.ended(mine, run, "cancelled", "expired")


async def clear_away(http: httpx.AsyncClient) -> None:
    """Delete whatever the project has."""
    for kind in ("threads", "assistants", "vector_stores", "files"):
        while found := granted(await http.get(f"/v1/{kind}", params={"limit": 100}))["data"]:
            for each in found:
                granted(await http.delete(f"/v1/{kind}/{each['id']}"))


def differences(before: Rest, after: Rest) -> list[str]:
    """What is still there that was not there before, or should not be at all."""
    busy = {name: value for name, value in after.figures.items() if value}
    more = list((of_a_kind(after.files) - of_a_kind(before.files)).elements())
    started = after.processes - before.processes
    return [
        *(f"{name} is {value:.0f} at rest" for name, value in busy.items()),
        *(f"left behind: {name}" for name in after.left),
        *([f"handles left open: {more}"] if len(more) > HANDLES else []),
        *([f"processes left: {started}"] if started else []),
        *([f"{after.cells:.0f} cells in use at rest"] if after.cells > before.cells else []),
    ]


def of_a_kind(files: list[str]) -> Counter[str]:
    """Handles, whatever number is in their names."""
    return Counter(re.sub(r"\[\d+\]", "", name) for name in files)


def growth(thirds: tuple[float, float, float]) -> str | None:
    """What is wrong with the memory that the server has in the thirds of the time, in bytes."""
    _, second, last = thirds
    bound = GROWTH + SHARE * second
    if last - second <= bound:
        return None
    return (
        f"memory has grown from {second / MIB:.1f} to {last / MIB:.1f} MiB,"
        f" by more than {bound / MIB:.1f} MiB"
    )


def unexpected(log: str) -> Iterator[str]:
    """Errors in a log, and tracebacks."""
    for line in log.splitlines():
        _, level, event, *_ = [*line.split(" ", 3), "", "", ""]
        if line.startswith("Traceback") or (
            level in ("error", "critical") and event not in ORDINARY
        ):
            yield f"in the log: {line[:300]}"


def new_keys(folder: Path) -> Keys:
    """Made by the server that has this data folder, as an operator's commands have it do."""

    def made(verb: str, **wanted: str) -> control.Json:
        return control.ask(control.socket_in(folder), verb, wanted)

    another = made("projects.create", name="another")["id"]
    one, other = (made("keys.create", project=each) for each in (DEFAULT_PROJECT, another))
    return Keys((one["secret"], other["secret"]), made("keys.create", scope="metrics")["secret"])


@contextlib.contextmanager
def soaking(folder: Path, plan: Plan) -> Iterator[Soak]:
    """A server in a folder of its own, about to be soaked."""
    temporary = folder / "tmp"
    temporary.mkdir()
    with served(folder, TMPDIR=str(temporary), **SETTINGS) as server:
        ready = httpx.get(f"{server.url.removesuffix('/v1')}/readyz", trust_env=False).json()
        no_code: str | None = ready.get("code_interpreter")
        visits = tuple(each for each in VISITS if no_code is None or each is not run_code)
        keys, vitals = new_keys(folder / "data"), Vitals(server.process.pid)
        yield Soak(server, keys, plan, visits, random.Random(plan.seed), vitals, no_code)
