"""The chunks of a chat completion's stream, written straight to bytes: there is one a token."""

from __future__ import annotations

import orjson

from server import schemas
from server.chat.values import CallArguments, CallStarted, TextDelta
from server.runs.completion import Written

DONE = b"data: [DONE]\n\n"

JsonObject = dict[str, object]


class Chunks:
    """Of one completion: each begins with `head`, and with usage has it, null but in the last."""

    def __init__(self, head: JsonObject, *, with_usage: bool) -> None:
        self.with_usage = with_usage
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"
        self._begun: set[int] = set()

    def of(self, written: Written) -> bytes:
        """What is to be sent of it. The first of a choice says who speaks."""
        choice, over = written.choice, written.delta is None
        chunk = self._chunk(choice.index, _told(written), choice.finish_reason if over else None)
        if choice.index in self._begun:
            return chunk
        self._begun.add(choice.index)
        return self._chunk(choice.index, _opening(written)) + chunk

    def last(self, usage: schemas.ChatUsage) -> bytes:
        """The chunk of what it cost, which has no choice."""
        return self._head + b'],"usage":' + schemas.compact(usage) + b"}\n\n"

    def _chunk(self, index: int, delta: JsonObject, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head + orjson.dumps(choice) + self._tail


def error_chunk(error: schemas.ErrorBody) -> bytes:
    """What the SDKs raise in the middle of a stream."""
    return b"data: " + schemas.compact(error) + b"\n\n"


def _opening(written: Written) -> JsonObject:
    calls = isinstance(written.delta, CallStarted)
    return {"role": "assistant", "content": None if calls else "", "refusal": None}


def _told(written: Written) -> JsonObject:
    match written.delta:
        case TextDelta(text):
            return {"content": text}
        case CallStarted(index, name):
            function = {"name": name, "arguments": ""}
            call_id = written.choice.calls[index].id
            return _call({"index": index, "id": call_id, "type": "function", "function": function})
        case CallArguments(index, text):
            return _call({"index": index, "function": {"arguments": text}})
        case None:
            return {}


def _call(call: JsonObject) -> JsonObject:
    return {"tool_calls": [call]}
