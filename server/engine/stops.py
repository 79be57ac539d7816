"""Strings that end a generation: found across tokens, and never said, not even in part.

Works on bytes, since a token may end in the middle of a character.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Watches what one sequence says. `found` once one of the strings was there."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.found = False
        self._strings = [string.encode() for string in strings if string]
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be said now: nothing that may yet turn out to be the beginning of a string."""
        text = self._held + data
        ends = [place for string in self._strings if (place := text.find(string)) >= 0]
        if ends:
            self.found, self._held = True, b""
            return text[: min(ends)]
        keep = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> bytes:
        """What was held back, at the end of a generation that no string has ended."""
        held, self._held = self._held, b""
        return held


def _overlap(text: bytes, string: bytes) -> int:
    """How much of the string's beginning the text ends with."""
    longest = min(len(text), len(string) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(string[:size])), 0)
