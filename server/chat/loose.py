"""Reads a call whose arguments are an object of words: keys bare, strings between markers.

    call:name{key:<|"|>text<|"|>,other:[1,2]}

JSON's own quotes are taken, too, and what is in them is given out as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from server.chat.markers import overlap
from server.chat.named import FIELD, LONGEST_FIELD
from server.chat.scanner import SCALAR, SPACE, JsonValue, Scan, Scanner, quoted

HEAD = "call:"
QUOTE = '<|"|>'
CLOSES = {"{": "}", "[": "]"}


class LooseScanner(Scanner):
    """Gives out the arguments as JSON while they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._state: Callable[[str], Scan] = self._head
        self._open: list[str] = []  # what closes the objects and lists that are open
        self._text = ""  # of a head, a key, a word, or what may be a quote
        self._json = JsonValue()  # what is in JSON's own quotes

    def feed(self, character: str) -> Scan:
        return self._state(character)

    def spill(self) -> bool:
        return self.has_arguments

    def _head(self, character: str) -> Scan:
        if character != "{":
            self._text += character
            text = self._text.lstrip()
            named = text.startswith(HEAD) and FIELD.fullmatch(text) is not None
            fits = named or HEAD.startswith(text)
            return Scan.MORE if fits and len(text) <= LONGEST_FIELD else Scan.BAD
        self.name = self._text.strip().removeprefix(HEAD).strip() or None
        self.has_arguments = True
        return self._enter(character) if self.name else Scan.BAD

    def _go(self, state: Callable[[str], Scan], text: str = "") -> Scan:
        self._state, self._text = state, text
        return Scan.MORE

    def _enter(self, character: str) -> Scan:
        self._open.append(CLOSES[character])
        self._ready.append(character)
        return self._go(self._first)

    def _first(self, character: str) -> Scan:
        """Behind what opens: an empty object or list may end here."""
        if character == self._open[-1]:
            return self._leave()
        return self._next(character)

    def _next(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        if self._open[-1] == "]":
            self._go(self._value)
        elif character == '"':
            self._begin_json(self._json_key)
        else:
            self._go(self._key)
        return self._state(character)

    def _key(self, character: str) -> Scan:
        if character != ":":
            return self._more(character)
        key = self._text.strip().replace(QUOTE, "")
        self._ready.append(f"{quoted(key)}: ")
        return self._go(self._value)

    def _begin_json(self, state: Callable[[str], Scan]) -> None:
        self._json = JsonValue()
        self._go(state)

    def _json_key(self, character: str) -> Scan:
        return self._in_json(character, self._colon)

    def _json_string(self, character: str) -> Scan:
        return self._in_json(character, self._behind)

    def _in_json(self, character: str, following: Callable[[str], Scan]) -> Scan:
        scan = self._json.feed(character)
        if scan is Scan.BAD:
            return scan
        self._ready.append(character)
        return self._go(following) if scan is Scan.DONE else scan

    def _colon(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        if character != ":":
            return Scan.BAD
        self._ready.append(": ")
        return self._go(self._value)

    def _value(self, character: str) -> Scan:
        if character in SPACE:
            return Scan.MORE
        if character in CLOSES:
            return self._enter(character)
        if character == '"':
            self._begin_json(self._json_string)
            return self._json_string(character)
        if character == "<":
            return self._go(self._quote, character)
        self._go(self._word)
        return self._word(character)

    def _quote(self, character: str) -> Scan:
        self._text += character
        if self._text == QUOTE:
            self._ready.append('"')
            return self._go(self._string)
        return Scan.MORE if QUOTE.startswith(self._text) else self._bad()

    def _more(self, character: str) -> Scan:
        self._text += character
        return Scan.MORE if len(self._text) <= LONGEST_FIELD else self._bad()

    def _bad(self) -> Scan:
        """Give out what was held, but for the last character, which is still to be read."""
        self._ready.append(self._text[:-1])
        return Scan.BAD

    def _string(self, character: str) -> Scan:
        """Given out as it is written, but for what may be the quote that ends it."""
        self._text += character
        if self._text.endswith(QUOTE):
            self._ready.append(quoted(self._text.removesuffix(QUOTE))[1:])
            return self._go(self._behind)
        free = len(self._text) - overlap(self._text, QUOTE)
        self._ready.append(quoted(self._text[:free])[1:-1])
        self._text = self._text[free:]
        return Scan.MORE

    def _word(self, character: str) -> Scan:
        if character not in (",", *self._open[-1:]):
            return self._more(character)
        word = self._text.strip()
        self._ready.append(word if SCALAR.fullmatch(word) else quoted(word))
        return self._behind(character)

    def _behind(self, character: str) -> Scan:
        if character == self._open[-1]:
            return self._leave()
        if character == ",":
            self._ready.append(", ")
            return self._go(self._next)
        return Scan.MORE if character in SPACE else Scan.BAD

    def _leave(self) -> Scan:
        self._ready.append(self._open.pop())
        return self._go(self._behind) if self._open else Scan.DONE
