"""Where a text is cut into windows, each of which gets a vector, and which of them a chunk has.

An embedding model tells apart what is in some sentences, and of a longer text reads only the
beginning; so a chunk has several windows, and is as near to a query as the nearest of them. All of
a file's are cut on one grid, in which chunks that overlap share them: each is embedded once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

TOKENS: Final = 200  # of a window; longer ones find less (measured with MiniLM)
BYTES_A_TOKEN: Final = 4  # of UTF-8: an estimate for prose, high enough for most scripts
SEPARATORS: Final = ("\n\n", "\n", ". ", "。", " ")

Span = tuple[int, int]  # text[start:end], in characters


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows in the order of the text, and the indices of each chunk's."""

    windows: Sequence[Span]
    of_chunks: Sequence[range]


def cut(text: str, chunks: Sequence[Span], window: int) -> Grid:
    """The grid of a text, for an embedder that reads so many tokens (0: any number).

    It has a cut wherever a chunk begins, so that windows do not reach into a chunk from before it.
    """
    longest = _longest(text, min(TOKENS, window) if window else TOKENS)
    cuts = sorted({start for start, _ in chunks} | {end for _, end in chunks[-1:]})
    windows = [
        span for start, end in pairwise(cuts) for span in _windows(text, start, end, longest)
    ]
    return Grid(windows, _of_chunks(windows, chunks))


def _of_chunks(windows: Sequence[Span], chunks: Sequence[Span]) -> list[range]:
    """The windows of which a chunk has the middle, or else the one that has its beginning."""
    if not windows:
        return [range(0)] * len(chunks)
    starts = [start for start, _ in windows]
    middles = [(start + end) // 2 for start, end in windows]
    found = []
    for start, end in chunks:
        own = range(bisect_left(middles, start), bisect_left(middles, end))
        first = max(0, bisect_right(starts, start) - 1)
        found.append(own or range(first, first + 1))
    return found


def _longest(text: str, tokens: int) -> int:
    """So many tokens in characters, by what characters of this text take in UTF-8."""
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return max(1, tokens * BYTES_A_TOKEN * len(text) // max(1, size))


def _windows(text: str, start: int, end: int, longest: int) -> Iterator[Span]:
    """Of about the same length; what is left for the last two is halved."""
    while (left := end - start) > longest:
        stop = _break(text, start, start + min(longest, (left + 1) // 2))
        yield start, stop
        start = stop
    if left:
        yield start, end


def _break(text: str, start: int, target: int) -> int:
    """The end of a paragraph, line, sentence or word in the last third before the target."""
    earliest = target - (target - start) // 3
    for separator in SEPARATORS:
        if (found := text.rfind(separator, earliest, target)) > start:
            return found + len(separator)
    return target
