"""The two delta events, written straight to bytes: there is one for every token of every stream."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from server.chat.citations import Citation
from server.runs.events import encode
from server.schemas import JsonObject


class MessageDeltas:
    """The deltas of one message's text part."""

    def __init__(self, message_id: str) -> None:
        head = b'{"id":' + orjson.dumps(message_id) + b',"object":"thread.message.delta","delta":{'
        part = head + b'"content":[{"index":0,"type":"text","text":{"value":'
        self._head = b"event: thread.message.delta\ndata: " + part
        self._first = True

    def text(self, value: str) -> bytes:
        """The next piece of text; the first one also opens the list of annotations."""
        opened = b',"annotations":[]' if self._first else b""
        self._first = False
        return self._head + orjson.dumps(value) + opened + b"}}]}}\n\n"

    def annotated(self, value: str, annotations: Sequence[JsonObject], first: int) -> bytes:
        """A piece of text with its annotations as they are stored, the text's `first` and on."""
        self._first = False
        told = [_delta_of(each, index) for index, each in enumerate(annotations, first)]
        listed = b',"annotations":' + orjson.dumps(told)
        return self._head + orjson.dumps(value) + listed + b"}}]}}\n\n"


class StepDeltas:
    """The deltas of one tool step. A call's id and name are sent once: the SDKs add strings up."""

    def __init__(self, step_id: str) -> None:
        self._step_id = step_id

    def call(self, index: int, told: JsonObject) -> bytes:
        """A call as it begins, or what has come to it."""
        details = {"type": "tool_calls", "tool_calls": [{"index": index, **told}]}
        delta = {
            "id": self._step_id,
            "object": "thread.run.step.delta",
            "delta": {"step_details": details},
        }
        return encode("thread.run.step.delta", orjson.dumps(delta))


def annotation(citation: Citation, start: int) -> JsonObject:
    """A citation that begins at this character of its text, as it is stored and shown."""
    return {
        "type": "file_citation",
        "text": citation.text,
        "start_index": start,
        "end_index": start + len(citation.text),
        "file_citation": {"file_id": citation.file_id},
    }


def _delta_of(stored: JsonObject, index: int) -> JsonObject:
    """As streams tell it: with its place among the text's annotations and an empty quote."""
    return {"index": index, **stored, "file_citation": {**stored["file_citation"], "quote": ""}}
