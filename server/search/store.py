"""The index of one vector store: a folder with a database and a matrix.

Vectors reach the disk before the database names them, so whenever the process or the machine dies,
both tell of the same: of a write that was whole, or of none. Any thread may call it: one at a time
writes, and readers have the view that the last write has left.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from server import failpoints
from server.files.blobs import StorageFull
from server.search.chunks import Chunk
from server.search.matrix import Matrix, Vectors, checksum
from server.search.passages import (
    FILE,
    ID,
    START,
    STOP,
    Broken,
    Entry,
    Passage,
    Passages,
    weights,
)
from server.search.ranking import Candidate
from server.search.view import Nearness, View
from server.search.windows import Grid, Span
from server.search.words import terms

log = logging.getLogger(__name__)

DATABASE: Final = "passages.db"
FEWEST_UNUSED: Final = 4096  # rows; fewer are no reason to copy the others
MOST_UNUSED: Final = 1 / 3  # of all rows


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A file whose chunks are there, but no vectors of them."""

    number: int
    id: str
    text: str
    chunks: Sequence[Span]


class StoreIndex:
    """One store's index. Raises Broken, StorageFull, OSError and sqlite3.Error wherever used."""

    def __init__(self, store_id: str, folder: Path, fingerprint: str, dimensions: int) -> None:
        """Open it, or make it if there is none.

        Rows of another embedder, and those that are not what was written, are forgotten: their
        files are `unembedded` then.
        """
        self.id = store_id
        self._folder = folder
        self._writing = threading.Lock()
        self._closed = False
        self.view: View  # what the last write has left
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._passages = Passages(folder / DATABASE)
        try:
            self._open_matrix(fingerprint, dimensions)
        except BaseException:
            self._passages.close()
            raise

    @property
    def bytes(self) -> int:
        """What it takes of the memory, the mapped file included."""
        return self.view.bytes

    def close(self) -> None:
        """Return when nobody writes or reads any more; whoever comes later is told Broken."""
        with self._writing:
            self._closed = True
            self._matrix.close()
            self._passages.close()

    def destroy(self) -> None:
        """Close it and remove its folder."""
        self.close()
        shutil.rmtree(self._folder)

    def put(
        self, file_id: str, text: str, chunks: Sequence[Chunk], grid: Grid, vectors: Vectors
    ) -> int:
        """Have these chunks of a file and nothing else; the bytes of their texts and vectors."""
        with self._write():
            rows = self._append(vectors)
            entries = [
                Entry(each.start, each.end, each.page, text[each.start : each.end], own)
                for each, own in zip(chunks, _moved(grid.of_chunks, rows.start), strict=True)
            ]
            file, layout = self._passages.put(file_id, entries, rows, checksum(vectors))
            self._rows = rows.stop
            self.view = self.view.with_file(file, layout, self._matrix.view(self._rows))
        return sum(len(entry.text.encode()) for entry in entries) + vectors.nbytes

    def remove(self, file_ids: Collection[str]) -> None:
        """Have nothing of these files; they may be unknown."""
        with self._write():
            if self.view.numbers(file_ids):
                self._passages.remove(file_ids)
                self.view = self.view.without(file_ids)

    def missing(self, file_ids: Iterable[str]) -> set[str]:
        """Those files that it has nothing of."""
        return {id for id in file_ids if id not in self.view.files}

    def chunks_of(self, file_id: str) -> list[str]:
        """The texts of a file's chunks, in order."""
        return [text for *_, text in self._passages.of_file(file_id)]

    def passages(self, chunks: Iterable[int]) -> dict[int, Passage]:
        """Those of the chunks that are still there, by id."""
        return self._passages.of_chunks(chunks)

    def matching(
        self, view: View, query: str, among: Collection[int] | None, most: int
    ) -> dict[int, float]:
        """How much chunks have of a query's words, 0..1, by id: those that have most of them."""
        words = terms(query)
        frequencies = {word: self._frequency(view, word) for word in words}
        weighed = weights(frequencies, view.layout.shape[1])
        return dict(self._passages.matching(weighed, most, among))

    def candidates(
        self, view: View, near: Nearness | None, matching: dict[int, float] | None, most: int
    ) -> list[Candidate]:
        """The chunks that are nearest, so many, and those that match; None was not looked at."""
        places = view.places(matching or ())
        if near is not None:
            places = np.union1d(places, near.best(most))
        return [self._candidate(view, near, matching, int(place)) for place in places]

    def unembedded(self) -> Unembedded | None:
        """A file that has no vectors yet, if there is one."""
        for file in self.view.unembedded:
            chunks = self._passages.of_file(file.id)
            spans = [(start, end) for start, end, _ in chunks]
            return Unembedded(file.number, file.id, _joined(chunks), spans)
        return None

    def embed(self, file: Unembedded, grid: Grid, vectors: Vectors) -> None:
        """Give a file its vectors, if it is still the same one."""
        with self._write():
            held = self.view.files.get(file.id)
            if held is None or held.number != file.number:
                return
            rows = self._append(vectors)
            placed = held._replace(first=rows.start, last=rows.stop, checksum=checksum(vectors))
            of_chunks = _moved(grid.of_chunks, rows.start)
            self._passages.place(placed, of_chunks)
            self._rows = rows.stop
            self.view = self.view.embedded(placed, of_chunks, self._matrix.view(self._rows))

    def _open_matrix(self, fingerprint: str, dimensions: int) -> None:
        state = self._passages.state()
        if (state.fingerprint, state.dimensions) != (fingerprint, dimensions):
            self._passages.begin_anew(state.generation + 1, fingerprint, dimensions)
            state = self._passages.state()
        self._generation, self._rows, self._dimensions = state.generation, state.rows, dimensions
        self._matrix = Matrix(self._path(state.generation), dimensions)
        try:
            for other in {*self._folder.glob("vectors.*")} - {self._matrix.path}:
                other.unlink()
            self._matrix.cut(self._rows)
            self._look()
            self._forget_spoilt()
        except BaseException:
            self._matrix.close()
            raise

    def _path(self, generation: int) -> Path:
        return self._folder / f"vectors.{generation}.f32"

    def _look(self) -> None:
        files = {file.id: file for file in self._passages.files()}
        self.view = View(self._passages.layout(), files, self._matrix.view(self._rows))

    def _forget_spoilt(self) -> None:
        """Forget rows that are not what was written; also if they are behind the file's end."""
        vectors = self.view.vectors
        spoilt = [
            file
            for file in self.view.files.values()
            if file.checksum not in (None, checksum(vectors[file.first : file.last]))
        ]
        if spoilt:
            log.warning("vectors_spoilt", extra={"store": self.id, "files": len(spoilt)})
            self._passages.forget_rows(file.number for file in spoilt)
            self._look()

    def _frequency(self, view: View, word: str) -> int:
        found = view.frequencies.get(word)
        if found is None:
            found = self._passages.frequency(word)
            view.remember(word, found)
        return found

    def _candidate(
        self, view: View, near: Nearness | None, matching: dict[int, float] | None, place: int
    ) -> Candidate:
        chunk, file, start, end = view.layout[[ID, FILE, START, STOP], place].tolist()
        return Candidate(
            store_id=self.id,
            chunk=chunk,
            file_id=view.ids[file],
            start=start,
            end=end,
            cosine=near.cosine(place) if near is not None else None,
            coverage=matching.get(chunk, 0.0) if matching is not None else None,
        )

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._writing:
            if self._closed:
                raise Broken(f"{self._folder} was closed")
            yield
            unused = self._rows - self.view.rows_in_use
            if unused >= max(FEWEST_UNUSED, MOST_UNUSED * self._rows):
                self._try_to_compact()

    def _append(self, vectors: Vectors) -> range:
        """Rows behind all that count. They do not count before the database says so."""
        self._matrix.append(self._rows, [vectors])
        return range(self._rows, self._rows + len(vectors))

    def _try_to_compact(self) -> None:
        """What was written before is kept, whether there is room for this or not."""
        try:
            self._compact()
        except (StorageFull, OSError) as error:
            log.warning("vectors_not_compacted", extra={"store": self.id, "reason": str(error)})

    def _compact(self) -> None:
        """Copy the rows that are in use into another matrix."""
        used = [file for file in self.view.files.values() if file.first < file.last]
        used.sort(key=lambda file: file.first)
        pieces = [self.view.vectors[file.first : file.last] for file in used]
        ends = np.cumsum([0, *map(len, pieces)]).tolist()
        matrix = Matrix(self._path(self._generation + 1), self._dimensions)
        try:
            matrix.append(0, pieces)
            moved = [(file, file.first - row) for file, row in zip(used, ends, strict=False)]
            self._passages.move(self._generation + 1, ends[-1], moved)
        except BaseException:
            matrix.close()
            matrix.path.unlink()
            raise
        failpoints.hit("index.compacted")
        former, self._matrix = self._matrix, matrix
        former.close()
        former.path.unlink()
        self._generation, self._rows = self._generation + 1, ends[-1]
        self._look()


def _moved(windows: Iterable[range], by: int) -> list[range]:
    return [range(own.start + by, own.stop + by) for own in windows]


def _joined(chunks: Iterable[tuple[int, int, str]]) -> str:
    """A file's text out of its chunks, which may overlap; blank where none was."""
    pieces, length = [], 0
    for start, end, text in chunks:
        pieces += [" " * (start - length), text[max(0, length - start) :]]
        length = max(length, end)
    return "".join(pieces)
