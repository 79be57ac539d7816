"""How often what answers a question is found: by words, by vectors, and by both.

recall@5 is the share of questions whose answer stands, whole, in one of the first five hits. MRR is
the mean of 1 / rank of the first such hit, 0 beyond ten. "Told apart" says how good scores are: how
often the first hit of a question scores higher than that of one that nothing answers.

The n-grams serve where there is no embedding model; with `--model` there is one, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.passages import Corpus, Question, documents, products
from benchmarks.report import row
from server.config import SearchSettings
from server.engine.client import WorkerEngine
from server.engine.protocol import EngineUnavailable
from server.engine.vectors import Vector
from server.search.chunks import Chunk, split
from server.search.embedder import Embedder, NgramEmbedder
from server.search.extraction import Document
from server.search.index import Hit, Indexes, Ranker
from server.search.prefixes import prefixes_of
from server.search.tokens import estimated_ends

FIRST = 5
DEEPEST = 10
SIZES = ((800, 400), (100, 50))  # tokens of a chunk, of an overlap: the default, the least
SEED = 20_251_126


class FileEmbedder:
    """A model out of a file."""

    def __init__(self, engine: WorkerEngine, name: str) -> None:
        self._engine = engine
        self._prefixes = prefixes_of(name)
        self.fingerprint = engine.info.fingerprint
        self.dimensions = engine.info.embedding
        self.window = engine.info.context

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        prefix = self._prefixes.query if query else self._prefixes.passage
        found = await self._engine.embed([prefix + text for text in texts], cut=True)
        return found.vectors


class NoQueries:
    """An embedder that fails to embed what is asked, so that words alone are looked at."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.fingerprint = embedder.fingerprint
        self.dimensions = embedder.dimensions
        self.window = embedder.window

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        if query:
            raise EngineUnavailable("words alone")
        return await self._embedder.embed(texts, query=query, project=project)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one way to search a corpus that is chunked in one way; shares and ranks of questions."""

    corpus: str
    chunk: int
    overlap: int
    by: str
    recall: float
    mrr: float
    told_apart: float
    megabytes_a_second: float  # that were put in, with their vectors


@dataclass(frozen=True, slots=True)
class Store:
    """A corpus in an index, and how to search it."""

    indexes: Indexes
    ranker: Ranker

    async def hits(self, question: str) -> list[Hit]:
        return await self.indexes.search(["vs"], [question], limit=DEEPEST, ranker=self.ranker)


@contextlib.asynccontextmanager
async def opened(folder: Path, embedder: Embedder) -> AsyncIterator[Indexes]:
    indexes = Indexes(folder, embedder, SearchSettings())
    try:
        yield indexes
    finally:
        await indexes.close()


async def measured(
    corpus: Corpus, embedder: Embedder, name: str, size: int, overlap: int
) -> list[Result]:
    """By words, by vectors, by both."""
    results = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        async with opened(folder, embedder) as indexes:
            started = time.perf_counter()
            for file, text in corpus.files.items():
                await indexes.put("vs", file, text, _chunks(text, size, overlap))
            speed = corpus.bytes / 1e6 / (time.perf_counter() - started)
        ways: dict[str, tuple[Embedder, Ranker]] = {
            "words": (NoQueries(embedder), "auto"),
            name: (embedder, "none"),
            f"words and {name}": (embedder, "auto"),
        }
        for by, (used, ranker) in ways.items():
            async with opened(folder, used) as indexes:
                store = Store(indexes, ranker)
                scores = await _judged(store, corpus)
                results.append(Result(corpus.name, size, overlap, by, *scores, speed))
    return results


async def _judged(store: Store, corpus: Corpus) -> tuple[float, float, float]:
    """Recall, MRR, and how well scores tell answers apart."""
    found = [await store.hits(question.text) for question in corpus.questions]
    ranks = [_rank(question, hits) for question, hits in zip(corpus.questions, found, strict=True)]
    others = [await store.hits(question) for question in corpus.unanswered]
    return (
        sum(0 < rank <= FIRST for rank in ranks) / len(ranks),
        sum(1 / rank for rank in ranks if rank) / len(ranks),
        _told_apart([_top(hits) for hits in found], [_top(hits) for hits in others]),
    )


def _rank(question: Question, hits: Sequence[Hit]) -> int:
    """Of the first hit that has the answer, from 1; 0 if none has."""
    for rank, hit in enumerate(hits, 1):
        if hit.file_id == question.file and hit.start <= question.start and question.end <= hit.end:
            return rank
    return 0


def _told_apart(scores: Sequence[float], others: Sequence[float]) -> float:
    """The share of pairs in which the first is greater; equal ones are half."""
    greater = sum((score > other) + (score == other) / 2 for score in scores for other in others)
    return greater / (len(scores) * len(others))


def _top(hits: Sequence[Hit]) -> float:
    return hits[0].score if hits else 0.0


def _chunks(text: str, size: int, overlap: int) -> list[Chunk]:
    return split(Document(text, ()), estimated_ends(text), size, overlap)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, action="append", default=[], help="an embedding GGUF")
    parser.add_argument("--questions", type=int, default=400, help="of each corpus")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    corpora = [documents(SEED, given.questions), products(SEED, given.questions)]
    print(row("corpus", "tokens, overlap", "by", f"recall@{FIRST}", "MRR", "told apart", "MB/s in"))
    print(row(*["---"] * 7))
    results = []
    async with contextlib.AsyncExitStack() as stack:
        embedders: dict[str, Embedder] = {"n-grams": NgramEmbedder()}
        for path in given.model:
            embedders[path.stem] = await _loaded(stack, path)
        for corpus in corpora:
            for size, overlap in SIZES:
                for name, embedder in embedders.items():
                    for one in await measured(corpus, embedder, name, size, overlap):
                        results.append(asdict(one))
                        _print(one)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


async def _loaded(stack: contextlib.AsyncExitStack, path: Path) -> FileEmbedder:
    engine = WorkerEngine(path, name=path.stem)
    await engine.start()
    stack.push_async_callback(engine.stop)
    return FileEmbedder(engine, path.stem)


def _print(one: Result) -> None:
    figures = (f"{share:.3f}" for share in (one.recall, one.mrr, one.told_apart))
    chunks = f"{one.chunk}, {one.overlap}"
    print(row(one.corpus, chunks, one.by, *figures, f"{one.megabytes_a_second:.2f}"), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
