"""What clients were told by servers that have died since, and whether it is still true.

An answer with 200 is a promise, and so is an event of a stream. A request whose answer never came
may have been done or not, but not by half, and not twice.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from server.runs.state import TERMINAL, TRANSITIONS
from tests.runs.story import Json, calls_of, granted, text_of
from tests.sdk.scripted_server import PICTURE
from tests.support import Event, parse_events

KEY = "Idempotency-Key"
RECOVERY = 5.0  # seconds after a start in which runs end, or wait for their clients
INGESTION = 30.0  # the same for files, each of which is read by a process of its own
CHANGES_BY_ITSELF = {"file_counts", "last_active_at", "status", "usage_bytes"}  # of a vector store
OUTPUT = "sunny"
SUNNY = f"The output is {OUTPUT}."


@dataclass(frozen=True, slots=True)
class Order:
    """What a message asks of the scripted model, and how its run may end."""

    message: str
    ends: frozenset[str] = frozenset({"completed"})
    says: str | None = None
    body: Json = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """What its client was told."""

    url: str
    order: Order
    seen: list[str] = field(default_factory=list)
    final: Json | None = None
    cancelled: bool = False
    closed: dict[str, Json] = field(default_factory=dict)  # messages whose end was told
    texts: defaultdict[str, str] = field(default_factory=lambda: defaultdict(str))


@dataclass(slots=True)
class Sent:
    """A POST with a key. `answer` is what it was told, if it was, as bytes; of a stream the run."""

    url: str
    body: Json
    answer: bytes | None = None

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def answered(self, answer: httpx.Response) -> None:
        """Every sending is told the same."""
        assert answer.status_code == 200, answer.text
        told = answer.content if not self.streams else first_of(answer)["id"].encode()
        assert self.answer in (None, told), (self, told)
        self.answer = told


@dataclass(frozen=True, slots=True)
class Fact:
    """What was true of an object when its client heard of it; `mark` is the log's size then."""

    mark: int
    id: str
    state: str  # "there", "gone", or how a run has ended


class History:
    """Of some clients. `mark` is asked with each answer that comes.

    `orderly`: the server is asked to stop, and not killed, so streams have an end.
    """

    def __init__(
        self,
        numbers: Iterator[int],
        mark: Callable[[], int] = lambda: 0,
        *,
        orderly: bool = False,
    ) -> None:
        self.numbers = numbers  # for names that nobody else has
        self.orderly = orderly
        self.facts: list[Fact] = []
        self.places: dict[str, int] = {}  # of ids, in the order in which they were first told
        self.told: dict[str, Json | None] = {}  # by URL; None is what is deleted
        self.unsure: defaultdict[str, list[Json | None]] = defaultdict(list)  # what it may be, too
        self.asked: defaultdict[str, list[str]] = defaultdict(list)  # messages without an answer
        self.runs: dict[str, Run] = {}
        self.runs_asked: dict[str, Order] = {}  # by thread, without an answer
        self.sent: dict[str, Sent] = {}  # by key
        self.within: dict[tuple[str, str], str | None] = {}  # files of stores, with their words
        self._mark = mark
        self._news = asyncio.Event()

    def heard(self, url: str, value: Json | None) -> None:
        """An object is so now."""
        self.told[url] = value
        self.unsure.pop(url, None)
        self.note(url.rpartition("/")[2], "gone" if value is None else "there")
        if value is None:
            for below in self.below(url):
                del self.told[below]
                self.note(below.rpartition("/")[2], "gone")

    def note(self, object_id: str, state: str) -> None:
        self.places.setdefault(object_id, len(self.places))
        self.facts.append(Fact(self._mark(), object_id, state))
        self._news.set()

    async def grown(self, facts: int) -> None:
        """Wait until clients have been told so much."""
        while len(self.facts) < facts:
            self._news.clear()
            await self._news.wait()

    def below(self, url: str) -> list[str]:
        """The objects in it."""
        return [other for other in self.told if other.startswith(f"{url}/")]

    def perhaps_gone(self) -> set[str]:
        """The ids of what somebody wanted to delete, without an answer."""
        urls = [url for url, may_be in self.unsure.items() if None in may_be]
        return {each.rpartition("/")[2] for url in urls for each in (url, *self.below(url))}

    def begun(self, thread: str, answer: Json, order: Order) -> Run:
        """A run was answered with, or its first event came."""
        self.runs_asked.pop(thread, None)
        url = f"{thread}/runs/{answer['id']}"
        run = self.runs[url] = Run(url, order)
        self.saw(run, answer)
        return run

    def saw(self, run: Run, now: Json) -> None:
        """The run was in this state."""
        if run.seen:
            assert now["status"] in onward(run.seen[-1]), (run.seen, now)
        assert run.final in (None, now)
        run.seen.append(now["status"])
        ended = now["status"] in TERMINAL
        self.note(now["id"], now["status"] if ended else "there")
        if ended:
            run.final = now

    def event(self, run: Run, event: Event) -> None:
        """An event of the run's stream came."""
        kind, _, what = event.name.rpartition(".")
        if kind == "thread.run":
            self.saw(run, event.data)
        elif event.name == "thread.message.delta":
            part = event.data["delta"]["content"][0]["text"]
            run.texts[event.data["id"]] += part["value"]
        elif kind == "thread.message" and what in ("completed", "incomplete"):
            assert text_of(event.data) == run.texts[event.data["id"]]
            run.closed[event.data["id"]] = event.data
            self.note(event.data["id"], "there")


