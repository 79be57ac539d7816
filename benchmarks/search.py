"""The index of a vector store: how fast it takes files, how soon it answers, what it takes.

Vectors are random, so it is the index that is measured, and no embedder; texts are random words as
frequent as words are. Every answer by vectors is compared with that of the plainest computation:
recall is 1 or the benchmark fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from benchmarks.intervals import percentile
from benchmarks.report import row
from server.config import SearchSettings
from server.engine.vectors import Vector
from server.search.chunks import Chunk
from server.search.index import Indexes

MIB = 2**20
DIMENSIONS = 384
CHUNKS_A_FILE = 100
WORDS_A_CHUNK = 130  # about 200 tokens: one window
VOCABULARY = 50_000
WORDS_A_QUERY = 8
WARM_UP = 20
ALLOWED = 0.1  # of the files, where they are filtered
BEST = 10


class RandomEmbedder:
    """Has a new vector for every text and remembers those of passages."""

    fingerprint = "random"
    dimensions = DIMENSIONS
    window = 0

    def __init__(self) -> None:
        self.passages: list[Vector] = []
        self.query = np.zeros(DIMENSIONS, np.float32)
        self._random = np.random.default_rng(1)

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        vectors = self._random.standard_normal((len(texts), DIMENSIONS), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if query:
            self.query = vectors[-1]
        else:
            self.passages.extend(vectors)
        return list(vectors)


class Writer:
    """Makes texts of words as frequent as Zipf found them to be."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._words = [
            f"{'bcdfgklmnprstvz'[n % 15]}{'aeiou'[n % 5]}{n:x}" for n in range(VOCABULARY)
        ]
        self._weights = [*accumulate(1 / (n + 2) for n in range(VOCABULARY))]

    def words(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def file(self) -> tuple[str, list[Chunk]]:
        """A text and its chunks, each of which is one window."""
        text, chunks = "", []
        for _ in range(CHUNKS_A_FILE):
            start = len(text)
            text += " ".join(self.words(WORDS_A_CHUNK)) + ".\n"
            chunks.append(Chunk(start, len(text), 200, None))
        return text, chunks


@dataclass(frozen=True, slots=True)
class Result:
    """Of one size. Times in milliseconds, memory in MiB, `kept` is what a query can take of it."""

    chunks: int
    megabytes_a_second: float
    chunks_a_second: float
    hybrid_p50: float
    hybrid_p95: float
    vectors_p50: float
    vectors_p95: float
    filtered_p50: float
    filtered_p95: float
    first: float
    own_memory: float
    mapped_memory: float
    disk: float


async def measured(folder: Path, size: int, queries: int) -> Result:
    writer, embedder = Writer(), RandomEmbedder()
    indexes = Indexes(folder, embedder, SearchSettings())
    files = [writer.file() for _ in range(max(1, size // CHUNKS_A_FILE))]
    started = time.perf_counter()
    for number, (text, chunks) in enumerate(files):
        await indexes.put("vs", f"file-{number}", text, chunks)
    took = time.perf_counter() - started
    await indexes.close()

    names = [f"file-{number}" for number in range(len(files))]
    some = frozenset(names[:: int(1 / ALLOWED)])
    before = _memory()
    indexes = Indexes(folder, embedder, SearchSettings())
    try:
        first = await _times(indexes, writer, 1)
        await _times(indexes, writer, WARM_UP)
        hybrid = await _times(indexes, writer, queries)
        after = _memory()
        filtered = await _times(indexes, writer, queries, allowed=some)
        vectors = await _times(indexes, writer, queries, ranker="none")
        await _compare(indexes, embedder, len(files) * CHUNKS_A_FILE, queries)
    finally:
        await indexes.close()
    written = sum(len(text.encode()) for text, _ in files)
    return Result(
        chunks=len(files) * CHUNKS_A_FILE,
        megabytes_a_second=written / 1e6 / took,
        chunks_a_second=len(files) * CHUNKS_A_FILE / took,
        hybrid_p50=percentile(hybrid, 0.5),
        hybrid_p95=percentile(hybrid, 0.95),
        vectors_p50=percentile(vectors, 0.5),
        vectors_p95=percentile(vectors, 0.95),
        filtered_p50=percentile(filtered, 0.5),
        filtered_p95=percentile(filtered, 0.95),
        first=first[0],
        own_memory=after["RssAnon"] - before["RssAnon"],
        mapped_memory=after["RssFile"] - before["RssFile"],
        disk=_size(folder),
    )


async def _times(indexes: Indexes, writer: Writer, count: int, **more: object) -> list[float]:
    """Of so many queries, one after the other."""
    times = []
    for _ in range(count):
        query = " ".join(writer.words(WORDS_A_QUERY))
        started = time.perf_counter()
        await indexes.search(["vs"], [query], limit=BEST, **more)  # type: ignore[arg-type]
        times.append((time.perf_counter() - started) * 1000)
    return times


async def _compare(indexes: Indexes, embedder: RandomEmbedder, size: int, queries: int) -> None:
    """What is found by vectors is what is nearest."""
    passages = np.stack(embedder.passages[:size]).astype(np.float64)
    for _ in range(queries):
        hits = await indexes.search(["vs"], ["x"], limit=BEST, ranker="none")
        found = [
            int(hit.file_id.removeprefix("file-")) * CHUNKS_A_FILE + hit.ordinal for hit in hits
        ]
        nearest = np.argsort(-(passages @ embedder.query.astype(np.float64)))[:BEST]
        if found != nearest.tolist():
            raise SystemExit(f"found {found}, but nearest are {nearest.tolist()}")


def _size(folder: Path) -> float:
    """MiB of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def _memory() -> dict[str, float]:
    """MiB of this process that are its own, and that are files'."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {name: int(kilobytes) / 1024 for name, kilobytes in sizes.items()}


HEADINGS = {
    "chunks": ("chunks", ",.0f"),
    "megabytes_a_second": ("MB/s in", ".1f"),
    "chunks_a_second": ("chunks/s in", ",.0f"),
    "hybrid_p50": ("ms, p50", ".1f"),
    "hybrid_p95": ("p95", ".1f"),
    "filtered_p50": ("in a tenth of the files", ".1f"),
    "filtered_p95": ("p95", ".1f"),
    "vectors_p50": ("vectors alone", ".1f"),
    "vectors_p95": ("p95", ".1f"),
    "first": ("first", ".0f"),
    "own_memory": ("MiB", ".0f"),
    "mapped_memory": ("MiB mapped", ".0f"),
    "disk": ("MiB on disk", ".0f"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the indexes are made")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print(f"{DIMENSIONS} dimensions, {os.cpu_count()} cores")
    print(row(*(heading for heading, _ in HEADINGS.values())))
    print(row(*("---" for _ in HEADINGS)))
    results = []
    for size in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            result = asyncio.run(measured(Path(folder), size, given.queries))
        results.append(asdict(result))
        print(row(*(format(results[-1][key], form) for key, (_, form) in HEADINGS.items())))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
