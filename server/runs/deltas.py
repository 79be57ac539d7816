"""The two delta events, written straight to bytes: there is one for every token of every stream."""

from __future__ import annotations

import orjson

from server.runs.events import encode


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


class StepDeltas:
    """The deltas of one tool step. A call's id and name are sent once: the SDKs add strings up."""

    def __init__(self, step_id: str) -> None:
        self._step_id = step_id

    def started(self, index: int, call_id: str, name: str) -> bytes:
        return self._encode(
            {
                "index": index,
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": "", "output": None},
            }
        )

    def arguments(self, index: int, text: str) -> bytes:
        return self._encode({"index": index, "type": "function", "function": {"arguments": text}})

    def _encode(self, call: dict[str, object]) -> bytes:
        details = {"type": "tool_calls", "tool_calls": [call]}
        delta = {
            "id": self._step_id,
            "object": "thread.run.step.delta",
            "delta": {"step_details": details},
        }
        return encode("thread.run.step.delta", orjson.dumps(delta))
