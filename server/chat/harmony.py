"""Reads a turn of the harmony format: messages with headers, of which one may be a call.

A header names a channel (analysis is reasoning, all others are said) and perhaps whom the message
is for. A message to a function that was offered is a call of it, on any channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from server.chat.markers import first_of, held
from server.chat.scanner import JsonValue, Scan
from server.chat.written import Written

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
HEADER_STARTS = (START, CHANNEL, CONSTRAIN, MESSAGE, "to=")
ENDS = ("<|end|>", "<|call|>", "<|return|>", START, CHANNEL)
REASONING = "analysis"
CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.-]+)")
LONGEST_HEADER = 256


class HarmonyReader:
    """Reads one turn into what was `written`. The prompt has told that the assistant begins."""

    def __init__(
        self, functions: Collection[str], written: Written, *, in_reasoning: bool, has_form: bool
    ) -> None:
        self.unfinished_call = False
        self._has_form = has_form
        self._functions = functions
        self._written = written
        self._buffer = ""
        self._state: Callable[[], bool] = self._between
        self._take: Callable[[str], None] = written.say
        self._arguments = _Arguments()  # of the call that is being read
        if in_reasoning:
            self._begin(written.think)

    @property
    def in_reasoning(self) -> bool:
        return self._state == self._body and self._take == self._written.think

    def read(self, text: str) -> None:
        self._buffer += text
        while self._buffer and self._state():
            pass

    def finish(self) -> None:
        rest, self._buffer = self._buffer, ""
        if self._state == self._value:
            self.unfinished_call = True
        elif self._state == self._body:
            self._take(rest)
            self.unfinished_call = self._take == self._argue and not self._arguments.whole
        elif self._state == self._header:
            self.unfinished_call = self._function_in(rest) is not None
            if first_of(ENDS, rest) is None and not self.unfinished_call:
                self._written.say(rest)
        else:
            self._written.say(rest)
        self._written.end()

    def _between(self) -> bool:
        """Before a message. What has no header is said."""
        text = self._buffer.lstrip()
        if text.startswith(HEADER_STARTS):
            return self._go(self._header)
        if any(start.startswith(text) for start in HEADER_STARTS):
            return False
        return self._begin(self._written.say)

    def _header(self) -> bool:
        header, found, body = self._buffer.partition(MESSAGE)
        if not found:
            return len(self._buffer) > LONGEST_HEADER and self._begin(self._written.say)
        self._buffer = body
        function = self._function_in(header)
        if function is not None:
            return self._begin_call(function)
        channel = CHANNEL_NAME.search(header)
        thinks = channel is not None and channel[1] == REASONING
        return self._begin(self._written.think if thinks else self._written.say)

    def _function_in(self, header: str) -> str | None:
        """The last one counts: it stands behind the channel, where models are held to it."""
        *_, recipient = ("", *RECIPIENT.findall(header))
        return recipient if recipient in self._functions else None

    def _begin(self, take: Callable[[str], None]) -> bool:
        self._take = take
        if self._written.text and take == self._written.say:
            self._written.say("\n\n")
        is_form = self._has_form and take == self._written.say
        return self._go(self._form if is_form else self._body)

    def _form(self) -> bool:
        self._written.say(self._buffer)
        self._buffer = ""
        return False

    def _begin_call(self, function: str) -> bool:
        self._written.announce(function)
        self._arguments = _Arguments()
        self._take = self._argue
        return self._go(self._value)

    def _value(self) -> bool:
        """The arguments go on to the end of their value, whatever markers its strings spell."""
        if self._arguments.empty:
            self._buffer = self._buffer.lstrip()
        length = self._arguments.length_in(self._buffer)
        self._written.argue(self._buffer[:length])
        self._buffer = self._buffer[length:]
        return self._arguments.over and self._go(self._body)

    def _body(self) -> bool:
        end = first_of(ENDS, self._buffer)
        place = len(self._buffer) - held(self._buffer, ENDS) if end is None else end[0]
        self._take(self._buffer[:place])
        self._buffer = self._buffer[place:]
        return end is not None and self._end_body(end[1])

    def _end_body(self, marker: str) -> bool:
        """Another message may begin although the last was not ended."""
        if self._take == self._argue and self._arguments.empty:
            self._written.argue("{}")
        if marker not in HEADER_STARTS:
            self._buffer = self._buffer.removeprefix(marker)
        return self._go(self._between)

    def _argue(self, text: str) -> None:
        """What follows on a value that is whole is no part of the call."""
        if text and not self._arguments.whole:
            self._arguments.empty = False
            self._written.argue(text)

    def _go(self, state: Callable[[], bool]) -> bool:
        self._state = state
        return True


class _Arguments:
    """How far the JSON value of a call's arguments has come: to its end, or to what is no JSON."""

    def __init__(self) -> None:
        self.empty = True
        self.whole = self.over = False
        self._json = JsonValue()

    def length_in(self, text: str) -> int:
        """How many characters of `text` belong to it."""
        for index, character in enumerate(text):
            scan = self._json.feed(character)
            if scan is not Scan.MORE:
                self.over, self.whole = True, scan is not Scan.BAD
                return index + (scan is Scan.DONE)
            self.empty = False
        return len(text)
