"""Reads a turn in which markers tell calls and reasoning from text."""

from __future__ import annotations

import re
from collections.abc import Callable

from server.chat.bare import INDENT, OBJECT
from server.chat.dialects import Dialect
from server.chat.loose import LooseScanner
from server.chat.markers import first_of, held
from server.chat.named import NamedScanner
from server.chat.scanner import SPACE, BareScanner, CallScanner, Scan, Scanner
from server.chat.tagged import Functions, TaggedScanner
from server.chat.written import Written

SPACES = "".join(SPACE)
STRAY = f"{SPACES}}}]"  # what models write too much of between a call's object and its close
BETWEEN = f"{SPACES},;"  # what stands between two objects


def _at_line_start(marker: str) -> re.Pattern[str]:
    return re.compile(rf"^[{INDENT}]*({re.escape(marker)})", re.MULTILINE)


class MarkedReader:
    """Reads one turn into what was `written`. Without tools, nothing is a call."""

    def __init__(
        self,
        dialect: Dialect,
        functions: Functions,
        written: Written,
        *,
        in_reasoning: bool,
        has_form: bool,
    ) -> None:
        self.unfinished_call = False
        self._dialect = dialect
        self._functions = functions
        self._written = written
        self._open = dialect.call_open if functions else ""
        self._bare = dialect.bare if functions else ""
        self._bare_at_line_start = _at_line_start(dialect.bare)
        # Where there are functions, or a form, a grammar lets nobody think again.
        again = dialect.thinks_again and not functions and not has_form
        self._again = dialect.reasoning_open if again else ""
        self._again_at_line_start = _at_line_start(self._again)
        self._close = dialect.call_close
        self._markers = tuple(filter(None, (self._open, *dialect.silent)))
        self._buffer = ""
        start = self._framed_start if has_form else self._start
        self._state: Callable[[], bool] = self._reasoning if in_reasoning else start
        self._scanner: Scanner | None = None  # of the call that is being read
        self._has_form = has_form
        self._frame = dialect.frame_of_words
        self._framed = False  # whether the answer is in it
        self._raw: list[str] = []  # of a call whose name is not known
        self._announced = self._told = False  # whether its name is known, and was marked as a call

    @property
    def in_reasoning(self) -> bool:
        return self._state == self._reasoning

    def read(self, text: str) -> None:
        self._buffer += text
        while self._buffer and self._state():
            pass

    def finish(self) -> None:
        rest, self._buffer = self._buffer, ""
        if self._state == self._call and not self._told and not self._announced:
            self._written.say("".join([*self._raw, rest]))
            self._written.end()
        elif self._state in (self._start, self._framed_start, self._answer, self._form):
            self._written.say(self._unframed(rest))
            self._written.end()
        elif self._state == self._reasoning:
            self._written.think(rest)
        elif self._state in (self._call, self._broken_arguments):
            self.unfinished_call = True
            self._argue(rest.rstrip(STRAY))

    def _start(self) -> bool:
        """Before the first word. White space here is nobody's."""
        self._buffer = self._buffer.lstrip(SPACES)
        marker = self._dialect.reasoning_open
        if self._buffer.startswith(marker):
            return self._go(self._reasoning, len(marker))
        if marker.startswith(self._buffer):
            return False
        return self._go(self._answer)

    def _reasoning(self) -> bool:
        before, found = self._until(self._dialect.reasoning_close)
        self._written.think(before)
        return found and self._go(self._answer if self._written.text else self._framed_start)

    def _framed_start(self) -> bool:
        """Behind reasoning, or where it has a form, the answer may stand in a frame of words."""
        self._buffer = self._buffer.lstrip(SPACES)
        opening = self._frame[0]
        if opening and self._buffer.startswith(opening):
            self._framed = True
            return self._go(self._answer, len(opening))
        if opening.startswith(self._buffer):
            return False
        return self._go(self._start)

    def _answer(self) -> bool:
        place, marker = self._next_marker()
        text = self._cut(place)
        if self._has_form and text.strip():
            self._buffer = text + self._buffer
            return self._go(self._form)
        self._written.say(self._unframed(text) if marker else text)
        if marker in self._dialect.silent:
            self._written.at_line_start = True
            return self._go(self._answer, len(marker))
        if not marker:
            return False
        if marker == self._again:
            return self._go(self._reasoning, len(marker))
        return self._begin_call("" if marker == self._bare else marker)

    def _form(self) -> bool:
        """All of it is the answer, up to what its family closes one with."""
        self._frame = (self._dialect.answer_open, self._dialect.answer_close)
        self._framed = True
        self._written.say(self._cut(len(self._buffer) - self._held()))
        return False

    def _next_marker(self) -> tuple[int, str]:
        """Where the next marker is, or else where one may be that is not whole yet."""
        marked = first_of(self._markers, self._buffer)
        before = self._buffer if marked is None else self._buffer[: marked[0]]
        if (bare := self._bare_call(before)) is not None:
            return bare, self._bare
        if (again := self._other_thought(before)) is not None:
            return again, self._again
        if marked is not None:
            return marked
        return len(self._buffer) - self._held(), ""

    def _held(self) -> int:
        """How much of the buffer's end is to be known better before it can be said."""
        markers = () if self._state == self._form else (*self._markers, self._bare, self._again)
        close = self._frame[1:] if self._framed else ()
        settled = self._buffer[: len(self._buffer) - held(self._buffer, (*markers, *close))]
        return len(self._buffer) - len(self._unframed(settled))

    def _unframed(self, text: str) -> str:
        """The text up to what closes its frame, if nothing follows on that."""
        words = text.rstrip(SPACES)
        close = self._frame[1] if self._framed else ""
        return words.removesuffix(close) if close and words.endswith(close) else text

    def _bare_call(self, text: str) -> int | None:
        """Where something at the start of a line may be a call that no marker tells."""
        return self._at_line_start(self._bare_at_line_start, text) if self._bare else None

    def _other_thought(self, text: str) -> int | None:
        """Where reasoning begins behind words: on a line of its own, as somebody may speak of it.

        Of what only control tokens look like, nobody speaks.
        """
        if "|" in self._again and self._again in text:
            return text.index(self._again)
        return self._at_line_start(self._again_at_line_start, text) if self._again else None

    def _at_line_start(self, marker: re.Pattern[str], text: str) -> int | None:
        for found in marker.finditer(text):
            if found.start() or self._written.at_line_start:
                return found.start(1)
        return None

    def _begin_call(self, marker: str) -> bool:
        self._scanner, self._raw = None, [marker]
        self._announced, self._told = False, bool(marker) and self._bare != OBJECT
        return self._go(self._call, len(marker))

    def _call(self) -> bool:
        if self._scanner is None:
            first = self._buffer.lstrip()[:1]
            if not first:
                return False
            self._scanner = self._scanner_of(first)
        return self._scan(self._scanner)

    def _scanner_of(self, first: str) -> Scanner:
        """Whatever the dialect, what begins as an object or a list is one."""
        if self._bare == OBJECT and not self._told:
            return BareScanner(self._functions)
        if self._dialect.form == "object" or first in "{[":
            return CallScanner()
        if self._dialect.form == "tagged":
            return TaggedScanner(self._functions, self._close)
        if self._dialect.form == "loose":
            return LooseScanner()
        return NamedScanner(self._dialect.separators, self._dialect.name_field)

    def _scan(self, scanner: Scanner) -> bool:
        for index, character in enumerate(self._buffer):
            scan = scanner.feed(character)
            if scan is Scan.BAD:
                return self._malformed(scanner, index)
            if not self._announced and scanner.name is not None:
                if scanner.name not in self._functions:
                    return self._malformed(scanner, index + 1)
                self._written.announce(scanner.name)
                self._announced = True
            if scan is Scan.DONE:
                return self._called(scanner, index + 1)
        self._raw.append(self._cut(len(self._buffer)))
        self._argue(scanner.take() if self._announced else "")
        return False

    def _called(self, scanner: Scanner, length: int) -> bool:
        """The call is complete."""
        if not self._announced:
            return self._malformed(scanner, length)
        self._argue(scanner.take() if scanner.has_arguments else "{}")
        return self._go(self._after_call, length)

    def _malformed(self, scanner: Scanner, length: int) -> bool:
        """No call, as the first `length` characters of the buffer show."""
        written = self._cut(length)
        if not self._announced:
            self._written.say("".join([*self._raw, written]))
            return self._go(self._form if self._has_form else self._answer)
        in_arguments = scanner.spill()
        self._argue(scanner.take() if scanner.has_arguments else "{}")
        return self._go(self._broken_arguments if in_arguments else self._rest_of_call)

    def _broken_arguments(self) -> bool:
        """The closing marker ends them, with what closes the call's object or fence before it."""
        in_object = isinstance(self._scanner, CallScanner)
        end = "}" if in_object else self._dialect.call_tail
        before, found = self._until(self._ending, hold=STRAY + end)
        self._argue(before.rstrip().removesuffix(end).rstrip() if found else before)
        return found and self._ended()

    def _rest_of_call(self) -> bool:
        return self._until(self._ending)[1] and self._ended()

    @property
    def _ending(self) -> str:
        """What ends a call that is broken: where nothing closes calls, the next one's beginning."""
        return self._close or self._dialect.call_open

    def _ended(self) -> bool:
        if not self._close:
            self._buffer = self._ending + self._buffer
        return self._go(self._answer)

    def _after_call(self) -> bool:
        self._buffer = self._buffer.lstrip(STRAY)
        for marker in filter(None, (self._close, self._dialect.call_tail)):
            if self._buffer.startswith(marker):
                closed = marker == self._close
                return self._go(self._answer if closed else self._after_call, len(marker))
            if marker.startswith(self._buffer):
                return False
        return self._next_of_list()

    def _next_of_list(self) -> bool:
        """Another object may follow the one that was a call."""
        rest = self._buffer.lstrip(BETWEEN)
        if not isinstance(self._scanner, CallScanner) or (rest and rest[0] != "{"):
            return self._go(self._answer)
        if not rest:
            return False
        self._buffer = rest
        self._begin_call("")
        self._told = True
        return True

    def _argue(self, text: str) -> None:
        if self._announced:
            self._written.argue(text)

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
        free = len(self._buffer) - held(self._buffer, [marker])
        return self._cut(len(self._buffer[:free].rstrip(hold)) if hold else free), False
