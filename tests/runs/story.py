"""A conversation on a live server: what the tests of runs and of streams do and look at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx

from server.engine.scripted import ScriptedEngine
from server.schemas import AssistantStreamEvent
from tests.support import DEADLINE, Event, LiveServer, parse_events

Json = dict[str, Any]

HELLO: Json = {"role": "user", "content": "Hello!"}
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ENDED = {"completed", "incomplete", "failed", "cancelled", "expired"}


class Dialogue:
    """What a client does with a thread and an assistant."""

    __slots__ = ()

    http: httpx.AsyncClient
    assistant_id: str
    thread_id: str

    @property
    def url(self) -> str:
        return f"/v1/threads/{self.thread_id}"

    async def create(self, *, busy: str | None = None, **body: Any) -> httpx.Response:
        """Ask for a run, with a policy for busy threads or without."""
        body = {"assistant_id": self.assistant_id, **body}
        return await self.http.post(f"{self.url}/runs", json=body, headers=_policy(busy))

    async def start(self, **body: Any) -> Json:
        """A new run, as it is answered."""
        return granted(await self.create(**body))

    async def run(self, **body: Any) -> Json:
        """A run that has come to its end, or to where it waits for outputs."""
        return await self.settled(await self.start(**body))

    async def paused(self, **body: Any) -> Json:
        """A new run whose model has paused, as its script says."""
        run = await self.start(**body)
        await asyncio.wait_for(self.engine.paused.wait(), DEADLINE)
        return run

    async def stream(self, **body: Any) -> list[Event]:
        """A new run, as the stream of its creation tells it."""
        return as_published((await self.create(stream=True, **body)).text)

    async def events(self, run: Json, after: int | None = None, **headers: str) -> httpx.Response:
        """What the run's event log says from there on, up to its end or its next pause."""
        query = {} if after is None else {"starting_after": after}
        return await self.http.get(
            f"{self.url}/runs/{run['id']}/events", params=query, headers=headers
        )

    async def told(self, run: Json, after: int | None = None) -> list[Event]:
        """The same, as events."""
        return as_published((await self.events(run, after)).text)

    async def settled(self, run: Json) -> Json:
        """The run, once its stream has ended."""
        await self.events(run)
        return await self.now(run)

    async def now(self, run: Json) -> Json:
        """The run as it is."""
        return granted(await self.http.get(f"{self.url}/runs/{run['id']}"))

    async def cancel(self, run: Json) -> httpx.Response:
        """Ask for the run's end."""
        return await self.http.post(f"{self.url}/runs/{run['id']}/cancel")

    async def submit(self, run: Json, *outputs: str, **body: Any) -> httpx.Response:
        """Answer the calls that the run waits for, in their order."""
        answers = [
            {"tool_call_id": call["id"], "output": output}
            for call, output in zip(calls_of(run), outputs, strict=True)
        ]
        url = f"{self.url}/runs/{run['id']}/submit_tool_outputs"
        return await self.http.post(url, json={"tool_outputs": answers, **body})

    async def say(self, text: str, *, busy: str | None = None) -> httpx.Response:
        """Add a message of the user's, likewise."""
        body = {"role": "user", "content": text}
        return await self.http.post(f"{self.url}/messages", json=body, headers=_policy(busy))

    async def steps(self, run: Json) -> list[Json]:
        """The run's steps, oldest first."""
        url = f"{self.url}/runs/{run['id']}/steps"
        steps: list[Json] = granted(await self.http.get(url, params={"order": "asc"}))["data"]
        return steps

    async def messages(self) -> list[Json]:
        """The thread's messages, oldest first."""
        found = await self.http.get(f"{self.url}/messages", params={"order": "asc", "limit": 100})
        messages: list[Json] = granted(found)["data"]
        return messages

    async def answers(self, run: Json) -> list[Json]:
        """The messages that the run wrote, oldest first."""
        return [message for message in await self.messages() if message["run_id"] == run["id"]]


@dataclass(frozen=True, slots=True)
class Story(Dialogue):
    """A thread with one message, an assistant to answer it, and the engine behind both."""

    server: LiveServer
    engine: ScriptedEngine
    http: httpx.AsyncClient
    assistant_id: str
    thread_id: str

    async def running(self) -> int:
        """How many runs are being executed."""
        return self.server.services.executor.running

    async def readers(self) -> int:
        """How many streams are being read."""
        return self.server.services.bus.open_streams

    async def another(self, *messages: Json) -> Story:
        """The same on a new thread."""
        created = granted(await self.http.post("/v1/threads", json={"messages": messages}))
        return replace(self, thread_id=created["id"])


@contextlib.asynccontextmanager
async def begin_story(
    server: LiveServer, engine: ScriptedEngine, **assistant: Any
) -> AsyncIterator[Story]:
    """An assistant that may have one function, and a thread that says hello."""
    async with server.http(verify=False) as http:
        body = {"model": "gpt-4o", "instructions": "Be kind.", "tools": [WEATHER], **assistant}
        created = granted(await http.post("/v1/assistants", json=body))
        thread = granted(await http.post("/v1/threads", json={"messages": [HELLO]}))
        yield Story(server, engine, http, created["id"], thread["id"])


async def metric(story: Story, name: str) -> float:
    """The value of a metric, added up over its labels."""
    return metric_in((await story.http.get("/metrics")).text, name)


def metric_in(text: str, name: str) -> float:
    """The same of what `/metrics` said."""
    return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)))


def _policy(busy: str | None) -> dict[str, str]:
    return {} if busy is None else {"X-Busy-Policy": busy}


def as_published(stream: str) -> list[Event]:
    """The events of a stream, each as the published document describes it."""
    events = parse_events(stream)
    for event in events:
        AssistantStreamEvent.model_validate({"event": event.name, "data": event.data})
    return events


def granted(response: httpx.Response) -> Json:
    """The object of an answer that is no error."""
    assert response.status_code == 200, response.text
    value: Json = response.json()
    return value


def refusal(response: httpx.Response, status: int = 400) -> str:
    """The message of an error."""
    assert response.status_code == status, response.text
    message: str = response.json()["error"]["message"]
    return message


def calls_of(run: Json) -> list[Json]:
    """The calls that a run waits for."""
    calls: list[Json] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return calls


def text_of(message: Json) -> str:
    """A message's text, without its pictures; the empty text if it has no part."""
    return "".join(part["text"]["value"] for part in message["content"] if part["type"] == "text")


def written(*calls: tuple[str, str]) -> str:
    """Function calls, as the scripted model's template has them written."""
    return "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
        for name, arguments in calls
    )


def running(code: str) -> str:
    """A call of the code interpreter, as that template has it written."""
    return written(("code_interpreter", json.dumps({"code": code})))
