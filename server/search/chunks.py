"""A text in chunks of so many tokens, which overlap and, where they can, end where a thought does.

Knows where tokens end, and not whose tokens they are. A chunk is a piece of the text as it stands,
and together they are all of it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from server.search.extraction import Document
from server.search.tokens import TokenEnds

# A chunk may be shorter by this part of its size to end well, an overlap to begin well.
_LEEWAY: Final = 4

# What is good to cut at, best first: a paragraph, a line, a sentence, a word. Each is white space
# that may be cut anywhere.
_BREAKS: Final = (
    re.compile(r"(\n[^\S\n]*\n\s*)"),
    re.compile(r"(\n\s*)"),
    re.compile(r"(?:[.!?…][\"')\]»”’]*(?=\s)|[。！？｡][」』”’）]*)(\s*)"),
    re.compile(r"(\s+)"),
)
_CONTEXT: Final = 2  # characters that tell what is at the border of where a break is looked for
_VISIBLE: Final = re.compile(r"\S")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Characters `start` to `end` of a text. `page` is the one it begins on, counted from 1."""

    start: int
    end: int
    tokens: int
    page: int | None


def split(document: Document, token_ends: TokenEnds, size: int, overlap: int) -> list[Chunk]:
    """Chunks of at most `size` tokens, each with at most the last `overlap` of the one before.

    Only a character that is more than `size` tokens makes a larger one. Takes time in proportion to
    the text, where `overlap` is at most half of `size`.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"chunks of {size} tokens cannot overlap by {overlap}")
    if not document.text:
        return []
    return list(_Cutter(document, token_ends, size, overlap).chunks())


class _Cutter:
    """Cuts at boundaries: numbers of tokens after which a character ends, too."""

    def __init__(self, document: Document, ends: TokenEnds, size: int, overlap: int) -> None:
        self._text = document.text
        self._pages = document.pages
        self._ends = ends
        self._count = len(ends)
        self._size = size
        self._overlap = overlap

    def chunks(self) -> Iterator[Chunk]:
        start, end = 0, self._end_after(0)
        while end < self._count:
            yield self._chunk(start, end, self._offset(end))
            start, end = self._next(start, end)
        # A tokenizer may leave out spaces at the end.
        yield self._chunk(start, end, len(self._text))

    def _chunk(self, start: int, end: int, stop: int) -> Chunk:
        begins = self._offset(start)
        return Chunk(begins, stop, end - start, self._page(begins, stop))

    def _page(self, start: int, end: int) -> int | None:
        """The page of the first character that can be seen."""
        if not self._pages:
            return None
        visible = _VISIBLE.search(self._text, start, end)
        return max(1, bisect_right(self._pages, visible.start() if visible else start))

    def _next(self, start: int, end: int) -> tuple[int, int]:
        """The borders of the chunk after the one with these."""
        begins = self._start_after(start, end)
        while (ends := self._end_after(begins)) <= end:  # the overlap is nearly the whole chunk
            begins = self._boundary(int(self._ends[begins]))
        return begins, ends

    def _end_after(self, start: int) -> int:
        most = start + self._size
        if most >= self._count:
            return self._count
        last = self._last_boundary(most)
        if last <= start:
            return self._boundary(int(self._ends[start]))
        return self._best(most - self._size // _LEEWAY, last, latest=True) or last

    def _start_after(self, before: int, end: int) -> int:
        """Where the chunk starts that overlaps the one from `before` to `end`."""
        first = self._boundary(int(self._ends[max(end - self._overlap - 1, before)]))
        last = min(end, first + self._overlap // _LEEWAY)
        return self._best(first, last, latest=False) or first

    def _best(self, first: int, last: int, *, latest: bool) -> int:
        """The best boundary of these, both included; 0 if none is better than another."""
        start, end = self._offset(first), self._offset(last)
        for kind in _BREAKS:
            found = kind.finditer(self._text, max(0, start - _CONTEXT), end + _CONTEXT)
            spaces = [match.span(1) for match in found]
            for begins, stops in reversed(spaces) if latest else spaces:
                boundary = self._boundary(min(stops, end))
                if first <= boundary <= last and self._offset(boundary) >= begins:
                    return boundary
        return 0

    def _offset(self, boundary: int) -> int:
        return int(self._ends[boundary - 1]) if boundary else 0

    def _boundary(self, offset: int) -> int:
        """The last one that is not behind this character."""
        return int(np.searchsorted(self._ends, offset, side="right"))

    def _last_boundary(self, most: int) -> int:
        """The last one of at most so many tokens."""
        boundary = self._boundary(self._offset(most))
        if boundary <= most:
            return boundary
        return int(np.searchsorted(self._ends, self._offset(most), side="left"))
