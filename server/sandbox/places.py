"""Where a session's folders are, if not where their names say.

Its code's texts name them, and so does what it prints. Imports nothing but the standard library,
since one half of this runs inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

DATA: Final = "/mnt/data"
TMP: Final = "/tmp"
_NAMES: Final = re.compile(rf"{DATA}(?![\w-])|(?<![\w./-]){TMP}(?![\w-])")

Places = Mapping[str, str]  # where each name's folder is


def places_in(folder: str) -> Places:
    """Those of a session that has nothing but this folder."""
    return {DATA: f"{folder}/data", TMP: f"{folder}/tmp"}


def placed(text: str, places: Places) -> str:
    """The text with the places of all names in it. `//tmp` is the machine's own folder."""
    return _NAMES.sub(lambda name: places[name[0]], text)


class Naming:
    """Text that comes in pieces, with names again in place of places."""

    def __init__(self, places: Places) -> None:
        self._names = {place: name for name, place in places.items() if place != name}
        self._held = ""  # what may be the beginning of a place

    def feed(self, text: str) -> str:
        text = self._held + text
        for place, name in self._names.items():
            text = text.replace(place, name)
        end = len(text) - max((_begun(text, place) for place in self._names), default=0)
        self._held = text[end:]
        return text[:end]

    def rest(self) -> str:
        """What was held, if nothing follows it."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, place: str) -> int:
    """How many of the last characters are the beginning of a place."""
    return next((n for n in range(len(place) - 1, 0, -1) if text.endswith(place[:n])), 0)
