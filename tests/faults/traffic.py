"""Clients who do all that a server can be asked for, until it dies, and note what they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpx

from server.tools.code_interpreter import DRAWN
from tests.faults.history import KEY, SUNNY, History, Order, Run, Sent, answer_to, content_of
from tests.runs.story import WEATHER, Json, granted
from tests.support import Event, eventually, parse_events


class Stopping(Exception):
    """The server was asked to stop, and has said so."""


LONG = "say " + "word " * 40
CUT: Json = {"max_completion_tokens": 16}
SEARCH: Json = {"type": "file_search"}
CODE: Json = {"type": "code_interpreter"}
QUEUE, INTERRUPT = {"X-Busy-Policy": "queue"}, {"X-Busy-Policy": "interrupt"}


class Client:
    """Asks, and notes the answer. What is unanswered stays noted as such."""

    def __init__(self, http: httpx.AsyncClient, history: History, chance: random.Random) -> None:
        self.http = http
        self.history = history
        self.chance = chance

    def name(self, kind: str) -> str:
        return f"{kind}{next(self.history.numbers)}"

    async def post(self, url: str, **request: Any) -> Json:
        """What is asked for."""
        return granted(await self.http.post(url, **request))

    async def create(self, url: str, **request: Any) -> str:
        """Make an object; returns its URL."""
        made = await self.post(url, **request)
        self.history.heard(f"{url}/{made['id']}", made)
        return f"{url}/{made['id']}"

    async def change(self, url: str, **changes: Any) -> None:
        """Change an object."""
        before = self.history.told[url]
        assert before is not None
        self.history.unsure[url].append({**before, **changes})
        self.history.heard(url, granted(await self.http.post(url, json=changes)))

    async def delete(self, url: str) -> None:
        """Delete an object."""
        self.history.unsure[url].append(None)
        granted(await self.http.delete(url))
        self.history.heard(url, None)

    def spoken(self) -> Order:
        """An answer."""
        word = self.name("word")
        return Order(f"say The word is {word}.", says=f"The word is {word}.")

    def held(self) -> Order:
        """A run that never ends, unless somebody cancels it."""
        return Order(f"say Wait, {self.name('word')}\nhold", frozenset({"cancelled"}))

    async def thread(self) -> str:
        return await self.create("/v1/threads", json={"metadata": {"name": self.name("thread")}})

    async def say(self, thread: str, text: str, **headers: str) -> str:
        """A message, whose text nobody else has."""
        self.history.asked[thread].append(text)
        message = {"role": "user", "content": text}
        url = await self.create(f"{thread}/messages", json=message, headers=headers)
        self.history.asked[thread].remove(text)
        return url

    async def run(self, thread: str, assistant: str, order: Order, **headers: str) -> Run:
        """A run, looked at once it has been created."""
        self.history.runs_asked[thread] = order
        body = wish(assistant, order)
        answer = await self.post(f"{thread}/runs", json=body, headers=headers)
        return self.history.begun(thread, answer, order)

    async def ask(self, thread: str, assistant: str, order: Order, **headers: str) -> Run:
        """A message, and a run to answer it."""
        await self.say(thread, order.message, **headers)
        return await self.run(thread, assistant, order, **headers)

    async def give_up(self, run: Run) -> None:
        answer = granted(await self.http.post(f"{run.url}/cancel"))
        run.cancelled = True
        self.history.saw(run, answer)

    async def follow(self, run: Run) -> Json:
        """The run, when it has ended or waits for outputs. Raises Stopping."""
        told = parse_events((await self.http.get(f"{run.url}/events")).text)
        require_no_stop(told)
        now = granted(await self.http.get(run.url))
        self.history.saw(run, now)
        return now

    async def stream(self, thread: str, assistant: str, order: Order, **headers: str) -> None:
        """A run, and each of its events as it comes. Raises Stopping."""
        self.history.runs_asked[thread] = order
        body = wish(assistant, order, stream=True)
        run: Run | None = None
        request = self.http.stream("POST", f"{thread}/runs", json=body, headers=headers)
        async with request as response:
            assert response.status_code == 200
            async for event in self._events(response):
                if run is None:
                    run = self.history.begun(thread, event.data, order)
                elif event.name != "done":
                    require_no_stop([event])
                    self.history.event(run, event)

    async def _events(self, response: httpx.Response) -> AsyncIterator[Event]:
        """Up to the last one. Only a server that is killed may leave that out."""
        text, name = "", ""
        try:
            async for piece in response.aiter_text():
                whole, end, text = (text + piece).rpartition("\n\n")
                for event in parse_events(whole + end):
                    name = event.name
                    yield event
        except httpx.TransportError:
            if self.history.orderly:
                raise AssertionError("the stream was broken off") from None
            raise
        assert name == "done", "the stream has ended without its last event"

    async def assistant(self, **body: Any) -> str:
        body = {"model": "gpt-4o", "name": self.name("assistant"), **body}
        return await self.create("/v1/assistants", json=body)

    async def upload(self) -> str:
        name = f"{self.name('file')}.txt"
        sent = {"file": (name, content_of(name)), "purpose": (None, "assistants")}
        return await self.create("/v1/files", files=sent)


class Insistent(Client):
    """Sends each request with a key: once, twice at once, or again when it was answered."""

    async def post(self, url: str, **request: Any) -> Json:
        key, sent = self._new(url, request["json"])
        answer, *_ = await together(*(self._send(key, sent) for _ in range(self._times())))
        await self._perhaps_again(key, sent)
        return granted(answer)

    async def stream(self, thread: str, assistant: str, order: Order, **headers: str) -> None:
        key, sent = self._new(f"{thread}/runs", wish(assistant, order, stream=True))
        first = super().stream(thread, assistant, order, **{KEY: key}, **headers)
        await together(first, *(self._send(key, sent) for _ in range(self._times() - 1)))
        await self._perhaps_again(key, sent)

    def _new(self, url: str, body: Json) -> tuple[str, Sent]:
        key = self.name("key")
        sent = self.history.sent[key] = Sent(url, body)
        return key, sent

    def _times(self) -> int:
        return self.chance.choice([1, 2])

    async def _send(self, key: str, sent: Sent) -> httpx.Response:
        answer = await self.http.post(sent.url, json=sent.body, headers={KEY: key})
        sent.answered(answer)
        return answer

    async def _perhaps_again(self, key: str, sent: Sent) -> None:
        if self.chance.random() < 0.3:
            await self._send(key, sent)


async def together(*sendings: Awaitable[Any]) -> list[Any]:
    """What came of each. Raises what one of them has raised, once all have ended."""
    ends = await asyncio.gather(*sendings, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends


def wish(assistant: str, order: Order, **more: Any) -> Json:
    """The body of a request for a run."""
    return {"assistant_id": assistant.rpartition("/")[2], **order.body, **more}


def require_no_stop(told: Iterable[Event]) -> None:
    """Raises Stopping where a stream says that its server stops."""
    for event in told:
        if event.name == "error":
            assert "shutting down" in event.data["error"]["message"], event
            raise Stopping


async def talk(client: Client) -> None:
    """Say something, and get an answer: streamed or not, whole, cut off, or none."""
    assistant, thread = await client.assistant(), await client.thread()
    while True:
        word = client.name("word")
        order = client.chance.choice(
            [
                Order(f"say The word is {word}.", says=f"The word is {word}."),
                Order(f"{LONG}{word}", frozenset({"incomplete"}), None, CUT),
                Order(f"say I have {word}\nfail", frozenset({"failed"})),
            ]
        )
        await client.say(thread, order.message)
        if client.chance.random() < 0.5:
            await client.stream(thread, assistant, order)
        else:
            await client.follow(await client.run(thread, assistant, order))


async def insist(client: Client) -> None:
    """Get each answer for sure: of an assistant, of threads, of messages, and of runs."""
    client = Insistent(client.http, client.history, client.chance)
    while True:
        assistant, thread = await client.assistant(), await client.thread()
        for _ in range(3):
            order = client.spoken()
            await client.say(thread, order.message)
            if client.chance.random() < 0.5:
                await client.stream(thread, assistant, order)
            else:
                await client.follow(await client.run(thread, assistant, order))


async def call(client: Client) -> None:
    """Answer the calls of a model."""
    assistant, thread = await client.assistant(tools=[WEATHER]), await client.thread()
    while True:
        asked = f'call get_weather {{"city": "{client.name("city")}"}}'
        order = Order(asked, says=SUNNY)
        await client.say(thread, order.message)
        run = await client.run(thread, assistant, order)
        now = await client.follow(run)
        client.history.saw(run, granted(await client.http.post(**answer_to(run.url, now))))
        await client.follow(run)


async def cancel(client: Client) -> None:
    """Give up a run that would never end."""
    assistant, thread = await client.assistant(), await client.thread()
    while True:
        run = await client.ask(thread, assistant, client.held())
        await asyncio.sleep(client.chance.random() * 0.05)
        await client.give_up(run)
        await client.follow(run)


async def queue(client: Client) -> None:
    """Send into a busy thread what waits its turn, until its active run is cancelled."""
    assistant = await client.assistant()
    while True:
        thread = await client.thread()
        active = await client.ask(thread, assistant, client.held())
        first = await client.ask(thread, assistant, client.spoken(), **QUEUE)
        given_up = await client.ask(thread, assistant, client.held(), **QUEUE)
        await client.give_up(given_up)
        assert (await client.follow(given_up))["started_at"] is None
        order = client.spoken()
        ways = [(QUEUE, QUEUE), (QUEUE, INTERRUPT), (INTERRUPT, QUEUE)]
        for_message, for_run = client.chance.choice(ways)
        await client.say(thread, order.message, **for_message)
        active.cancelled = for_message is INTERRUPT
        last = await client.run(thread, assistant, order, **for_run)
        active.cancelled = INTERRUPT in (for_message, for_run)
        if not active.cancelled:
            await client.give_up(active)
        for run in (active, first, last):
            await client.follow(run)


async def compute(client: Client) -> None:
    """Have a model run code, which prints or draws."""
    assistant, thread = await client.assistant(tools=[CODE]), await client.thread()
    while True:
        word = client.name("word")
        code, output = client.chance.choice([(f"print {word}", word), ("draw", DRAWN)])
        asked = f'call code_interpreter {{"code": "{code}"}}'
        order = Order(f"say I think of {word}\n{asked}", says=f"The output is {output}.")
        await client.follow(await client.ask(thread, assistant, order))


async def expire(client: Client) -> None:
    """Wait for the end of a run that has little time."""
    assistant = await client.assistant()
    while True:
        thread = await client.thread()
        ends = frozenset({"expired", "cancelled"})
        order = Order(f"say Wait, {client.name('word')}\nhold", ends)
        await client.say(thread, order.message)
        await client.follow(await client.run(thread, assistant, order))


async def keep(client: Client) -> None:
    """Make, change and delete."""
    while True:
        assistant, thread = await client.assistant(), await client.thread()
        await client.change(assistant, description=client.name("description"))
        message = await client.say(thread, client.name("text"))
        await client.change(message, metadata={"n": client.name("value")})
        await client.change(thread, metadata={"n": client.name("value")})
        await client.delete(client.chance.choice([assistant, thread, message]))


async def upload_parts(http: httpx.AsyncClient, name: str) -> Json:
    """A file that comes in two parts."""
    content = content_of(name)
    kind = {"purpose": "assistants", "mime_type": "text/plain"}
    begun = {"filename": name, "bytes": len(content), **kind}
    url = f"/v1/uploads/{granted(await http.post('/v1/uploads', json=begun))['id']}"
    parts = [
        granted(await http.post(f"{url}/parts", files={"data": ("part", piece)}))["id"]
        for piece in (content[:50], content[50:])
    ]
    file: Json = granted(await http.post(f"{url}/complete", json={"part_ids": parts}))["file"]
    return file


async def upload(client: Client) -> None:
    """Files, some of them in parts; every other one is deleted."""
    while True:
        kept, file = await client.upload(), await client.upload()
        file_in_parts = await upload_parts(client.http, f"{client.name('file')}.txt")
        client.history.heard(f"/v1/files/{file_in_parts['id']}", file_in_parts)
        await client.delete(client.chance.choice([kept, file]))


async def search(client: Client) -> None:
    """A vector store: files come, are searched for by a run, and go."""
    tool = {"tools": [SEARCH]}
    store = await client.create("/v1/vector_stores", json={"name": client.name("store")})
    told = {"file_search": {"vector_store_ids": [store.rpartition("/")[2]]}}
    assistant, thread = await client.assistant(**tool, tool_resources=told), await client.thread()
    while True:
        file = await client.upload()
        await put(client, store, file)
        asked = f'call file_search {{"query": "{client.name("line")}"}}'
        await client.say(thread, asked)
        await client.follow(await client.run(thread, assistant, Order(asked)))
        await take_out(client, store, file)
        await put(client, store, file)
        within = f"{store}/files/{file.rpartition('/')[2]}"
        client.history.unsure[within].append(None)
        await client.delete(file)
        client.history.within[store, file.rpartition("/")[2]] = None
        client.history.unsure.pop(within)


async def put(client: Client, store: str, file: str) -> None:
    """A file into a store, and wait until it can be found."""
    file_id = file.rpartition("/")[2]
    words = content_of(f"{client.history.told[file]['filename']}").decode().splitlines()[0]  # type: ignore[index]
    url = f"{store}/files/{file_id}"
    client.history.within.setdefault((store, file_id), None)
    client.history.unsure[url].append({})
    small = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    body = {"file_id": file_id, "chunking_strategy": small}
    granted(await client.http.post(f"{store}/files", json=body))
    client.history.within[store, file_id] = words
    client.history.unsure.pop(url)

    async def status() -> str:
        return str(granted(await client.http.get(url))["status"])

    await eventually(status, lambda now: now != "in_progress")


async def take_out(client: Client, store: str, file: str) -> None:
    """The reverse."""
    file_id = file.rpartition("/")[2]
    url = f"{store}/files/{file_id}"
    client.history.unsure[url].append(None)
    granted(await client.http.delete(url))
    client.history.within[store, file_id] = None
    client.history.unsure.pop(url)


Actor = Callable[[Client], Awaitable[None]]
ACTORS: tuple[Actor, ...] = (talk, call, cancel, keep, upload, search)
GUESTS: tuple[Actor, ...] = (insist, queue, compute)  # who pass no failpoint that those do not


def company(chance: random.Random) -> Sequence[Actor]:
    """Who is there at a time: not all guests at once, or there is no end of looking at it."""
    return (*ACTORS, *chance.sample(GUESTS, 2))


async def crowd(
    http: httpx.AsyncClient,
    history: History,
    chance: random.Random,
    actors: Sequence[Actor] = (),
) -> None:
    """All of them at once, or a company. Each ends when it gets no answer, or is told of a stop."""
    actors = actors or company(chance)
    clients = [Client(http, history, random.Random(chance.random())) for _ in actors]
    ends = await asyncio.gather(
        *(actor(client) for actor, client in zip(actors, clients, strict=True)),
        return_exceptions=True,
    )
    for end in ends:
        if not isinstance(end, httpx.TransportError | Stopping):
            raise AssertionError("a client was told what it should not be") from end