def onward(status: str) -> set[str]:
    """The states that may follow, sooner or later, and this one."""
    found, new = {status}, {status}
    while new := {to for frm in new for to in TRANSITIONS[frm]} - found:
        found |= new
    return found


class Witness:
    """Compares what was told with what a server says now."""

    def __init__(self, http: httpx.AsyncClient, history: History) -> None:
        self._http = http
        self._history = history

    async def verify(self) -> float:
        """All of it. Afterwards nothing is open. Returns the seconds that recovery has taken."""
        took = await self.recover()
        await asyncio.gather(*(self._thread(url) for url in self._threads()))
        async with asyncio.timeout(INGESTION):
            for (store, file), words in self._history.within.items():
                await self._file_within(store, file, words)
        await self.look_at_each()
        return took

    async def look_at_each(self) -> None:
        """Each object is as it was told to be."""
        for url in list(self._history.told):
            if url in self._history.told:  # what is in a deleted one is gone with it
                await self._look_at(url)

    async def no_twins(self) -> None:
        """No object was made twice."""
        for kind, name in (
            ("assistants", "name"),
            ("vector_stores", "name"),
            ("files", "filename"),
        ):
            found = Counter(each[name] for each in await self._list(f"/v1/{kind}"))
            assert max(found.values(), default=1) == 1, found

    async def recover(self) -> float:
        """All runs end in time; those that wait for their client get what they need."""
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(RECOVERY):
                await asyncio.gather(
                    *(self._send_again(*each) for each in self._history.sent.items())
                )
                for thread in self._threads():
                    await self._adopt(thread)
                await asyncio.gather(*map(self._settle, self._history.runs.values()))
        except TimeoutError:
            stuck = [run for run in self._history.runs.values() if run.final is None]
            raise AssertionError(f"stuck: {stuck}") from None
        return asyncio.get_running_loop().time() - begun

    async def _send_again(self, key: str, sent: Sent) -> None:
        """What was answered is answered so; what was not is done now, or was. Twice at once."""
        request: dict[str, Any] = {"url": sent.url, "json": sent.body, "headers": {KEY: key}}
        for answer in await asyncio.gather(*(self._http.post(**request) for _ in range(2))):
            sent.answered(answer)
        made = first_of(answer) if sent.streams else granted(answer)
        thread, _, kind = sent.url.rpartition("/")
        url = f"{sent.url}/{made['id']}"
        if url in self._history.runs or url in self._history.told:
            return
        if kind == "runs":
            assert thread in self._history.runs_asked, f"{key} has made another run: {made}"
            self._history.begun(thread, made, self._history.runs_asked[thread])
            return
        if kind == "messages":
            self._history.asked[thread].remove(text_of(made))
        self._history.heard(url, made)

    def _ran(self, thread: str) -> list[Run]:
        """The runs in it that somebody was told of."""
        return [run for url, run in self._history.runs.items() if url.startswith(f"{thread}/")]

    def _threads(self) -> list[str]:
        told = self._history.told
        return [url for url in told if told[url] and url.rpartition("/")[0] == "/v1/threads"]

    async def _adopt(self, thread: str) -> None:
        """A run whose creation was never answered may be there, too: at most that one."""
        if not await self._is_there(thread):
            self._history.runs_asked.pop(thread, None)
            return
        if thread not in self._history.runs_asked and not self._ran(thread):
            return
        shown = await self._list(f"{thread}/messages")
        runs = await self._list(f"{thread}/runs")
        self._wait_their_turn(runs, shown)
        unknown = [run for run in runs if f"{thread}/runs/{run['id']}" not in self._history.runs]
        order = self._history.runs_asked.pop(thread, None)
        assert len(unknown) <= (order is not None), unknown
        if order is not None and unknown:
            self._history.begun(thread, unknown[0], order)

    def _wait_their_turn(self, runs: Sequence[Json], shown: Sequence[Json]) -> None:
        """One run is active at most, and what was sent after it is not at work or shown yet."""
        active, *waiting = [run for run in runs if run["status"] not in TERMINAL] or [None]
        for run in waiting:
            assert (run["status"], run["started_at"], run["expires_at"]) == ("queued", None, None)
        places = self._history.places
        if active is not None and (place := places.get(active["id"])) is not None:
            said = [each["id"] for each in shown if each["role"] == "user"]
            assert all(places.get(each, 0) < place for each in said), (active, shown)

    async def _settle(self, run: Run) -> None:
        if not await self._is_there(run.url.partition("/runs/")[0]):
            return
        now = granted(await self._http.get(run.url))
        self._history.saw(run, now)
        if now["status"] not in TERMINAL and "cancelled" in run.order.ends and not run.cancelled:
            answer = await self._http.post(f"{run.url}/cancel")
            assert answer.status_code == 200 or "expired" in run.order.ends, answer.text
        await self._http.get(f"{run.url}/events")
        now = granted(await self._http.get(run.url))
        if now["status"] == "requires_action":
            granted(await self._http.post(**answer_to(run.url, now)))
            await self._http.get(f"{run.url}/events")
            now = granted(await self._http.get(run.url))
        assert now["status"] in run.order.ends, (run, now)
        self._history.saw(run, now)

    async def _thread(self, url: str) -> None:
        """Its messages were each said once; its runs are whole; it takes another run."""
        if not await self._is_there(url):
            return
        messages = await self._list(f"{url}/messages")
        said = [message for message in messages if message["role"] == "user"]
        below = self._history.below(f"{url}/messages")
        known = [each.rpartition("/")[2] for each in below if self._history.told[each]]
        there = [each["id"] for each in said if each["id"] in known]
        gone = self._history.perhaps_gone()
        assert there == [each for each in known if each in there or each not in gone]
        unknown = [text_of(each) for each in said if each["id"] not in known]
        assert Counter(unknown) <= Counter(self._history.asked[url]), unknown
        makers = (each["run_id"] or each["id"] for each in messages)
        told = self._history.places
        places = [told[each] for each in makers if each in told]
        assert places == sorted(places), messages
        runs = self._ran(url)
        for run in runs:
            await self._run(run, messages)
        if runs:
            await self._takes_another(url, runs[-1])

    async def _takes_another(self, thread: str, last: Run) -> None:
        assert last.final is not None
        order = {"role": "user", "content": "say Again."}
        granted(await self._http.post(f"{thread}/messages", json=order))
        body = {"assistant_id": last.final["assistant_id"]}
        run = granted(await self._http.post(f"{thread}/runs", json=body))
        await self._http.get(f"{thread}/runs/{run['id']}/events")
        again = granted(await self._http.get(f"{thread}/runs/{run['id']}"))
        assert again["status"] == "completed"

    async def _run(self, run: Run, messages: list[Json]) -> None:
        now = granted(await self._http.get(run.url))
        assert now == run.final
        told = parse_events((await self._http.get(f"{run.url}/events")).text)
        states = [each for each in told if each.name.startswith("thread.run.") and is_run(each)]
        assert [each.data["status"] in TERMINAL for each in states].count(True) == 1, told
        assert [told[-2].data, told[-1].name] == [now, "done"]
        for before, after in itertools.pairwise(states):
            assert after.data["status"] in onward(before.data["status"])
        steps = await self._list(f"{run.url}/steps")
        answers = {each["id"]: each for each in messages if each["run_id"] == now["id"]}
        opened = {e["id"] for e in (*steps, *answers.values()) if e["status"] == "in_progress"}
        assert not opened
        written = [each for each in steps if each["type"] == "message_creation"]
        ids = [each["step_details"]["message_creation"]["message_id"] for each in written]
        assert ids == list(answers)
        assert {key: answers[key] for key in run.closed} == run.closed
        await asyncio.gather(*(self._picture(each) for each in pictures_in(steps)))
        spent = [each["usage"]["total_tokens"] for each in steps]
        assert now["usage"]["total_tokens"] >= sum(spent)
        if now["status"] == "completed":
            assert steps[-1]["status"] == "completed"
            assert run.order.says in (None, text_of(list(answers.values())[-1]))

    async def _picture(self, file_id: str) -> None:
        """What code has drawn is there."""
        assert (await self._http.get(f"/v1/files/{file_id}/content")).content == PICTURE

    async def _file_within(self, store: str, file: str, words: str | None) -> None:
        """What is told to be in a store is found there; what is told to be out is not in it."""
        if not await self._is_there(store):
            return
        url = f"{store}/files/{file}"
        maybe = self._history.unsure.pop(url, [])
        answer = await self._http.get(url)
        allowed = {404 if words is None else 200, *(404 if each is None else 200 for each in maybe)}
        assert answer.status_code in allowed, (url, words, answer.text)
        if answer.status_code == 404 or words is None:
            return
        while answer.json()["status"] == "in_progress":
            await asyncio.sleep(0.05)
            answer = await self._http.get(url)
        assert granted(answer)["status"] == "completed", answer.text
        found = await self._http.post(f"{store}/search", json={"query": words})
        assert file in [each["file_id"] for each in granted(found)["data"]]

    async def _look_at(self, url: str) -> None:
        """The object is as it was told to be, or as an unanswered request may have left it."""
        answer = await self._http.get(url)
        now = None if answer.status_code == 404 else granted(answer)
        may_be = [self._history.told[url], *self._history.unsure[url]]
        assert lasting(now) in [lasting(each) for each in may_be], (url, now, may_be)
        self._history.heard(url, now)
        if url.startswith("/v1/files/") and now is not None:
            content = await self._http.get(f"{url}/content")
            assert content.content == content_of(now["filename"])

    async def _is_there(self, url: str) -> bool:
        return (await self._http.get(url)).status_code == 200

    async def _list(self, url: str) -> list[Json]:
        """All that a list has, oldest first."""
        found: list[Json] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            query = {"order": "asc", "limit": 100, **after}
            page = granted(await self._http.get(url, params=query))
            found += page["data"]
            if not page["has_more"]:
                return found


