"""Reads a call that is written as a name and JSON arguments, with markers between."""

from __future__ import annotations

import re

from server.chat.scanner import JsonValue, Scan, Scanner

FIELD = re.compile(r"\s*[\w.:-]*")
LONGEST_FIELD = 128  # of a name, or of what else stands before the arguments


class NamedScanner(Scanner):
    """A head of fields, ended by a separator each, and then an object."""

    def __init__(self, separators: tuple[str, ...], name_field: int) -> None:
        super().__init__()
        self._separators = separators
        self._name_field = name_field
        self._head = ""
        self._fields: list[str] = []
        self._value = JsonValue()

    def feed(self, character: str) -> Scan:
        return self._argument(character) if self.has_arguments else self._in_head(character)

    def spill(self) -> bool:
        return self.has_arguments

    def _in_head(self, character: str) -> Scan:
        if character == "{":
            return self._begin()
        self._head += character
        for separator in self._separators:
            if self._head.endswith(separator):
                self._end_field(self._head.removesuffix(separator))
        return Scan.MORE if self._may_go_on() else Scan.BAD

    def _end_field(self, text: str) -> None:
        self._fields.append(text.strip())
        self._head = ""

    def _may_go_on(self) -> bool:
        """A field is a word, and behind it there is perhaps the beginning of a separator."""
        rest = FIELD.sub("", self._head, count=1).strip()
        return len(self._head) <= LONGEST_FIELD and (
            not rest or any(separator.startswith(rest) for separator in self._separators)
        )

    def _begin(self) -> Scan:
        """The arguments, with or without a separator before them."""
        if self._head.strip():
            self._end_field(self._head)
        if not self._fields or not FIELD.fullmatch(self._fields[self._name_field]):
            return Scan.BAD
        self.name = self._fields[self._name_field] or None
        self.has_arguments = True
        return self._argument("{")

    def _argument(self, character: str) -> Scan:
        scan = self._value.feed(character)
        if scan is not Scan.BAD:
            self._ready.append(character)
        return scan
