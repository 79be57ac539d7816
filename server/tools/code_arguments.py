"""The code in the arguments of a call, read while the model writes them.

Arguments are JSON, `{"code": "print(1)"}`. Models that do not keep to that write the code itself,
or a string of it, or break lines within a string; all of that is read as it was meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

# The wire calls the code `input`, and so do some models; of both keys the first has it, since it is
# told before the second comes. Other flat values may precede it.
_HEAD: Final = re.compile(
    r"""\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*)*?"(?:code|input)"\s*:\s*\"""",
    re.DOTALL,
)
_STRING: Final = re.compile(r'\s*"(?!"")')
_UNDECIDED: Final = re.compile(r'\s*(?:"{0,2}$|\{)')
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_ESCAPES: Final = {
    **dict(zip('"\\/', '"\\/', strict=True)),
    **dict(zip("bfnrt", "\b\f\n\r\t", strict=True)),
}
_UNREADABLE: Final = "\ufffd"  # stands for half a surrogate pair


class CodeReader:
    """Reads the arguments of one call. What is read in pieces is what is read at once."""

    def __init__(self) -> None:
        self._held = ""  # until it is clear what the arguments are
        self._state: Callable[[str], str] = self._begin

    def feed(self, arguments: str) -> str:
        """More of the arguments: the code that they tell."""
        return self._state(arguments)

    def finish(self) -> str:
        """The arguments are over: what was held is code, unless it is JSON of something else."""
        held, self._held = self._held, ""
        return "" if _is_json(held) else held

    def _begin(self, arguments: str) -> str:
        self._held += arguments
        if _UNDECIDED.match(self._held):
            found = _HEAD.match(self._held)
        else:
            found = _STRING.match(self._held)
            if found is None:
                return self._begun(str, self._held)
        return "" if found is None else self._begun(JsonString().feed, self._held[found.end() :])

    def _begun(self, state: Callable[[str], str], rest: str) -> str:
        self._held, self._state = "", state
        return state(rest)


class JsonString:
    """The text of a JSON string, piece by piece. What is no JSON in it stays as it is."""

    def __init__(self) -> None:
        self._is_over = False
        self._escape = ""  # as far as it is there
        self._high = 0  # half of a character, which the next escape may complete

    def feed(self, text: str) -> str:
        """What more of it says; what follows its end is left out."""
        return "".join(self._read(character) for character in text if not self._is_over)

    def _read(self, character: str) -> str:
        if self._escape:
            return self._in_escape(character)
        if character == "\\":
            self._escape = character
            return ""
        self._is_over = character == '"'
        return self._after_half("" if self._is_over else character)

    def _in_escape(self, character: str) -> str:
        escape = self._escape + character
        if escape == "\\u" or (escape[1] == "u" and character in _HEX):
            self._escape = "" if len(escape) == 6 else escape
            return "" if self._escape else self._unit(int.from_bytes(bytes.fromhex(escape[2:])))
        self._escape = ""
        if escape[1] == "u":
            return self._after_half(escape[:-1]) + self._read(character)
        return self._after_half(_ESCAPES.get(character, escape))

    def _unit(self, unit: int) -> str:
        """A code unit of UTF-16."""
        if self._high and 0xDC00 <= unit <= 0xDFFF:
            high, self._high = self._high, 0
            return chr(0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00))
        if 0xD800 <= unit <= 0xDBFF:
            before, self._high = self._after_half(""), unit
            return before
        return self._after_half(_UNREADABLE if 0xDC00 <= unit <= 0xDFFF else chr(unit))

    def _after_half(self, text: str) -> str:
        """A text that completes no pair."""
        high, self._high = self._high, 0
        return _UNREADABLE + text if high else text


def code_in(arguments: str) -> str:
    """The code that whole arguments tell; nothing where they tell none."""
    reader = CodeReader()
    return reader.feed(arguments) + reader.finish()


def _is_json(text: str) -> bool:
    try:
        json.loads(text or "null")
    except (ValueError, RecursionError):
        return False
    return True
