"""Reads a call that is written as a block of the function with a block of each parameter.

    <function=name>
    <parameter=key>
    value
    </parameter>
    </function>

What a value is in JSON follows from the function's schema: a string without rules is given out
while it is written, anything else once it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from server.chat.layout import LONGEST_NAME, TAG_CLOSE, TAG_OPEN
from server.chat.markers import held
from server.chat.parameter import ANYTHING, Types, parameter_of, parameters_of
from server.chat.scanner import JsonValue, Scan, Scanner, quoted
from server.chat.values import ToolSpec
from server.schemas.satisfiable import is_of

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = TAG_OPEN, TAG_CLOSE.strip()  # models may leave the line breaks out
VALUE_ENDS = (PARAMETER_END, f"\n{PARAMETER_END}")
# As Python spells them: templates write earlier arguments so, and models repeat it.
SPELLED = {"true": "true", "false": "false", "null": "null", "none": "null"}

Functions = Mapping[str, ToolSpec]  # by their names


class TaggedScanner(Scanner):
    """Reads one block. `functions` are those that may be called.

    `wrapper_end` closes what the block stands in, and so the block, too.
    """

    def __init__(self, functions: Functions, wrapper_end: str) -> None:
        super().__init__()
        self._functions = functions
        self._wrapper_end = wrapper_end
        self._schema: Mapping[str, Any] = {}
        self._text = ""
        self._state: Callable[[], Scan] = self._before_function
        self._types = ANYTHING
        self._parts: list[str] = []  # of a value that is given out once it is whole
        self._separator = ""
        self._streams = False
        self._json: JsonValue | None = None  # checks a value that has to be JSON
        self._in_json = False  # in which a tag is a part of it

    def feed(self, character: str) -> Scan:
        self._text += character
        return self._state()

    def spill(self) -> bool:
        return False

    def _before_function(self) -> Scan:
        text = self._text.lstrip()
        if text == FUNCTION:
            return self._go(self._function_name)
        return Scan.MORE if FUNCTION.startswith(text) else Scan.BAD

    def _between_parameters(self) -> Scan:
        """What is no tag is nothing here."""
        if self._text.endswith(PARAMETER):
            return self._go(self._parameter_name)
        if self._text.endswith((FUNCTION_END, self._wrapper_end)):
            self._ready.append("}")
            return Scan.DONE
        self._text = self._text[-LONGEST_NAME:]
        return Scan.MORE

    def _go(self, state: Callable[[], Scan]) -> Scan:
        self._text, self._state = "", state
        return Scan.MORE

    def _function_name(self) -> Scan:
        if not self._text.endswith(">"):
            return self._name_so_far()
        self.name = self._text[:-1] or None
        if self.name is None:
            return Scan.BAD
        if self.name in self._functions:
            self._schema = parameters_of(self._functions[self.name])
        self.has_arguments = True
        self._ready.append("{")
        return self._go(self._between_parameters)

    def _parameter_name(self) -> Scan:
        if not self._text.endswith(">"):
            return self._name_so_far()
        key = self._text[:-1].strip()
        parameter = parameter_of(self._schema, key)
        self._types, self._streams = parameter.types, parameter.is_bare
        self._json, self._in_json = JsonValue() if parameter.is_json else None, False
        quote = '"' if self._streams else ""
        self._ready.append(f"{self._separator}{quoted(key)}: {quote}")
        self._separator = ", "
        return self._go(self._first_line)

    def _name_so_far(self) -> Scan:
        return Scan.MORE if len(self._text) <= LONGEST_NAME else Scan.BAD

    def _first_line(self) -> Scan:
        """The line break behind the tag is no part of the value."""
        if self._text == "\n":
            return self._go(self._value)
        self._state = self._value
        return self._value()

    def _value(self) -> Scan:
        self._follow_json()
        if self._text.endswith(PARAMETER_END) and not self._in_json:
            return self._end_value(self._text.removesuffix(PARAMETER_END).removesuffix("\n"))
        free = len(self._text) - held(self._text, VALUE_ENDS)
        if self._streams:
            self._ready.append(quoted(self._text[:free])[1:-1])
        else:
            self._parts.append(self._text[:free])
        self._text = self._text[free:]
        return Scan.MORE

    def _follow_json(self) -> None:
        """What has an end of its own may hold what looks like the end of its block."""
        if self._json is None:
            return
        character = self._text[-1]
        self._in_json = self._in_json or character in '"[{'
        scan = self._json.feed(character)
        if scan is not Scan.MORE:
            self._json, self._in_json = None, False

    def _end_value(self, rest: str) -> Scan:
        if self._streams:
            self._ready.append(quoted(rest)[1:])
        else:
            self._ready.append(json_of("".join([*self._parts, rest]), self._types))
            self._parts.clear()
        return self._go(self._between_parameters)


def json_of(value: str, types: Types) -> str:
    """The JSON text of a value as it stands between its tags."""
    text = value.strip()
    spelled = SPELLED.get(text.lower(), text)
    try:
        read = json.loads(spelled, parse_constant=_refused)
    except (ValueError, RecursionError):
        return quoted(value)
    return spelled if is_of(read, types) else quoted(value)


def _refused(name: str) -> None:
    raise ValueError(name)  # JSON has no NaN and no Infinity
