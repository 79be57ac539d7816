"""Reads one call a character at a time; here: JSON values, and calls that are JSON objects."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from enum import Enum, auto

from server.chat.bare import OBJECT_HEADS
from server.chat.conversation import json_object

SPACE = frozenset(" \t\r\n")
SCALAR = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null")
SCALAR_CHARACTERS = frozenset("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEX = frozenset("0123456789abcdefABCDEF")
NAME, ARGUMENTS = "name", "arguments"
# What families call the parts of a call.
KEYS = {NAME: NAME, "tool_name": NAME, ARGUMENTS: ARGUMENTS, "parameters": ARGUMENTS}


class Scan(Enum):
    """What a character was."""

    MORE = auto()  # a part of the value, which goes on
    DONE = auto()  # its last one
    AFTER = auto()  # not a part of it: a number has no last character of its own
    BAD = auto()  # no JSON


class Scanner(ABC):
    """Reads one call. `name` is set once it is known, and arguments are then given out by `take`.

    Who reads puts their JSON text into `_ready`.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.has_arguments = False
        self._ready: list[str] = []

    @abstractmethod
    def feed(self, character: str) -> Scan: ...

    def take(self) -> str:
        """The JSON text of the arguments since this was last asked."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    @abstractmethod
    def spill(self) -> bool:
        """Give out arguments that are no JSON as they are; whether it was in them."""


def quoted(text: str) -> str:
    """The text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


