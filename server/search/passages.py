"""A store's index in SQLite: its files, their chunks with their texts, and the words of these.

Also which rows of the matrix are whose; a row that nothing here names is nobody's. All SQL of the
index is here. One connection writes, for whoever holds the index's lock; another one reads, for one
thread at a time. Neither waits for the other.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from server import failpoints
from server.files.blobs import StorageFull
from server.search.words import FOLDING, TOKENIZER, folded, is_common

APPLICATION: Final = 0x41535849  # what SQLite's header says of whose the file is
FORMAT: Final = 1
BUSY_TIMEOUT: Final = 10.0
LARGEST_JOURNAL: Final = 16 * 2**20  # bytes of it that stay on the disk after a large file was put
MOST_MATCHES: Final = 5_000  # passages that a query's words may be weighed in
IMAGINED: Final = 10  # chunks that are counted with a store's own
COMMON_HAVE, OTHERS_HAVE = 9, 1  # of those, with one of the commonest words, with any other

SCHEMA: Final = f"""
CREATE TABLE state (
    generation INTEGER NOT NULL, rows INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, folding TEXT NOT NULL
);
CREATE TABLE file (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    first INTEGER NOT NULL, last INTEGER NOT NULL, checksum INTEGER
);
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL, page INTEGER,
    first INTEGER NOT NULL, last INTEGER NOT NULL
);
CREATE INDEX chunk_of_file ON chunk (file);
CREATE TABLE passage (chunk INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE VIRTUAL TABLE word USING fts5(words, content='', tokenize="{TOKENIZER}");
INSERT INTO state VALUES (0, 0, '', 0, '{FOLDING}');
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""

Layout = npt.NDArray[np.int64]  # a column for each chunk, in the order of ids; its rows are:
ID, FILE, START, STOP, FIRST, LAST = range(6)


class Broken(Exception):
    """The index cannot be read, or is none of ours: it has to be made anew."""


class State(NamedTuple):
    """Which matrix belongs to it, how many of its rows may count, and who made them."""

    generation: int
    rows: int
    fingerprint: str
    dimensions: int


class Stored(NamedTuple):
    """A file and its rows of the matrix; without a checksum it has none yet."""

    number: int
    id: str
    first: int
    last: int
    checksum: int | None


class Passage(NamedTuple):
    """A chunk's text, where it stands among the file's chunks, and its page."""

    ordinal: int
    page: int | None
    text: str


class Match(NamedTuple):
    """A chunk that has words of a query; `coverage` is 1 if it has all of them, 0..1."""

    chunk: int
    coverage: float


class Weight(NamedTuple):
    """How much a word of a query tells: by us, and by FTS5, whose score is divided by that.

    FTS5's inverse document frequency is nothing for a word that half of the chunks have: in a
    store of two chunks no word would tell anything but one that none of them has. Ours is Lucene's,
    log(1 + (chunks without it + 1/2) / (chunks with it + 1/2)), with some imagined chunks counted,
    too. They are what is known of words in any text, which matters while a store has few.
    """

    own: float
    given: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk to be kept: `rows` are those of its windows in the matrix."""

    start: int
    end: int
    page: int | None
    text: str
    rows: range


class Passages:
    """The database. Raises Broken, StorageFull and sqlite3.Error wherever it is used."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it if there is none."""
        self._path = path
        self._reading = threading.Lock()
        self._closed = False
        self._connections: list[sqlite3.Connection] = []
        try:
            with _told():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                self._writer = self._connected()
                self._prepare()
                self._reader = self._connected()
                self._reader.execute("PRAGMA query_only = ON")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Nobody may be writing; whoever reads later is told that it is Broken."""
        with self._reading:
            self._closed = True
            for connection in self._connections:
                connection.close()

    # Reading

    def state(self) -> State:
        with self._read() as db:
            query = "SELECT generation, rows, fingerprint, dimensions FROM state"
            return State(*db.execute(query).fetchone())

    def files(self) -> list[Stored]:
        with self._read() as db:
            query = "SELECT number, id, first, last, checksum FROM file ORDER BY number"
            return [Stored(*row) for row in db.execute(query)]

    def layout(self) -> Layout:
        """All chunks but their texts."""
        with self._read() as db:
            query = "SELECT id, file, start, stop, first, last FROM chunk ORDER BY id"
            return _layout(db.execute(query).fetchall())

    def of_chunks(self, chunks: Iterable[int]) -> dict[int, Passage]:
        """Those of the chunks that are still there, by id."""
        with self._read() as db:
            query = """
                SELECT id, id - (SELECT min(id) FROM chunk AS other WHERE other.file = chunk.file),
                    page, text
                FROM chunk JOIN passage ON passage.chunk = id
                WHERE id IN (SELECT value FROM json_each(?))
            """
            rows = db.execute(query, (json.dumps([*chunks]),)).fetchall()
        return {id: Passage(*passage) for id, *passage in rows}

    def of_file(self, file_id: str) -> list[tuple[int, int, str]]:
        """Start, end and text of a file's chunks, in their order; none of one that is unknown."""
        with self._read() as db:
            query = """
                SELECT start, stop, text FROM chunk JOIN passage ON passage.chunk = id
                WHERE file = (SELECT number FROM file WHERE id = ?) ORDER BY chunk.id
            """
            return db.execute(query, (file_id,)).fetchall()

    def frequency(self, term: str) -> int:
        """Chunks that have a word, counted to one more than MOST_MATCHES."""
        with self._read() as db:
            query = "SELECT count(*) FROM (SELECT 1 FROM word WHERE word MATCH ? LIMIT ?)"
            return int(db.execute(query, (term, MOST_MATCHES + 1)).fetchone()[0])

    def matching(
        self, weights: dict[str, Weight], most: int, among: Collection[int] | None
    ) -> list[Match]:
        """The chunks that have most of a query's words, by BM25, best first.

        A chunk of average length that has each of the words once covers the query, and so does one
        with more. `among` are files' numbers.
        """
        of_files = (
            "AND +rowid IN (SELECT id FROM chunk WHERE file IN (SELECT value FROM json_each(?)))"
        )
        query = f"""
            SELECT rowid, bm25(word) FROM word
            WHERE word MATCH ? {of_files if among is not None else ""}
        """
        given = [json.dumps([*among])] if among is not None else []
        whole = sum(weight.own for weight in weights.values())
        found: defaultdict[int, float] = defaultdict(float)
        with self._read() as db:
            for term, weight in weights.items():
                share = -weight.own / weight.given / whole
                for chunk, score in db.execute(query, [term, *given]):
                    found[chunk] += score * share
        best = heapq.nlargest(most, found.items(), key=lambda item: (item[1], -item[0]))
        return [Match(chunk, min(1.0, coverage)) for chunk, coverage in best]

    # Writing

    def begin_anew(self, generation: int, fingerprint: str, dimensions: int) -> None:
        """Another matrix, by another embedder: no file has rows any more."""
        with self._write() as db:
            db.execute("UPDATE file SET first = 0, last = 0, checksum = NULL")
            db.execute("UPDATE chunk SET first = 0, last = 0")
            db.execute(
                "UPDATE state SET generation = ?, rows = 0, fingerprint = ?, dimensions = ?",
                (generation, fingerprint, dimensions),
            )

    def forget_rows(self, numbers: Iterable[int]) -> None:
        """These files have no rows any more."""
        with self._write() as db:
            given = [(number,) for number in numbers]
            db.executemany(
                "UPDATE file SET checksum = NULL, first = 0, last = 0 WHERE number = ?", given
            )
            db.executemany("UPDATE chunk SET first = 0, last = 0 WHERE file = ?", given)

    def put(
        self, file_id: str, entries: Sequence[Entry], rows: range, checksum: int
    ) -> tuple[Stored, Layout]:
        """Have this and nothing else of a file, whose rows are the matrix's last."""
        with self._write() as db:
            _remove(db, [file_id])
            query = "INSERT INTO file (id, first, last, checksum) VALUES (?, ?, ?, ?)"
            number = db.execute(query, (file_id, rows.start, rows.stop, checksum)).lastrowid
            assert number is not None, "it was inserted"
            layout = _insert(db, number, entries)
            db.execute("UPDATE state SET rows = ?", (rows.stop,))
        return Stored(number, file_id, rows.start, rows.stop, checksum), layout

    def place(self, file: Stored, of_chunks: Sequence[range]) -> None:
        """Give a file's rows, the matrix's last, to it and to its chunks in their order."""
        with self._write() as db:
            db.execute(
                "UPDATE file SET first = ?, last = ?, checksum = ? WHERE number = ?",
                (file.first, file.last, file.checksum, file.number),
            )
            chunks = db.execute(
                "SELECT id FROM chunk WHERE file = ? ORDER BY id", (file.number,)
            ).fetchall()
            db.executemany(
                "UPDATE chunk SET first = ?, last = ? WHERE id = ?",
                [
                    (rows.start, rows.stop, id)
                    for rows, (id,) in zip(of_chunks, chunks, strict=True)
                ],
            )
            db.execute("UPDATE state SET rows = ?", (file.last,))

    def remove(self, file_ids: Iterable[str]) -> None:
        with self._write() as db:
            _remove(db, file_ids)

    def move(self, generation: int, rows: int, moved: Iterable[tuple[Stored, int]]) -> None:
        """Another matrix, in which each of these files has its rows so many places before."""
        with self._write() as db:
            for file, by in moved:
                for table, column in (("file", "number"), ("chunk", "file")):
                    query = (
                        f"UPDATE {table} SET first = first - ?, last = last - ? WHERE {column} = ?"
                    )
                    db.execute(query, (by, by, file.number))
            db.execute("UPDATE state SET generation = ?, rows = ?", (generation, rows))

    def _prepare(self) -> None:
        """Raises Broken if it is a database, but none of ours."""
        db = self._writer
        if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        owner = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        ]
        if owner != [APPLICATION, FORMAT]:
            raise Broken(f"{self._path} is in no format that is known here")
        if db.execute("SELECT folding FROM state").fetchone()[0] != FOLDING:
            self._fold_anew()

    def _fold_anew(self) -> None:
        """Index the words as they are folded now: what was folded otherwise cannot be taken out."""
        with self._write() as db:
            db.execute("INSERT INTO word (word) VALUES ('delete-all')")
            texts = db.execute("SELECT chunk, text FROM passage")
            db.executemany("INSERT INTO word (rowid, words) VALUES (?, ?)", _folded(texts))
            db.execute("UPDATE state SET folding = ?", (FOLDING,))

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_JOURNAL}")
        return connection

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, _told():
            if self._closed:
                raise Broken(f"{self._path} was closed")
            yield self._reader

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk afterwards, or nothing."""
        db = self._writer
        with _told():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                failpoints.hit("index.commit.before")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        failpoints.hit("index.commit.after")


def weights(frequencies: dict[str, int], chunks: int) -> dict[str, Weight]:
    """The rarest words and how much each tells; not all, if they are frequent.

    What they match together is bounded: a word that most of a large store has costs much and
    tells little.
    """
    found, matches = {}, 0
    for term, frequency in sorted(frequencies.items(), key=lambda item: item[1]):
        matches += frequency
        if matches > MOST_MATCHES:
            break
        others = max(0, chunks - frequency)  # a write may have come between the two counts
        given = max(1e-6, math.log((others + 0.5) / (frequency + 0.5)))
        having = COMMON_HAVE if is_common(term) else OTHERS_HAVE
        others, frequency = others + IMAGINED - having, frequency + having
        own = math.log1p((others + 0.5) / (frequency + 0.5))
        found[term] = Weight(own, given)
    return found


def _insert(db: sqlite3.Connection, file: int, entries: Sequence[Entry]) -> Layout:
    """Chunks with ids that never were another's, so that an old view cannot mistake them."""
    newest = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'").fetchone() or (0,)
    ids = range(newest[0] + 1, newest[0] + 1 + len(entries))
    rows = [
        (id, file, entry.start, entry.end, entry.rows.start, entry.rows.stop)
        for id, entry in zip(ids, entries, strict=True)
    ]
    db.executemany(
        "INSERT INTO chunk (id, file, start, stop, first, last, page) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*row, entry.page) for row, entry in zip(rows, entries, strict=True)],
    )
    texts = [(id, entry.text) for id, entry in zip(ids, entries, strict=True)]
    db.executemany("INSERT INTO passage VALUES (?, ?)", texts)
    db.executemany("INSERT INTO word (rowid, words) VALUES (?, ?)", _folded(texts))
    return _layout(rows)


def _remove(db: sqlite3.Connection, file_ids: Iterable[str]) -> None:
    for file_id in file_ids:
        row = db.execute("SELECT number FROM file WHERE id = ?", (file_id,)).fetchone()
        if row is None:
            continue
        texts = db.execute(
            "SELECT chunk, text FROM passage WHERE chunk IN (SELECT id FROM chunk WHERE file = ?)",
            row,
        ).fetchall()
        gone = "INSERT INTO word (word, rowid, words) VALUES ('delete', ?, ?)"
        db.executemany(gone, _folded(texts))
        db.executemany("DELETE FROM passage WHERE chunk = ?", [(id,) for id, _ in texts])
        db.execute("DELETE FROM chunk WHERE file = ?", row)
        db.execute("DELETE FROM file WHERE number = ?", row)


def _folded(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((id, folded(text)) for id, text in texts)


def _layout(rows: Sequence[tuple[int, ...]]) -> Layout:
    return np.ascontiguousarray(np.array(rows, np.int64).reshape(-1, 6).T)


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's words for what is broken or full, as errors of ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                raise Broken(str(error)) from error
            case sqlite3.SQLITE_FULL:
                raise StorageFull(str(error)) from error
        raise
