"""A store's index as it was after some write, and which of its chunks are nearest to queries.

Exact: each row that may count is compared. A view never changes, so any thread may read it, without
locks. Knows nothing of texts and of SQLite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from server.search.matrix import Vectors
from server.search.passages import FILE, FIRST, ID, LAST, Layout, Stored

BLOCK: Final = 2**11  # rows that all queries are compared with while they are in the cache
GAP: Final = 256  # rows nobody asked for; fewer are sooner compared than left out
MOST_REMEMBERED: Final = 1024  # words of queries
LONGEST_REMEMBERED: Final = 64  # characters
BYTES_OF_WORD: Final = 256  # that a remembered one takes, about

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]  # of chunks in the layout


@dataclass(frozen=True)
class View:
    """Chunks, files by id, and the matrix. `frequencies` remembers how many chunks a word has."""

    layout: Layout
    files: Mapping[str, Stored]
    vectors: Vectors
    frequencies: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What it takes of the memory, the mapped file included."""
        words = BYTES_OF_WORD * len(self.frequencies)
        return self.vectors.nbytes + 2 * self.layout.nbytes + words

    def remember(self, word: str, chunks: int) -> None:
        """How many chunks have a word, unless it is a long one; all are forgotten now and then."""
        if len(self.frequencies) >= MOST_REMEMBERED:
            self.frequencies.clear()
        if len(word) <= LONGEST_REMEMBERED:
            self.frequencies[word] = chunks

    @cached_property
    def ids(self) -> Mapping[int, str]:
        """The files' ids by their numbers."""
        return {file.number: file.id for file in self.files.values()}

    @cached_property
    def unembedded(self) -> Sequence[Stored]:
        """The files that have no vectors yet."""
        return [file for file in self.files.values() if file.checksum is None]

    @property
    def rows_in_use(self) -> int:
        return sum(file.last - file.first for file in self.files.values())

    def numbers(self, file_ids: Iterable[str]) -> list[int]:
        """The files that are there."""
        return [self.files[id].number for id in file_ids if id in self.files]

    def with_file(self, file: Stored, layout: Layout, vectors: Vectors) -> View:
        """One more file, or another in the place of what it was."""
        rest = self.without([file.id])
        joined = np.concatenate([rest.layout, layout], axis=1)
        return View(joined, {**rest.files, file.id: file}, vectors)

    def without(self, file_ids: Collection[str]) -> View:
        gone = self.numbers(file_ids)
        if not gone:
            return self
        kept = {id: file for id, file in self.files.items() if id not in file_ids}
        return View(self.layout[:, ~np.isin(self.layout[FILE], gone)], kept, self.vectors)

    def embedded(self, file: Stored, of_chunks: Sequence[range], vectors: Vectors) -> View:
        """The same, with the rows that a file and its chunks now have."""
        layout = self.layout.copy()
        columns = layout[FILE] == file.number
        layout[FIRST, columns] = [rows.start for rows in of_chunks]
        layout[LAST, columns] = [rows.stop for rows in of_chunks]
        return View(layout, {**self.files, file.id: file}, vectors, self.frequencies)

    def places(self, chunks: Iterable[int]) -> Places:
        """Where chunks are in the layout, by their ids; those that are not there are left out."""
        known, ids = self.layout[ID], np.array([*chunks], np.int64)
        places: Places = np.searchsorted(known, ids)
        found: Places = places[np.append(known, -1)[places] == ids]
        return found

    def nearest(self, queries: Vectors, among: Collection[int] | None) -> list[Nearness]:
        """For each query, how near each chunk is. `among` are files' numbers.

        vecdot stays in this thread and is bound by the memory; a product of matrices is given to
        BLAS's threads, which wait for each other on a busy machine, and here is slower on an
        idle one, too.
        """
        rows = len(self.vectors)
        scores = np.full((len(queries), rows + 1), -np.inf, np.float32)
        for first, last in self._blocks(among):
            block = self.vectors[first:last]
            for query, found in zip(queries, scores[:, first:last], strict=True):
                np.vecdot(block, query, out=found)
        return [Nearness(self._of_chunks(each, among)) for each in scores]

    def _of_chunks(self, scores: Scores, among: Collection[int] | None) -> Scores:
        """Of each chunk's windows the nearest one's score; -inf where it has none."""
        if not self.layout.shape[1]:
            return np.empty(0, np.float32)
        best = np.maximum.reduceat(scores, self._bounds)[::2]
        best[self.layout[FIRST] >= self.layout[LAST]] = -np.inf
        if among is not None:
            best[~np.isin(self.layout[FILE], [*among])] = -np.inf
        return best

    @cached_property
    def _bounds(self) -> Places:
        """First and last row of each chunk in turn; what numpy finds between two is not used."""
        return self.layout[[FIRST, LAST]].T.reshape(-1)

    def _blocks(self, among: Collection[int] | None) -> Iterable[tuple[int, int]]:
        """Rows of these files, in pieces of a bounded size."""
        wanted = None if among is None else set(among)
        ranges = sorted(
            (file.first, file.last)
            for file in self.files.values()
            if file.first < file.last and (wanted is None or file.number in wanted)
        )
        for first, last in _joined(ranges):
            for start in range(first, last, BLOCK):
                yield start, min(start + BLOCK, last)


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near chunks are to one query: the cosine of each one's nearest window."""

    of_chunks: Scores

    def cosine(self, place: int) -> float | None:
        """None of a chunk without vectors."""
        found = float(self.of_chunks[place])
        return found if np.isfinite(found) else None

    def best(self, most: int) -> Places:
        """The nearest chunks, the nearest first."""
        scores = self.of_chunks
        if len(scores) > most:
            places = np.argpartition(-scores, most)[:most]
        else:
            places = np.arange(len(scores))
        places = places[np.isfinite(scores[places])]
        return places[np.lexsort((places, -scores[places]))]


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Sorted ranges, as one where little is between them."""
    held: tuple[int, int] | None = None
    for first, last in ranges:
        if held is not None and first - held[1] <= GAP:
            held = held[0], last
            continue
        if held is not None:
            yield held
        held = first, last
    if held is not None:
        yield held
