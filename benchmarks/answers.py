"""A model's streamed answers, asked for through the Assistants API or a chat endpoint.

Both ways send one request an answer and give the same facts of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from benchmarks.exchange import Exchange, Refused, post
from benchmarks.loader import request

Json = Mapping[str, object]

# What a client of ours cannot say is what our server does by itself.
SAMPLING = {"temperature": 0.8, "top_p": 0.95}
PEER_SAMPLING = {**SAMPLING, "top_k": 40, "min_p": 0.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Moments are perf_counter's."""

    sent: float
    pieces: tuple[float, ...]  # when each piece of text came
    ended: float
    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    thread: str = ""

    @property
    def first_token_after(self) -> float:
        return self.pieces[0] - self.sent


class Speaker(Protocol):
    """Somebody who can be asked."""

    first_text: re.Pattern[bytes]  # what is in a stream as soon as it has text

    async def start(self, prompt: str, tokens: int, instructions: str = "") -> Exchange:
        """Send a first message that is to be answered in `tokens` tokens."""
        ...


class AssistantsSpeaker:
    """Our server."""

    first_text = re.compile(rb"event: thread\.message\.delta")

    def __init__(self, port: int, assistant: str) -> None:
        self.port = port
        self.assistant = assistant

    @classmethod
    async def on(cls, port: int) -> AssistantsSpeaker:
        """With an assistant of its own."""
        made = await post(port, "/v1/assistants", {"model": "gpt-4o"})
        return cls(port, str(made["id"]))

    async def start(self, prompt: str, tokens: int, instructions: str = "") -> Exchange:
        """Create a thread and run it, in one request."""
        thread = {"messages": [{"role": "user", "content": prompt}]}
        body = {**self._run(tokens), "thread": thread}
        if instructions:
            body["instructions"] = instructions
        return await self._send("/v1/threads/runs", body)

    async def go_on(self, thread: str, prompt: str, tokens: int) -> Answer:
        """Add a message to a thread and run it, in one request."""
        more = [{"role": "user", "content": prompt}]
        body = {**self._run(tokens), "additional_messages": more}
        return await heard(await self._send(f"/v1/threads/{thread}/runs", body))

    def _run(self, tokens: int) -> dict[str, object]:
        return {
            "assistant_id": self.assistant,
            "stream": True,
            "max_completion_tokens": tokens,
            **SAMPLING,
        }

    async def _send(self, path: str, body: Json) -> Exchange:
        return await Exchange.open(self.port, request("POST", path, orjson.dumps(body)))


class ChatSpeaker:
    """A peer with OpenAI's chat endpoint."""

    first_text = re.compile(rb'"content": ?"')

    def __init__(self, port: int) -> None:
        self.port = port

    async def start(self, prompt: str, tokens: int, instructions: str = "") -> Exchange:
        """One completion."""
        system = [{"role": "system", "content": instructions}] if instructions else []
        return await self.send([*system, {"role": "user", "content": prompt}], tokens)

    async def send(self, messages: list[dict[str, str]], tokens: int) -> Exchange:
        """A completion of a whole conversation."""
        body = {
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            **PEER_SAMPLING,
        }
        message = request("POST", "/v1/chat/completions", orjson.dumps(body))
        return await Exchange.open(self.port, message)


async def heard(exchange: Exchange) -> Answer:
    """The answer in a stream, once that has ended; Refused if it has none."""
    ended = await exchange.done
    pieces: list[tuple[float, str]] = []
    usage: Json = {}
    thread = ""
    for event in exchange.events():
        if event.data in (b"", b"[DONE]"):
            continue
        data = orjson.loads(event.data)
        thread = thread or str(data.get("thread_id") or "")
        usage = data.get("usage") or usage
        if text := _text(event.name, data):
            pieces.append((event.at, text))
    if not pieces:
        raise Refused(exchange.body.decode()[-600:])
    return Answer(
        sent=exchange.sent,
        pieces=tuple(at for at, _ in pieces),
        ended=ended,
        text="".join(text for _, text in pieces),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens") or len(pieces),
        cached_tokens=_cached(usage),
        thread=thread,
    )


def _text(event: str, data: Any) -> str:
    if event == "thread.message.delta":
        return "".join(part["text"]["value"] for part in data["delta"]["content"])
    if event == "" and data.get("choices"):
        return data["choices"][0].get("delta", {}).get("content") or ""
    return ""


def _count(usage: Json, name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


def _cached(usage: Json) -> int:
    """OpenAI's two APIs spell it differently."""
    details = usage.get("prompt_token_details") or usage.get("prompt_tokens_details")
    return _count(details, "cached_tokens") if isinstance(details, Mapping) else 0
