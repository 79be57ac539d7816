"""Links to files in the folder where code runs, as models write them: `sandbox:/mnt/data/plot.png`.

Knows the names that there are; what is mentioned and is not there is no link.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

FOLDER: Final = "/mnt/data"
PREFIX: Final = f"sandbox:{FOLDER}/"

# A name goes on with these: `plot.png` is not mentioned by `plot.png.gz`, but by `plot.png.`
_GOES_ON: Final = re.compile(r"[A-Za-z0-9_%/-]|\.[A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Link:
    """A mention of a file, as it is written, and the file's name."""

    text: str
    name: str


class Links:
    """Finds links to files of some names; without any it is false.

    However many names there are, a look takes no longer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {spelled: name for name in names for spelled in (quote(name), name)}
        self._in_order = sorted(self._names)
        self._lengths = sorted({len(spelled) for spelled in self._names}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._names)

    def at(self, text: str) -> Link | None:
        """The link that a text begins with: to the longest of the names that it may be."""
        if not text.startswith(PREFIX):
            return None
        for length in self._lengths:
            end = len(PREFIX) + length
            name = self._names.get(text[len(PREFIX) : end])
            if name is not None and len(text) >= end and not _GOES_ON.match(text, end):
                return Link(text[:end], name)
        return None

    def begun(self, text: str) -> int:
        """Where something begins that may be a link once more is written; else the text's end."""
        longest = len(PREFIX) + self._lengths[0] + 1
        place = text.find(PREFIX[0], max(0, len(text) - longest))
        while place >= 0 and not self._may_become_one(text[place:]):
            place = text.find(PREFIX[0], place + 1)
        return place if place >= 0 else len(text)

    def _may_become_one(self, text: str) -> bool:
        if not text.startswith(PREFIX):
            return PREFIX.startswith(text)
        begun = text.removeprefix(PREFIX)
        place = bisect_left(self._in_order, begun)
        return (
            place < len(self._in_order) and self._in_order[place].startswith(begun)
        ) or begun.removesuffix(".") in self._names
