"""A stream that a test reads event by event, while the run goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.runs.story import Dialogue, Json
from tests.support import BETA, DEADLINE, Event, parse_events


class Reader:
    """One open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self.text = ""  # all that has come
        self._chunks = response.aiter_text()
        self._read = 0

    async def next(self) -> Event:
        """The next event."""
        while True:
            end = self.text.find("\n\n", self._read) + 2
            if end < 2:
                self.text += await asyncio.wait_for(anext(self._chunks), DEADLINE)
                continue
            block, self._read = self.text[self._read : end], end
            if events := parse_events(block):
                return events[0]

    async def take(self, count: int) -> list[Event]:
        """The next so many events."""
        return [await self.next() for _ in range(count)]

    async def until(self, name: str) -> list[Event]:
        """All events up to one of this name."""
        events = [await self.next()]
        while events[-1].name != name:
            events.append(await self.next())
        return events

    async def rest(self) -> list[Event]:
        """All events to the stream's end."""
        events = await self.until("done")
        async for more in self._chunks:
            assert not more
        return events


@contextlib.asynccontextmanager
async def reading_new(story: Dialogue, **body: Any) -> AsyncIterator[Reader]:
    """The stream of a new run's creation."""
    body = {"assistant_id": story.assistant_id, "stream": True, **body}
    async with story.http.stream("POST", f"{story.url}/runs", json=body) as response:
        assert response.status_code == 200
        yield Reader(response)


@contextlib.asynccontextmanager
async def reading(story: Dialogue, run: Json, after: int = 0) -> AsyncIterator[Reader]:
    """The run's event log, from after an event on."""
    url = f"{story.url}/runs/{run['id']}/events?starting_after={after}"
    async with story.http.stream("GET", url) as response:
        assert response.status_code == 200
        yield Reader(response)


async def asking(url: str, path: str, body: Json, **headers: str) -> socket.socket:
    """A connection that has sent a POST, and has little room for the answer."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body)
    head = {"Host": host, "Content-Length": str(len(content)), **BETA, **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    await loop.sock_sendall(client, ("\r\n".join(lines) + "\r\n\r\n" + content).encode())
    return client


def names(events: list[Event]) -> list[str]:
    """What the events are called, without the common prefix."""
    return [event.name.removeprefix("thread.") for event in events]


def joined(events: list[Event]) -> str:
    """The text of all message deltas."""
    return "".join(
        part["text"]["value"]
        for event in events
        if event.name == "thread.message.delta"
        for part in event.data["delta"]["content"]
    )


def call_deltas(events: list[Event]) -> list[Json]:
    """The tool calls within step deltas, in their order."""
    return [
        call
        for event in events
        if event.name == "thread.run.step.delta"
        for call in event.data["delta"]["step_details"]["tool_calls"]
    ]
