"""The calls of one turn, from their first word to their answers: functions' and the server's own.

A call is told as it is stored: whole at its start, then what comes to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.chat.values import ToolCall
from server.schemas import JsonObject
from server.tools.tool import Answer, Reading
from server.tools.toolbox import KINDS, OwnTools

Told = tuple[int, JsonObject]  # of the call at this place


class FunctionReading:
    """A call that the client will answer."""

    def __init__(self, call_id: str, name: str) -> None:
        self._id = call_id
        self._name = name
        self._arguments: list[str] = []

    @property
    def stored(self) -> JsonObject:
        arguments = "".join(self._arguments)
        function = {"name": self._name, "arguments": arguments, "output": None}
        return {"id": self._id, "type": "function", "function": function}

    def feed(self, arguments: str) -> JsonObject:
        self._arguments.append(arguments)
        return {"type": "function", "function": {"arguments": arguments}}

    def finish(self) -> None:
        """Nothing was held back."""


@dataclass(slots=True)
class Call:
    """A call. `tool` is the configuration of the server's own; `answer` is as it is stored."""

    id: str
    name: str
    tool: JsonObject | None
    reading: Reading
    arguments: str = ""
    answer: JsonObject | None = None

    @property
    def stored(self) -> JsonObject:
        return self.answer or self.reading.stored


@dataclass(frozen=True, slots=True)
class OwnCalls:
    """The calls of a turn that one of the server's own tools answers."""

    kind: str
    tool: JsonObject
    calls: Sequence[ToolCall]


class Calls:
    """Of one turn, in their order. What its methods return is what a stream is told."""

    def __init__(self, own: OwnTools) -> None:
        self._own = own
        self._calls: list[Call] = []

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def stored(self) -> list[JsonObject]:
        return [call.stored for call in self._calls]

    @property
    def waits(self) -> bool:
        """Whether its client has to answer any."""
        return any(call.tool is None for call in self._calls)

    def start(self, call_id: str, name: str) -> Told:
        tool = self._own.get(name)
        reading: Reading = (
            FunctionReading(call_id, name)
            if tool is None
            else KINDS[tool["type"]].reading(call_id, tool)
        )
        call = Call(call_id, name, tool, reading)
        self._calls.append(call)
        return len(self._calls) - 1, call.stored

    def feed(self, index: int, arguments: str) -> Iterator[Told]:
        """More of the arguments of a call, if it was started."""
        if index < len(self._calls):
            call = self._calls[index]
            call.arguments += arguments
            if (told := call.reading.feed(arguments)) is not None:
                yield index, told

    def own(self) -> Iterator[OwnCalls]:
        """Those that the server answers, tool by tool."""
        tools = {call.name: call.tool for call in self._calls if call.tool is not None}
        for name, tool in tools.items():
            calls = [ToolCall(c.id, name, c.arguments) for c in self._calls if c.name == name]
            yield OwnCalls(tool["type"], tool, calls)

    def finish(self) -> Iterator[Told]:
        """No more of them is written."""
        for index, call in enumerate(self._calls):
            if (told := call.reading.finish()) is not None:
                yield index, told

    def answered(self, answer: Answer) -> Iterator[Told]:
        for index, call in enumerate(self._calls):
            if call.id == answer.call_id:
                call.answer = answer.stored
                if answer.told is not None:
                    yield index, answer.told


def details_of(calls: Sequence[JsonObject]) -> JsonObject:
    """What the step of these calls stores of them."""
    return {"type": "tool_calls", "tool_calls": [*calls]}


def failure_of(calls: Sequence[JsonObject]) -> str:
    """Why one of these answered calls came to nothing, if that was not for what the model asked."""
    own = (KINDS[call["type"]].recalled(call) for call in calls if call["type"] in KINDS)
    return next((call.failure for call in own if call.failure), "")
