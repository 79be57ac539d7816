"""The message that a run is writing: what its streams are told of it is what will be stored."""

from __future__ import annotations

from collections.abc import Sequence

from server.chat.citations import CitationWriter, Part, Source
from server.db.stores import Record
from server.runs.deltas import MessageDeltas, annotation
from server.runs.progress import Said
from server.schemas import JsonObject


class OpenMessage:
    """Begun as `row`. The caller publishes each delta as soon as it is made."""

    def __init__(self, row: Record, sources: Sequence[Source]) -> None:
        self.writer = CitationWriter(sources)
        self._row = row
        self._deltas = MessageDeltas(row.id)
        self._text: list[str] = []
        self._length = 0
        self._annotations: list[JsonObject] = []

    @property
    def is_silent(self) -> bool:
        """Whether nothing of its text, not even that it is empty, was told."""
        return not self._text

    def delta(self, part: Part) -> bytes:
        """More of its text."""
        if isinstance(part, str):
            told = self._deltas.text(part)
        else:
            first = len(self._annotations)
            self._annotations.append(annotation(part, self._length))
            told = self._deltas.annotated(part.text, self._annotations[first:], first)
        text = part if isinstance(part, str) else part.text
        self._text.append(text)
        self._length += len(text)
        return told

    def said(self) -> Said:
        text = "".join(self._text) if self._text else None
        return Said(self._row, text, self._annotations)
