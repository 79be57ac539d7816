"""Clients that come to a server, each for a short while, and do one of all that can be done there.

Each visit looks at what it gets, ends what it has begun and deletes what it has made; what it finds
wrong it raises. Some runs are left waiting for outputs that never come.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import traceback
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx

from server.runs.state import TERMINAL
from tests.faults.history import answer_to, content_of
from tests.faults.traffic import upload_parts
from tests.runs.story import HELLO, WEATHER, Dialogue, Json, granted, refusal, text_of
from tests.streams.reader import asking, joined, reading, reading_new
from tests.support import DEADLINE, Event, eventually

PATIENCE = 120.0  # seconds, within which each run ends, whatever happens to its model
HANG = 15.0  # seconds, after which a worker that was stopped has been killed
CODE: Json = {"type": "code_interpreter"}
SEARCH: Json = {"type": "file_search"}
SUM: Json = {"role": "user", "content": "What is the sum of 20, 40 and 60?"}
CITY: Json = {"role": "user", "content": "What is the weather in Rome?"}
SALES = b"month,sold\nMay,20\nJune,40\nJuly,60\n"
NAMED: Json = {"type": "function", "function": {"name": "get_weather"}}
GOOD = ("completed", "incomplete")


def digits(number: int) -> Json:
    """A form that makes an answer of any model long: three tokens for each of so many digits."""
    items = {"type": "integer", "minimum": 0, "maximum": 9}
    array = {"type": "array", "items": items, "minItems": number, "maxItems": number}
    schema = {
        "type": "object",
        "properties": {"digits": array},
        "required": ["digits"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "digits", "schema": schema}}


@dataclass(slots=True)
class Found:
    """What all visitors have found together. `deaths` are those of workers, by the loop's clock."""

    visits: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    waiting: list[tuple[Talk, Json]] = field(default_factory=list)
    streams: int = 0  # whose deltas were compared with what is stored


@dataclass(frozen=True, slots=True)
class Talk(Dialogue):
    """A thread and an assistant of a visitor's."""

    http: httpx.AsyncClient
    assistant_id: str
    thread_id: str


@dataclass(slots=True)
class Visitor:
    """One visit, with a key of its project; `stranger` has one of another project."""

    http: httpx.AsyncClient
    stranger: httpx.AsyncClient
    chance: random.Random
    found: Found
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def deaths(self) -> int:
        """How many workers may have died under what this visitor has asked for."""
        return sum(death > self.began - HANG for death in self.found.deaths)

    @contextlib.asynccontextmanager
    async def talk(self, *messages: Json, **assistant: object) -> AsyncIterator[Talk]:
        """A new thread and assistant, deleted afterwards."""
        talk = await self.begin(*messages, **assistant)
        yield talk
        await self.delete(talk.url, f"/v1/assistants/{talk.assistant_id}")

    async def begin(self, *messages: Json, **assistant: object) -> Talk:
        """A new thread and assistant, left to all."""
        body = {"model": "gpt-4o", **assistant}
        made = granted(await self.http.post("/v1/assistants", json=body))
        said = {"messages": messages or [HELLO]}
        thread = granted(await self.http.post("/v1/threads", json=said))
        return Talk(self.http, made["id"], thread["id"])

    async def delete(self, *urls: str) -> None:
        """All of them are there, and then are not."""
        for url in urls:
            assert granted(await self.http.delete(url))["deleted"]

    async def upload(self, name: str, content: bytes) -> str:
        """A file; returns its id."""
        sent = {"file": (name, content)}
        purpose = {"purpose": "assistants"}
        return str(granted(await self.http.post("/v1/files", data=purpose, files=sent))["id"])

    async def settled(self, talk: Dialogue, run: Json) -> Json:
        """The run, when it has ended or waits for outputs."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await talk.settled(run)
        except TimeoutError:
            stuck = await talk.now(run)
        raise AssertionError(f"stuck: {stuck}, {await talk.steps(run)}")

    async def ended(self, talk: Dialogue, run: Json, *ends: str) -> Json:
        """The run, which has come to one of these ends. Two workers may have died under it."""
        now = await self.settled(talk, run)
        self.found.ends[now["status"]] += 1
        fails = now["status"] == "failed" and self.deaths >= 2
        assert now["status"] in (ends or GOOD) or fails, now
        return now

    async def as_stored(self, talk: Dialogue, told: Sequence[Event]) -> None:
        """Of each message, the deltas of a stream that was read to its end are the stored text."""
        deltas: defaultdict[str, list[Event]] = defaultdict(list)
        for event in told:
            if event.name == "thread.message.delta":
                deltas[event.data["id"]].append(event)
        for message_id, events in deltas.items():
            stored = granted(await self.http.get(f"{talk.url}/messages/{message_id}"))
            assert text_of(stored) == joined(events), stored
        self.found.streams += 1

    async def pause(self, most: float) -> None:
        """Think, for up to so many seconds."""
        await asyncio.sleep(self.chance.random() * most)


async def stream(visitor: Visitor) -> None:
    """A conversation of two runs, each read to its end."""
    async with visitor.talk() as talk:
        for _ in range(2):
            async with reading_new(talk, max_completion_tokens=400) as reader:
                told = await reader.rest()
            await visitor.ended(talk, told[0].data)
            await visitor.as_stored(talk, told)
            granted(await talk.say("Tell me a story about a harbor."))


async def poll(visitor: Visitor) -> None:
    """A run that is looked at again and again."""
    async with visitor.talk() as talk:
        run = await talk.start(response_format=digits(40))
        async with asyncio.timeout(PATIENCE):
            while (await talk.now(run))["status"] not in TERMINAL:  # noqa: ASYNC110 - it polls
                await asyncio.sleep(0.1)
        await visitor.ended(talk, run)


async def cancel(visitor: Visitor) -> None:
    """A run that is given up at any moment."""
    async with visitor.talk() as talk:
        run = await talk.start(response_format=digits(300))
        await visitor.pause(1)
        if (await talk.cancel(run)).status_code == 200:
            await visitor.ended(talk, run, "cancelled")
        else:
            await visitor.ended(talk, run)


async def go_away(visitor: Visitor) -> None:
    """A stream that is left in its middle; the run goes on, and some attach again."""
    async with visitor.talk() as talk:
        async with reading_new(talk, response_format=digits(80)) as reader:
            told = await reader.take(visitor.chance.randint(1, 120))
        run = told[0].data
        if visitor.chance.random() < 0.5:
            await visitor.pause(0.5)
            async with reading(talk, run, len(told)) as reader:
                told += await reader.rest()
            await visitor.as_stored(talk, told)
        await visitor.ended(talk, run)


async def read_slowly(visitor: Visitor) -> None:
    """A stream that is read with pauses, and still is whole."""
    async with visitor.talk() as talk:
        async with reading_new(talk, response_format=digits(60)) as reader:
            told = await reader.take(1)
            for _ in range(10):
                told += await reader.take(4)  # of 60 and more
                await visitor.pause(0.4)
            told += await reader.rest()
        await visitor.ended(talk, told[0].data)
        await visitor.as_stored(talk, told)


async def never_read(visitor: Visitor) -> None:
    """A stream that nobody reads: its run ends, and the connection is closed before its end."""
    async with visitor.talk() as talk:
        body = {"assistant_id": talk.assistant_id, "stream": True, "response_format": digits(200)}
        head = {"Authorization": visitor.http.headers["Authorization"], "Connection": "close"}
        with await asking(visitor.url, f"{talk.url}/runs", body, **head) as connection:

            async def runs() -> list[Json]:
                found: list[Json] = granted(await visitor.http.get(f"{talk.url}/runs"))["data"]
                return found

            [run] = await eventually(runs, bool)
            await visitor.ended(talk, run)
            connection.setblocking(True)
            connection.settimeout(DEADLINE)
            await asyncio.to_thread(_drain, connection)


def _drain(connection: socket.socket) -> None:
    """Read what is left, up to the end that the server has made."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass


