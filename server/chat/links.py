"""Links to files in the folder where code runs, as models write them: `sandbox:/mnt/data/plot.png`.

Knows the names that there are; what is mentioned and is not there is no link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

FOLDER: Final = "/mnt/data"
PREFIX: Final = f"sandbox:{FOLDER}/"

# A name goes on with these: `plot.png` is not mentioned by `plot.png.gz`, but by `plot.png.`
_GOES_ON: Final = r"[A-Za-z0-9_%/-]|\.[A-Za-z0-9_]"
_LOOKED_AT: Final = ("", ".")  # what may stand behind a name without telling whether it is over


@dataclass(frozen=True, slots=True)
class Link:
    """A mention of a file, as it is written, and the file's name."""

    text: str
    name: str


class Links:
    """Finds links to files of some names; without any it is false."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {spelled: name for name in names for spelled in (quote(name), name)}
        self._longest_first = sorted(self._names, key=len, reverse=True)
        spelled = "|".join(map(re.escape, self._longest_first))
        self._pattern = re.compile(f"{PREFIX}({spelled})(?!{_GOES_ON})")

    def __bool__(self) -> bool:
        return bool(self._names)

    def at(self, text: str) -> Link | None:
        """The link that a text begins with."""
        found = self._pattern.match(text)
        return None if found is None else Link(found[0], self._names[found[1]])

    def begun(self, text: str) -> int:
        """Where something begins that may be a link once more is written; else the text's end."""
        longest = len(PREFIX) + len(self._longest_first[0]) + 1
        place = text.find(PREFIX[0], max(0, len(text) - longest))
        while place >= 0 and not self._may_become_one(text[place:]):
            place = text.find(PREFIX[0], place + 1)
        return place if place >= 0 else len(text)

    def _may_become_one(self, text: str) -> bool:
        return any(
            whole.startswith(text) or text.removeprefix(whole) in _LOOKED_AT
            for whole in (PREFIX + name for name in self._longest_first)
        )
