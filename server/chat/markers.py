"""Markers in text that is still being written."""

from __future__ import annotations

from collections.abc import Iterable


def first_of(markers: Iterable[str], text: str) -> tuple[int, str] | None:
    """The first marker in `text` and where it is; of several at one place the longest."""
    found = [
        (place, -len(marker), marker) for marker in markers if (place := text.find(marker)) >= 0
    ]
    if not found:
        return None
    place, _, marker = min(found)
    return place, marker


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    longest = min(len(text), len(marker) - 1)
    if longest <= 0 or marker[0] not in text[-longest:]:
        return 0
    return next((n for n in range(longest, 0, -1) if marker.startswith(text[-n:])), 0)


def held(text: str, markers: Iterable[str]) -> int:
    """How many characters at the end of `text` may be the beginning of any marker."""
    return max((overlap(text, marker) for marker in markers), default=0)
