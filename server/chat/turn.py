"""Parses what a model writes in its turn, while it writes: text, tool calls, reasoning.

Whatever cannot become a marker any more is given out at once. What is not a call although it
begins like one (no JSON, no name, the name of no tool that was offered) is text, markers and all.
A call that has been announced stays a call: where its arguments turn out to be no JSON, they are
given out as they were written, up to the closing marker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from server.chat.dialects import Dialect
from server.chat.scanner import CallScanner, Scan
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta

STRAY = " \t\r\n}]"  # what models write too much of between a call's object and its close


class TurnParser:
    """The parser of one turn. Owned by the execution that reads the turn."""

    def __init__(
        self, dialect: Dialect, tools: Collection[str], *, in_reasoning: bool = False
    ) -> None:
        self._dialect = dialect
        self._tools = frozenset(tools)
        self._buffer = ""
        self._state: Callable[[], bool] = self._reasoning if in_reasoning else self._start
        self._deltas: list[TurnDelta] = []
        self._text: list[str] = []
        self._space = ""  # held: it is dropped if a call or the end of a call-only turn follows
        self._thoughts: list[str] = []
        self._calls: list[tuple[str, list[str]]] = []
        self._scanner = CallScanner()
        self._raw: list[str] = []  # of a call whose name is not known
        self._announced = False
        self._after_call = False
        self.unfinished_call = False

    @property
    def text(self) -> str:
        """The answer so far: all text deltas, joined."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    @property
    def calls(self) -> tuple[tuple[int, str, str], ...]:
        """Index, name and arguments of each call; the last is cut off if `unfinished_call`."""
        return tuple(
            (index, name, "".join(arguments)) for index, (name, arguments) in enumerate(self._calls)
        )

    def feed(self, text: str) -> list[TurnDelta]:
        self._buffer += text
        while self._buffer and self._state():
            pass
        return self._taken()

    def finish(self) -> list[TurnDelta]:
        """The turn is over: what was held is text, reasoning, or a call that was cut off."""
        rest, self._buffer = self._buffer, ""
        if self._state in (self._start, self._answer):
            self._say(rest)
            if not self._after_call:
                self._give(self._space)
        elif self._state == self._reasoning:
            self._thoughts.append(rest)
        elif self._state in (self._call, self._broken_arguments):
            self.unfinished_call = True
            self._argue(rest.rstrip(STRAY))
        return self._taken()

    def _taken(self) -> list[TurnDelta]:
        deltas, self._deltas = self._deltas, []
        return deltas

    def _start(self) -> bool:
        """Before the first word. White space here is nobody's."""
        self._buffer = self._buffer.lstrip()
        marker = self._dialect.reasoning_open
        if self._buffer.startswith(marker):
            return self._go(self._reasoning, len(marker))
        if marker.startswith(self._buffer):
            return False
        return self._go(self._answer)

    def _reasoning(self) -> bool:
        before, found = self._until(self._dialect.reasoning_close)
        self._thoughts.append(before)
        return found and self._go(self._start)

    def _answer(self) -> bool:
        if not self._dialect.has_calls:
            self._say(self._cut(len(self._buffer)))
            return False
        before, found = self._until(self._dialect.call_open)
        self._say(before)
        if found:
            self._scanner, self._raw = CallScanner(), [self._dialect.call_open]
            self._announced = False
            self._state = self._call
        return found

    def _call(self) -> bool:
        for index, character in enumerate(self._buffer):
            scan = self._scanner.feed(character)
            if scan is Scan.BAD:
                return self._malformed(index)
            if not self._announced and self._scanner.name is not None:
                if self._scanner.name not in self._tools:
                    return self._malformed(index + 1)
                self._announce(self._scanner.name)
            if scan is Scan.DONE:
                return self._called(index + 1)
        self._raw.append(self._cut(len(self._buffer)))
        self._argue_scanned()
        return False

    def _announce(self, name: str) -> None:
        self._deltas.append(CallStarted(len(self._calls), name))
        self._calls.append((name, []))
        self._announced = self._after_call = True

    def _called(self, length: int) -> bool:
        """The object of the call is complete."""
        if not self._announced:
            return self._malformed(length)
        self._argue_scanned()
        if not self._scanner.has_arguments:
            self._argue("{}")
        return self._go(self._after_object, length)

    def _malformed(self, length: int) -> bool:
        """No call, as the first `length` characters of the buffer show."""
        written = self._cut(length)
        if not self._announced:
            self._say("".join([*self._raw, written]))
            return self._go(self._answer)
        in_arguments = self._scanner.spill()
        self._argue_scanned()
        return self._go(self._broken_arguments if in_arguments else self._rest_of_call)

    def _broken_arguments(self) -> bool:
        """The closing marker ends them, with the brace that closes the call's object before it."""
        before, found = self._until(self._dialect.call_close, hold=STRAY)
        self._argue(before.rstrip().removesuffix("}").rstrip() if found else before)
        return found and self._go(self._answer)

    def _rest_of_call(self) -> bool:
        return self._until(self._dialect.call_close)[1] and self._go(self._answer)

    def _after_object(self) -> bool:
        self._buffer = self._buffer.lstrip(STRAY)
        marker = self._dialect.call_close
        if self._buffer.startswith(marker):
            return self._go(self._answer, len(marker))
        return not marker.startswith(self._buffer) and self._go(self._answer)

    def _go(self, state: Callable[[], bool], length: int = 0) -> bool:
        self._cut(length)
        self._state = state
        return True

    def _cut(self, length: int) -> str:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        return text

    def _until(self, marker: str, hold: str = "") -> tuple[str, bool]:
        """Take what stands before `marker`, and the marker; or all that cannot belong to it."""
        before, found, after = self._buffer.partition(marker)
        if found:
            self._buffer = after
            return before, True
        free = len(self._buffer) - overlap(self._buffer, marker)
        return self._cut(len(self._buffer[:free].rstrip(hold)) if hold else free), False

    def _say(self, text: str) -> None:
        """White space waits for the word that it separates."""
        text = self._space + text
        words = text.rstrip()
        self._space = text[len(words) :]
        if words:
            self._give(words if self._text else words.lstrip())
            self._after_call = False

    def _give(self, text: str) -> None:
        if text and (self._text or text.strip()):
            self._text.append(text)
            self._deltas.append(TextDelta(text))

    def _argue_scanned(self) -> None:
        if self._announced:
            self._argue(self._scanner.take())

    def _argue(self, text: str) -> None:
        if text:
            self._calls[-1][1].append(text)
            self._deltas.append(CallArguments(len(self._calls) - 1, text))


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    longest = min(len(text), len(marker) - 1)
    if marker[0] not in text[-longest:]:
        return 0
    return next((n for n in range(longest, 0, -1) if marker.startswith(text[-n:])), 0)