async def call(visitor: Visitor) -> None:
    """A run whose calls are answered, by a stream or not."""
    async with visitor.talk(CITY, tools=[WEATHER]) as talk:
        run = await visitor.settled(talk, await talk.start(tool_choice=NAMED))
        for _ in range(3):
            if run["status"] != "requires_action":
                break
            streamed = visitor.chance.random() < 0.5
            request = answer_to(f"{talk.url}/runs/{run['id']}", run)
            answer = await visitor.http.post(
                request["url"], json={**request["json"], "stream": streamed}
            )
            assert answer.status_code == 200, answer.text
            run = await visitor.settled(talk, run)
        if run["status"] == "requires_action":
            granted(await talk.cancel(run))
        await visitor.ended(talk, run, *GOOD, "cancelled")


async def call_in_vain(visitor: Visitor) -> None:
    """A run whose calls nobody answers: it is cancelled now, or when all visits are over."""
    talk = await visitor.begin(CITY, tools=[WEATHER])
    run = await visitor.settled(talk, await talk.start(tool_choice=NAMED))
    if run["status"] != "requires_action":
        await visitor.ended(talk, run)
    elif visitor.chance.random() < 0.3:
        visitor.found.waiting.append((talk, run))
    else:
        await visitor.pause(1)
        granted(await talk.cancel(run))
        await visitor.ended(talk, run, "cancelled")


async def wait_in_line(visitor: Visitor) -> None:
    """A busy thread: a message and a run wait their turn, or cancel the run before them."""
    policy = visitor.chance.choice(["queue", "interrupt"])
    async with visitor.talk() as talk:
        first = await talk.start(response_format=digits(60))
        said = granted(await talk.say("Hello again!", busy=policy))
        second = await talk.start(busy=policy)
        ended = await visitor.ended(talk, first, *GOOD, "cancelled")
        assert policy == "interrupt" or ended["status"] != "cancelled", ended
        await visitor.ended(talk, second)
        came = [message["id"] for message in await talk.messages()]
        answers = [message["id"] for message in await talk.answers(second)]
        assert came.index(said["id"]) < min(map(came.index, answers)), came


