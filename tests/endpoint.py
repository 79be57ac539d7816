"""A chat endpoint on loopback that answers, byte for byte, what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Part = bytes | asyncio.Event  # what is sent, or what is waited for before the rest

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Asked:
    """One request: its headers, its JSON body, and whether its client has gone away."""

    path: str
    headers: dict[str, str]
    body: Json
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Script:
    head: bytes
    parts: Sequence[Part] = ()
    broken: bool = False


class ScriptedEndpoint:
    """Gives one queued answer a request, and `Hello!` when there is none."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()  # a request has come
        self.url = ""
        self._scripts: deque[_Script] = deque()

    def streams(self, *parts: Part, broken: bool = False) -> None:
        """Queue an event stream of these bytes; a broken one ends without its end."""
        self._scripts.append(_Script(STREAM, parts, broken))

    def chunks(self, *chunks: Json, end: bytes = DONE) -> None:
        """Queue a stream of these chunks."""
        self.streams(*map(event, chunks), end)

    def says(self, *texts: str, finish: str = "stop", usage: Json | None = None) -> None:
        """Queue a text, piece by piece."""
        last = [] if usage is None else [{"choices": [], "usage": usage}]
        self.chunks(*(content(text) for text in texts), finished(finish), *last)

    def calls(self, *calls: tuple[str, str]) -> None:
        """Queue calls of functions, by name and arguments, as the hosted API streams them."""
        chunks = []
        for index, (name, arguments) in enumerate(calls):
            half = len(arguments) // 2
            chunks.append(call(index, id=f"theirs{index}", name=name, arguments=""))
            chunks += [call(index, arguments=arguments[:half])]
            chunks += [call(index, arguments=arguments[half:])]
        self.chunks(*chunks, finished("tool_calls"))

    def refuses(self, status: int, body: Json | str, **headers: str) -> None:
        """Queue an error answer."""
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} No", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""])
        self._scripts.append(_Script(head.encode() + content, broken=True))

    def hangs_up(self) -> None:
        """Queue a connection that is closed before the first byte."""
        self._scripts.append(_Script(b"", broken=True))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await _request(reader)
            self.asked.append(asked)
            self.arrived.set()
            gone = asyncio.create_task(reader.read())
            gone.add_done_callback(lambda _: asked.gone.set())
            await self._perform(self._next(), asked, writer)
            gone.cancel()
        writer.close()

    def _next(self) -> _Script:
        if not self._scripts:
            self.says("Hello!")
        return self._scripts.popleft()

    async def _perform(self, script: _Script, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(script.head)
        for part in script.parts:
            if isinstance(part, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
            elif not await _comes_first(part, asked.gone):
                return
        if not script.broken:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@contextlib.asynccontextmanager
async def scripted_endpoint() -> AsyncIterator[ScriptedEndpoint]:
    """An endpoint that answers at `url`."""
    endpoint = ScriptedEndpoint()
    server = await asyncio.start_server(endpoint.answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield endpoint


def event(value: Json) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: Json, finish: str | None = None, **more: Any) -> Json:
    """A chunk of a completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}


def content(text: str) -> Json:
    """A chunk with more text."""
    return chunk({"content": text})


def finished(reason: str) -> Json:
    """The chunk that ends an answer."""
    return chunk({}, reason)


def call(index: int | None, *, id: str | None = None, **function: str) -> Json:
    """A chunk with more of one call."""
    delta: Json = {"function": function}
    delta |= {} if index is None else {"index": index}
    delta |= {} if id is None else {"id": id, "type": "function"}
    return chunk({"tool_calls": [delta]})


def counted(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> Json:
    """Usage, with its details."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Asked(first.split()[1], headers, json.loads(body))


async def _comes_first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    waits = [asyncio.create_task(each.wait()) for each in (wanted, other)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return wanted.is_set()
