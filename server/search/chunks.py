"""Text to chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.search.extraction import Document


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text, from `start` to before `end`; `page` is the one it begins on."""

    start: int
    end: int
    tokens: int
    page: int | None


def split(document: Document, token_ends: Sequence[int], size: int, overlap: int) -> list[Chunk]:
    """Chunks of `size` tokens, each with the last `overlap` ones of the chunk before it."""
    chunks, count = [], len(token_ends)
    for first in range(0, max(count - overlap, 1), size - overlap):
        last = min(first + size, count)
        start = token_ends[first - 1] if first else 0
        end = token_ends[last - 1] if last < count else len(document.text)
        chunks.append(Chunk(start, end, last - first, None))
    return chunks
