"""The message that a run is writing: what its streams are told of it is what will be stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.chat.citations import Citation, CitationWriter, Source
from server.chat.links import Links
from server.db.stores import Record
from server.runs.deltas import FileLink, MessageDeltas, annotation
from server.runs.progress import Said
from server.schemas import JsonObject


class OpenMessage:
    """Begun as `row`, with figures at its front. Whoever has a delta made publishes it at once."""

    def __init__(
        self, row: Record, sources: Sequence[Source] | None, links: Links, figures: Sequence[str]
    ) -> None:
        self.writer = CitationWriter(sources, links)
        self._row = row
        self._deltas = MessageDeltas(row.id, len(figures))
        self._figures = figures
        self._shown = 0  # of the figures
        self._text: list[str] = []
        self._length = 0
        self._annotations: list[JsonObject] = []

    @property
    def is_silent(self) -> bool:
        """Whether nothing of its text, not even that it is empty, was told."""
        return not self._text

    def figures(self) -> Iterator[bytes]:
        """Its figures, which come before its text."""
        for file_id in self._figures:
            self._shown += 1
            yield self._deltas.figure(self._shown - 1, file_id)

    def delta(self, part: str | Citation | FileLink) -> bytes:
        """More of its text."""
        if isinstance(part, str):
            text, told = part, self._deltas.text(part)
        else:
            text, first = part.text, len(self._annotations)
            self._annotations.append(annotation(part, self._length))
            told = self._deltas.annotated(text, self._annotations[first:], first)
        self._text.append(text)
        self._length += len(text)
        return told

    def said(self) -> Said:
        text = "".join(self._text) if self._text else None
        return Said(self._row, text, self._annotations, self._figures[: self._shown])
