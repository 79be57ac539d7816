"""An endpoint's answer, from its chunks to the deltas of a turn.

Reasoning that an endpoint leaves in the text is kept out of it, as it is with a local model. Calls
get numbers of our own, since endpoints number them from anywhere, alike, or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from server.chat.dialects import PLAIN
from server.chat.turn import TurnParser
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta
from server.engine.chunks import CallDelta, Chunk, Usage


@dataclass(slots=True)
class _Call:
    """A call while it is written; `index` is None before its name is known."""

    id: str | None
    name: str = ""
    index: int | None = None
    held: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether its arguments are an object, which nothing can follow."""
        written = "".join(self.arguments)
        try:
            return written.rstrip().endswith("}") and isinstance(json.loads(written), dict)
        except (ValueError, RecursionError):
            return False


class AnswerReader:
    """Reads one answer. Owned by the turn that it belongs to."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.fingerprint: str | None = None
        self.written = 0  # bytes of text and calls
        self._text = TurnParser(PLAIN, ())
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}  # by the endpoint's own number
        self._announced = 0

    def read(self, chunk: Chunk) -> list[TurnDelta]:
        self.usage = chunk.usage or self.usage
        self.fingerprint = chunk.system_fingerprint or self.fingerprint
        self.finish_reason = chunk.finish_reason or self.finish_reason
        delta = chunk.choice.delta if chunk.choice is not None else None
        if delta is None:
            return []
        deltas = self._say(delta.content or delta.refusal or "")
        for call in delta.tool_calls or ():
            deltas += self._call(call)
        return deltas

    def finish(self) -> list[TurnDelta]:
        """The answer is over: text that was held, or an object for calls without arguments."""
        if not self._announced:
            return self._text.finish()
        bare = (call.index for call in self._calls if not call.arguments)
        return [CallArguments(index, "{}") for index in bare if index is not None]

    def _say(self, text: str) -> list[TurnDelta]:
        deltas = self._text.feed(text) if text else []
        self.written += sum(len(d.text.encode()) for d in deltas if isinstance(d, TextDelta))
        return deltas

    def _call(self, delta: CallDelta) -> list[TurnDelta]:
        call = self._meant(delta)
        name = (delta.function and delta.function.name) or ""
        arguments = (delta.function and delta.function.arguments) or ""
        deltas: list[TurnDelta] = []
        if name and call.index is None:
            call.name, call.index = name, self._announced
            self._announced += 1
            deltas.append(CallStarted(call.index, name))
        if arguments:
            call.held.append(arguments)
            call.arguments.append(arguments)
        if call.index is not None and call.held:
            deltas.append(CallArguments(call.index, "".join(call.held)))
            call.held.clear()
        self.written += len((name + arguments).encode())
        return deltas

    def _meant(self, delta: CallDelta) -> _Call:
        """The call that this belongs to: another id begins another call."""
        last = self._calls[-1] if self._calls else None
        known = last if delta.index is None else self._at.get(delta.index)
        if known is None or _is_another(delta, known):
            known = _Call(delta.id)
            self._calls.append(known)
            if delta.index is not None:
                self._at[delta.index] = known
        return known


def _is_another(delta: CallDelta, call: _Call) -> bool:
    """Whether it begins a call. Where there are no ids, a name does, behind one that is over."""
    if delta.id and call.id:
        return delta.id != call.id
    name = delta.function and delta.function.name
    without_ids = not delta.id and not call.id
    return bool(without_ids and name and call.name and (name != call.name or call.is_over))
