"""Links to files in the folder where code runs, as models write them: `sandbox:/mnt/data/plot.png`.

Knows the names that there are; what is mentioned and is not there is no link.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

FOLDER: Final = "/mnt/data"
PREFIX: Final = f"sandbox:{FOLDER}/"

# A name goes on with these: `plot.png` is not mentioned by `plot.png.gz`, but by `plot.png.`
_GOES_ON: Final = re.compile(r"[A-Za-z0-9_%/-]|\.[A-Za-z0-9_]")

# A character, also as bytes in a URL; and what may become one of these when more is written.
_HEX, _MORE = "[0-9a-f]", "%[89ab]"
_CHARACTER: Final = re.compile(
    rf"%[0-7]{_HEX}|%[cd]{_HEX}{_MORE}{_HEX}|%e{_HEX}(?:{_MORE}{_HEX}){{2}}"
    rf"|%f{_HEX}(?:{_MORE}{_HEX}){{3}}|.",
    re.IGNORECASE | re.DOTALL,
)
_BEGUN: Final = re.compile(
    rf"%(?:{_HEX}?|(?:[cd]{_HEX}|e{_HEX}(?:{_MORE}{_HEX})?|f{_HEX}(?:{_MORE}{_HEX}){{0,2}})"
    r"(?:%[89ab]?)?)\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Link:
    """A mention of a file, as it is written, and the file's name."""

    text: str
    name: str


class Links:
    """Finds links to files of some names, however these are spelled; without any it is false.

    However many names there are, a look takes no longer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {*names}
        self._in_order = sorted(self._names)
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        sizes = (len(name.encode("utf-8", "surrogatepass")) for name in self._names)
        self._longest = len("%20") * max(sizes, default=0)

    def __bool__(self) -> bool:
        return bool(self._names)

    def at(self, text: str) -> Link | None:
        """The link that a text begins with: to the longest of the names that it may be."""
        if not text.startswith(PREFIX):
            return None
        spelled = text[len(PREFIX) :][: self._longest]
        readings = ((spelled, range(1, len(spelled) + 1)), _read(spelled))
        found = [link for each in readings if (link := self._linked(text, *each)) is not None]
        return max(found, key=lambda link: len(link.text), default=None)

    def _linked(self, text: str, characters: str, ends: Sequence[int]) -> Link | None:
        """What a text links to if these characters, which end there, follow its beginning."""
        for length in self._lengths:
            if length <= len(characters) and characters[:length] in self._names:
                end = len(PREFIX) + ends[length - 1]
                if not _GOES_ON.match(text, end):
                    return Link(text[:end], characters[:length])
        return None

    def begun(self, text: str) -> int:
        """Where something begins that may be a link once more is written; else the text's end."""
        longest = len(PREFIX) + self._longest + 1
        place = text.find(PREFIX[0], max(0, len(text) - longest))
        while place >= 0 and not self._may_become_one(text[place:]):
            place = text.find(PREFIX[0], place + 1)
        return place if place >= 0 else len(text)

    def _may_become_one(self, text: str) -> bool:
        if not text.startswith(PREFIX):
            return PREFIX.startswith(text)
        spelled = text.removeprefix(PREFIX)
        return self._begins(spelled) or self._begins(_read(_BEGUN.sub("", spelled))[0])

    def _begins(self, characters: str) -> bool:
        place = bisect_left(self._in_order, characters)
        return (
            place < len(self._in_order) and self._in_order[place].startswith(characters)
        ) or characters.removesuffix(".") in self._names


def _read(spelled: str) -> tuple[str, list[int]]:
    """The characters that are spelled, some as in a URL, and where each ends in the text."""
    characters, ends = "", list[int]()
    for each in _CHARACTER.finditer(spelled):
        try:
            characters += unquote(each[0], errors="strict")
            ends.append(each.end())
        except UnicodeDecodeError:  # it only looks like one
            characters += each[0]
            ends += range(each.start() + 1, each.end() + 1)
    return characters, ends