def first_of(stream: httpx.Response) -> Json:
    """The run that a whole stream tells of, as it was created."""
    told = parse_events(stream.text)
    assert (told[0].name, told[-1].name) == ("thread.run.created", "done"), told
    created: Json = told[0].data
    return created


def is_run(event: Event) -> bool:
    """Whether the event tells of the run itself."""
    return event.data != "[DONE]" and event.data["object"] == "thread.run"


def pictures_in(steps: Sequence[Json]) -> Iterator[str]:
    """The files of what code has drawn."""
    for step in steps:
        for call in step["step_details"].get("tool_calls", ()):
            for output in call.get("code_interpreter", {"outputs": ()})["outputs"]:
                if output["type"] == "image":
                    yield output["image"]["file_id"]


def answer_to(url: str, run: Json) -> dict[str, Any]:
    """The request that gives a run the outputs of its calls."""
    outputs = [{"tool_call_id": call["id"], "output": OUTPUT} for call in calls_of(run)]
    return {"url": f"{url}/submit_tool_outputs", "json": {"tool_outputs": outputs}}


def content_of(filename: str) -> bytes:
    """The bytes of a test's file follow from its name."""
    stem = filename.partition(".")[0]
    return "".join(f"Line {line} of {stem} is about {stem}.\n" for line in range(20)).encode()


def lasting(value: Json | None) -> Json | None:
    """What changes only if somebody asks for it."""
    if value is None or value["object"] != "vector_store":
        return value
    return {key: each for key, each in value.items() if key not in CHANGES_BY_ITSELF}