class JsonValue:
    """One JSON value, checked as it comes."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._state: Callable[[str], Scan] = self._value
        self._scalar: list[str] = []
        self._hex = 0
        self._is_key = False

    def feed(self, character: str) -> Scan:
        return self._state(character)

    def _value(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        if character == "{":
            return self._into("}", self._first_key)
        if character == "[":
            return self._into("]", self._first_item)
        if character == '"':
            return self._next(self._string)
        self._scalar, self._state = [], self._in_scalar
        return self._in_scalar(character)

    def _next(self, state: Callable[[str], Scan]) -> Scan:
        self._state = state
        return Scan.MORE

    def _into(self, end: str, state: Callable[[str], Scan]) -> Scan:
        self._open.append(end)
        return self._next(state)

    def _first_item(self, character: str) -> Scan:
        return self._close() if character == "]" else self._value(character)

    def _first_key(self, character: str) -> Scan:
        return self._close() if character == "}" else self._key(character)

    def _key(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        self._is_key = True
        return self._next(self._string) if character == '"' else Scan.BAD

    def _colon(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        return self._next(self._value) if character == ":" else Scan.BAD

    def _string(self, character: str) -> Scan:
        if character == '"':
            return self._end_string()
        if character == "\\":
            return self._next(self._escape)
        return Scan.BAD if character < " " else Scan.MORE

    def _end_string(self) -> Scan:
        if self._is_key:
            self._is_key = False
            return self._next(self._colon)
        return self._end()

    def _escape(self, character: str) -> Scan:
        if character == "u":
            self._hex = 4
            return self._next(self._unicode)
        return self._next(self._string) if character in '"\\/bfnrt' else Scan.BAD

    def _unicode(self, character: str) -> Scan:
        self._hex -= 1
        if character not in HEX:
            return Scan.BAD
        return Scan.MORE if self._hex else self._next(self._string)

    def _in_scalar(self, character: str) -> Scan:
        if character in SCALAR_CHARACTERS:
            self._scalar.append(character)
            return Scan.MORE
        if not SCALAR.fullmatch("".join(self._scalar)):
            return Scan.BAD
        return self._separator(character) if self._end() is Scan.MORE else Scan.AFTER

    def _end(self) -> Scan:
        return self._next(self._separator) if self._open else Scan.DONE

    def _separator(self, character: str) -> Scan:
        if character == self._open[-1]:
            return self._close()
        if character == ",":
            return self._next(self._key if self._open[-1] == "}" else self._value)
        return Scan.MORE if character in SPACE else Scan.BAD

    def _close(self) -> Scan:
        self._open.pop()
        return self._end()


class CallScanner(Scanner):
    """The object of a call, which may be the first of a list.

    Arguments are given out as they are written, once they turn out to be an object; where a model
    wrote that object as a string, its text; and `{}` for null.
    """

    def __init__(self) -> None:
        super().__init__()
        self._state: Callable[[str], Scan] = self._start
        self._value = JsonValue()
        self._held: list[str] = []  # of a key, or of a value that is wanted whole
        self._key: str | None = None
        self._streams = False

    def feed(self, character: str) -> Scan:
        return self._state(character)

    def spill(self) -> bool:
        if self._key != ARGUMENTS:
            return False
        self._ready.extend(self._held)
        self._held.clear()
        self.has_arguments = True
        return True

    def _start(self, character: str) -> Scan:
        return self._expect(character, {"{": self._first_key, "[": self._first})

    def _first(self, character: str) -> Scan:
        return self._expect(character, {"{": self._first_key})

    def _expect(self, character: str, ways: dict[str, Callable[[str], Scan]]) -> Scan:
        if character in SPACE:
            return Scan.MORE
        if character not in ways:
            return Scan.BAD
        self._state = ways[character]
        return Scan.MORE

    def _first_key(self, character: str) -> Scan:
        return Scan.DONE if character == "}" else self._next_key(character)

    def _next_key(self, character: str) -> Scan:
        scan = self._expect(character, {'"': self._in_key})
        if character == '"':
            self._begin_value()
            self._in_key(character)
        return scan

    def _begin_value(self) -> None:
        self._value = JsonValue()
        self._held.clear()

    def _in_key(self, character: str) -> Scan:
        self._held.append(character)
        scan = self._value.feed(character)
        if scan is not Scan.DONE:
            return scan
        self._key = self._new_key(KEYS.get(json.loads("".join(self._held))))
        self._begin_value()
        self._state = self._colon
        return Scan.MORE

    def _new_key(self, key: str | None) -> str | None:
        """A second name, or second arguments, are passed over, as other keys are."""
        seen = self.name is not None if key == NAME else self.has_arguments
        return None if seen else key

    def _colon(self, character: str) -> Scan:
        return self._expect(character, {":": self._in_value})

    def _in_value(self, character: str) -> Scan:
        scan = self._value.feed(character)
        if scan is Scan.AFTER:
            self._end_value()
            return self._comma(character)
        if scan is not Scan.BAD:
            self._keep(character)
        if scan is Scan.DONE:
            self._end_value()
            return Scan.MORE
        return scan

    def _keep(self, character: str) -> None:
        if not self._held and not self._streams:
            if character in SPACE:
                return
            self._streams = self._key == ARGUMENTS and character in "{["
        (self._ready if self._streams else self._held).append(character)

    def _end_value(self) -> None:
        text = "".join(self._held)
        if self._key == NAME:
            self.name = _text_in(text)
        if self._key == ARGUMENTS:
            self.has_arguments = True
            self._ready.append(_unwrapped(text) if text else "")
        self._key, self._streams, self._state = None, False, self._comma

    def _comma(self, character: str) -> Scan:
        if character == "}":
            return Scan.DONE
        return self._expect(character, {",": self._next_key})


class BareScanner(CallScanner):
    """An object that no marker has told: a call only if it begins like one of these functions."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._state = self._in_head
        self._head = ""
        self._heads = {
            f'{head}{name}","{key}":': name
            for name in names
            for head in OBJECT_HEADS
            for key in (ARGUMENTS, "parameters")
        }

    def _in_head(self, character: str) -> Scan:
        in_string = self._head.count('"') % 2
        if character in SPACE and not in_string:
            return Scan.MORE
        self._head += character
        self.name = self._heads.get(self._head)
        if self.name is not None:
            self._key, self._state = ARGUMENTS, self._in_value
        fits = any(head.startswith(self._head) for head in self._heads)
        return Scan.MORE if fits else Scan.BAD


def _text_in(value: str) -> str | None:
    name = json.loads(value) if value.startswith('"') else None
    return name or None


def _unwrapped(value: str) -> str:
    inner = _text_in(value)
    if inner is not None and json_object(inner) is not None:
        return inner
    return "{}" if value == "null" else value