async def run_code(visitor: Visitor) -> None:
    """A run that computes, with a file or without, stopped in its middle or not."""
    file = await visitor.upload("sales.csv", SALES)
    attached = [{"file_id": file, "tools": [CODE]}]
    question = {"role": "user", "content": "Summarize sales.csv.", "attachments": attached}
    async with visitor.talk(visitor.chance.choice([SUM, question]), tools=[CODE]) as talk:
        run = await talk.start(tool_choice=CODE, max_completion_tokens=400)
        if visitor.chance.random() < 0.3:
            await visitor.pause(0.5)
            await talk.cancel(run)
        await visitor.ended(talk, run, *GOOD, "cancelled")
    await visitor.delete(f"/v1/files/{file}")


async def search(visitor: Visitor) -> None:
    """Files, in one piece and in parts, in a vector store; a run searches it; all of it goes."""
    name = f"harbor{visitor.chance.randrange(10**9)}.txt"
    in_parts = await upload_parts(visitor.http, f"b{name}")
    files = [await visitor.upload(name, content_of(name)), in_parts["id"]]
    store = granted(await visitor.http.post("/v1/vector_stores", json={"file_ids": files}))["id"]
    url = f"/v1/vector_stores/{store}"
    if visitor.chance.random() < 0.7:

        async def counts() -> Json:
            found: Json = granted(await visitor.http.get(url))["file_counts"]
            return found

        ready = await eventually(counts, lambda now: not now["in_progress"])
        assert ready["completed"] == len(files), ready
        resources = {"file_search": {"vector_store_ids": [store]}}
        async with visitor.talk(tools=[SEARCH], tool_resources=resources) as talk:
            await visitor.ended(talk, await talk.start(tool_choice=SEARCH))
        found = await visitor.http.post(f"{url}/search", json={"query": name.partition(".")[0]})
        assert granted(found)["data"][0]["file_id"] in files
    urls = [url, *(f"/v1/files/{file}" for file in files)]
    visitor.chance.shuffle(urls)
    await visitor.delete(*urls)


async def complete(visitor: Visitor) -> None:
    """A chat completion, streamed or not, some of them left. A worker may have died under it."""
    streamed = visitor.chance.random() < 0.5
    body = {"model": "gpt-4o", "messages": [HELLO], "response_format": digits(50)}
    url = "/v1/chat/completions"
    if not streamed:
        answer = await visitor.http.post(url, json=body)
        assert answer.status_code == 200 or visitor.deaths, answer.text
        return
    lines: list[str] = []
    async with visitor.http.stream("POST", url, json={**body, "stream": True}) as response:
        if response.status_code == 200:
            async for line in response.aiter_lines():
                lines.append(line)
                if len(lines) > 50 and visitor.chance.random() < 0.01:
                    return
    broken = not lines or any(line.startswith('data: {"error"') for line in lines)
    assert visitor.deaths or not broken, (response.status_code, lines[-3:])
    assert not lines or "data: [DONE]" in lines, lines[-3:]


async def repeat(visitor: Visitor) -> None:
    """The same request twice at once, with a key: it is done once."""
    key = {"Idempotency-Key": f"key{visitor.chance.randrange(10**9)}"}
    body = {"messages": [HELLO]}
    first, second = await asyncio.gather(
        *(visitor.http.post("/v1/threads", json=body, headers=key) for _ in range(2))
    )
    assert granted(first) == granted(second)
    await visitor.delete(f"/v1/threads/{first.json()['id']}")


async def mistake(visitor: Visitor) -> None:
    """What is refused: nonsense, a wrong key, another project's thread, a busy one."""
    http, wrong = visitor.http, {"Authorization": "Bearer sk-wrong"}
    async with visitor.talk() as talk:
        run = await talk.start(response_format=digits(40))
        busy = await talk.create()
        assert busy.status_code == 400 or (await talk.now(run))["status"] in TERMINAL, busy.text
        refusal(await http.post(f"{talk.url}/runs", json={}))
        refusal(await http.post("/v1/assistants", content=b"{"))
        refusal(await http.post("/v1/files", json={}))
        refusal(await visitor.stranger.get(talk.url), 404)
        refusal(await http.get("/v1/threads/thread_none"), 404)
        refusal(await http.get("/v1/assistants", headers=wrong), 401)
        if busy.status_code == 200:
            await visitor.ended(talk, busy.json())
        await visitor.ended(talk, run)


Visit = Callable[[Visitor], Awaitable[None]]
VISITS: tuple[Visit, ...] = (
    stream,
    poll,
    cancel,
    go_away,
    read_slowly,
    never_read,
    call,
    call_in_vain,
    wait_in_line,
    run_code,
    search,
    complete,
    repeat,
    mistake,
)


async def visit(what: Visit, visitor: Visitor) -> None:
    """One visit; what it found wrong is noted."""
    name = what.__name__
    visitor.found.visits[name] += 1
    try:
        await what(visitor)
    except Exception as fault:  # noqa: BLE001 - whatever a visit raises is what it has found
        told = "".join(traceback.format_exception(fault, limit=-3))[-1500:]
        visitor.found.faults.append(f"{name}: {told}")
