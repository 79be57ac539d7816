"""The two delta events, written straight to bytes: there is one for every token of every stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from server.chat.citations import Citation
from server.runs.events import encode
from server.schemas import JsonObject


@dataclass(frozen=True, slots=True)
class FileLink:
    """A link in an answer, and the file that was made of what it leads to."""

    text: str
    file_id: str


class MessageDeltas:
    """The deltas of one message: of so many figures, and of the text part behind them."""

    def __init__(self, message_id: str, figures: int = 0) -> None:
        head = b'{"id":' + orjson.dumps(message_id) + b',"object":"thread.message.delta","delta":{'
        self._part = b"event: thread.message.delta\ndata: " + head + b'"content":[{"index":'
        self._head = self._part + b'%d,"type":"text","text":{"value":' % figures
        self._first = True

    def figure(self, index: int, file_id: str) -> bytes:
        """A whole figure."""
        image = orjson.dumps({"file_id": file_id})
        return self._part + b'%d,"type":"image_file","image_file":%b}]}}\n\n' % (index, image)

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


def annotation(mark: Citation | FileLink, start: int) -> JsonObject:
    """A mark that begins at this character of its text, as it is stored and shown."""
    kind = "file_citation" if isinstance(mark, Citation) else "file_path"
    return {
        "type": kind,
        "text": mark.text,
        "start_index": start,
        "end_index": start + len(mark.text),
        kind: {"file_id": mark.file_id},
    }


def _delta_of(stored: JsonObject, index: int) -> JsonObject:
    """As streams tell it: with its place among the text's annotations; citations with a quote."""
    if stored["type"] == "file_path":
        return {"index": index, **stored}
    return {"index": index, **stored, "file_citation": {**stored["file_citation"], "quote": ""}}
