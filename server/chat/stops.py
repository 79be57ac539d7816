"""Strings that end an answer: found across deltas, and never said, not even in part.

Only the words of an answer are looked through; reasoning and calls are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from server.chat.markers import first_of, held
from server.chat.values import TextDelta, TurnDelta


class StopStrings:
    """Watches the deltas of one turn. `found` once one of the strings was there."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.found = False
        self._strings = [string for string in strings if string]
        self._held = ""

    def before(self, deltas: Iterable[TurnDelta]) -> Iterator[TurnDelta]:
        """The deltas up to a string. What may be the beginning of one waits.

        Words behind a call are no answer, so none of them ends it.
        """
        for delta in deltas:
            if self.found:
                return
            if isinstance(delta, TextDelta):
                yield from self._said(delta.text)
            else:
                yield from self.finish()
                self._strings.clear()
                yield delta

    def finish(self) -> Iterator[TextDelta]:
        """What has waited, and was not the beginning of a string."""
        rest, self._held = self._held, ""
        if rest:
            yield TextDelta(rest)

    def _said(self, text: str) -> Iterator[TextDelta]:
        text = self._held + text
        found = first_of(self._strings, text)
        self.found = found is not None
        place = len(text) - held(text, self._strings) if found is None else found[0]
        self._held = "" if self.found else text[place:]
        if text[:place]:
            yield TextDelta(text[:place])
