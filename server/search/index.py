"""The indexes of all vector stores: opened when they are used, kept current, bounded in memory.

Each store has a folder of its own, which can be made again from its files. What waits for a disk or
a processor does so in threads; the rest is owned by one event loop. An index that cannot be read is
begun anew, empty, and `lost` is told: what was in it is to be put again. Where another embedder
made the vectors, they are made again from the texts, while words are found as before.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import sqlite3
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np

from server.config import SearchSettings
from server.engine.protocol import EngineError
from server.files.blobs import StorageFull
from server.search.chunks import Chunk
from server.search.embedder import Embedder
from server.search.matrix import Vectors
from server.search.passages import Broken, Passage
from server.search.ranking import DEPTH, Candidate, Ranked, ranked
from server.search.reranker import Reranker
from server.search.store import StoreIndex
from server.search.unrelated import cosine_of_unrelated
from server.search.view import Nearness, View
from server.search.windows import Grid, Span, cut

log = logging.getLogger(__name__)

T = TypeVar("T")
Ranker = Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"]

READERS: Final = 4  # threads
WRITERS: Final = 2
TEXTS_AT_ONCE: Final = 64  # that the embedder is given
MOST_OPEN: Final = 64  # indexes, each of which has some files open
EMBEDDED_AGAIN: Final = 2  # files at once, in all stores together
STORE_ID: Final = re.compile(r"[A-Za-z0-9_-]+")  # what may name a folder
FAULTS: Final = (StorageFull, OSError, sqlite3.Error)  # of the disk


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found: `ordinal` is its place among the file's, `score` is 0..1.

    It is `text`, which the file's text has from character `start` to `end`; pages count from 1.
    """

    store_id: str
    file_id: str
    ordinal: int
    text: str
    start: int
    end: int
    page: int | None
    score: float


@dataclass(slots=True)
class _Open:
    """An index that is open or being opened, and how many use it."""

    opening: asyncio.Task[StoreIndex]
    users: int = 0

    @property
    def failed(self) -> bool:
        return self.opening.done() and self.opening.exception() is not None

    @property
    def index(self) -> StoreIndex | None:
        """None until it is open."""
        return self.opening.result() if self.opening.done() and not self.failed else None

    @property
    def bytes(self) -> int:
        return self.index.bytes if self.index is not None else 0


class Indexes:
    """All of them. Raises FAULTS where the disk fails."""

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        settings: SearchSettings,
        lost: Callable[[str], None] = lambda store_id: None,
        reranker: Reranker | None = None,
    ) -> None:
        """`lost` is called on the loop, with the id of a store of which nothing could be read."""
        self._folder = folder
        self._embedder = embedder
        self._settings = settings
        self._lost = lost
        self._reranker = reranker
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="search")
        self._writing = ThreadPoolExecutor(WRITERS, thread_name_prefix="index")
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._embedding: dict[str, asyncio.Task[None]] = {}
        self._embedded_again = asyncio.Semaphore(EMBEDDED_AGAIN)
        self._unrelated: float | None = None

    async def close(self) -> None:
        """Return when nothing touches the disk any more."""
        for task in self._embedding.values():
            task.cancel()
        await asyncio.gather(*self._embedding.values(), return_exceptions=True)
        for store_id in [*self._open]:
            self._close(store_id, StoreIndex.close)
        await asyncio.gather(*self._closing.values())
        self._reading.shutdown()
        self._writing.shutdown()

    async def keep_only(self, store_ids: Set[str]) -> None:
        """Remove the indexes of other stores, such as a crash has left. Nobody may use them."""
        await self._run(_remove_others, self._folder, store_ids)

    async def put(
        self,
        store_id: str,
        file_id: str,
        document_text: str,
        chunks: Sequence[Chunk],
        *,
        project: str = "",
    ) -> int:
        """Have these chunks of a file, instead of what there was; the bytes they take.

        When it returns they are on the disk and are found; if it does not, they are there whole or
        not at all, and it can be done again. `project` is whose turn it takes with the model, as in
        `search`. Also raises EngineError.
        """
        spans = [(chunk.start, chunk.end) for chunk in chunks]
        grid, vectors = await self._windows(document_text, spans, project)
        return await self._write(
            store_id, lambda index: index.put(file_id, document_text, chunks, grid, vectors)
        )

    async def remove(self, store_id: str, file_ids: Collection[str]) -> None:
        """Have nothing of these files; they, and the store, may be unknown."""
        await self._change(store_id, lambda index: index.remove(file_ids))

    async def drop(self, store_id: str) -> None:
        """Have nothing of a store; it may be unknown."""
        if store_id in self._open:
            self._close(store_id, StoreIndex.destroy)
        while store_id in self._closing:
            await self._closed(store_id)
        if store_id not in self._open:  # or else somebody has begun it anew meanwhile
            self._clear(store_id)
            await self._closed(store_id)

    async def missing(self, store_id: str, file_ids: Collection[str]) -> set[str]:
        """Those files that are to be put again, since the index has nothing of them."""
        return await self._read(store_id, lambda index: index.missing(file_ids), {*file_ids})

    async def chunks_of(self, store_id: str, file_id: str) -> list[str]:
        """The texts of a file's chunks in their order, none of a file that is unknown."""
        return await self._read(store_id, lambda index: index.chunks_of(file_id), [])

    async def search(
        self,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        limit: int,
        allowed: Set[str] | None = None,
        ranker: Ranker = "auto",
        score_threshold: float = 0.0,
        project: str = "",
    ) -> list[Hit]:
        """What is found for any of the queries in any of the stores, best first; each chunk once.

        Of files that are not `allowed` nothing is looked at. How the order and the scores (0..1)
        come about is told in `ranking`; with the ranker `none` it is by vectors alone, which
        takes less time. Otherwise the reranker, if there is one, has the last word on the best.
        Hits with less than the threshold are left out.
        """
        asked = [*dict.fromkeys(query for query in queries if query.strip())]
        if not asked or (allowed is not None and not allowed):
            return []
        unrelated, vectors = await self._asked(asked, project)
        query = _Query(asked, vectors, allowed, by_words=ranker != "none" or vectors is None)
        stores = dict.fromkeys(store_ids)
        found = await asyncio.gather(*(self._find(store_id, query) for store_id in stores))
        of_queries = ([*chain(*of_stores)] for of_stores in zip(*found, strict=True))
        best = await self._run(ranked, of_queries, unrelated)
        if self._reranker is not None and ranker != "none":
            depth = max(limit, self._reranker.depth(len(asked)))
            texts = await self._with_texts(best[:depth])
            hits = await self._reranked(self._reranker, asked, texts, project)
            return [hit for hit in hits if hit.score >= score_threshold][:limit]
        best = [hit for hit in best if hit.score >= score_threshold]
        return await self._with_texts(best[:limit])

    async def _reranked(
        self, reranker: Reranker, queries: Sequence[str], hits: Sequence[Hit], project: str
    ) -> Sequence[Hit]:
        """The first of the hits in another order with other scores; no later one has more."""
        depth = reranker.depth(len(queries))
        first, rest = hits[:depth], hits[depth:]
        if not first:
            return hits
        try:
            scores = await reranker.scores(queries, [hit.text for hit in first], project)
        except EngineError as error:
            log.warning("searched_without_reranker", extra={"reason": str(error)})
            return hits
        again = [replace(hit, score=score) for hit, score in zip(first, scores, strict=True)]
        again.sort(key=lambda hit: hit.score, reverse=True)
        least = again[-1].score
        return [*again, *(replace(hit, score=min(hit.score, least)) for hit in rest)]

    async def _asked(self, queries: Sequence[str], project: str) -> tuple[float, Vectors | None]:
        """The cosine of unrelated texts, and the queries' vectors, if an engine makes some."""
        try:
            if self._unrelated is None:
                self._unrelated = await cosine_of_unrelated(self._embedder)
            vectors = await self._embedder.embed(queries, query=True, project=project)
            return self._unrelated, np.stack(vectors)
        except EngineError as error:
            log.warning("searched_without_vectors", extra={"reason": str(error)})
            return 0.0, None

    async def _find(self, store_id: str, query: _Query) -> list[list[Candidate]]:
        """For each of the texts, what of a store may be a hit."""

        async def look(index: StoreIndex) -> list[list[Candidate]]:
            """Look at vectors and words at the same time."""
            view = index.view
            among = None if query.allowed is None else view.numbers(query.allowed)
            near, matching = await asyncio.gather(
                self._run(query.nearest, view, among),
                self._run(query.matching, index, view, among),
            )
            return await self._run(
                lambda: [
                    index.candidates(view, nearness, matches, DEPTH)
                    for nearness, matches in zip(near, matching, strict=True)
                ]
            )

        return await self._if_there(store_id, look, [[] for _ in query.texts])

    async def _with_texts(self, found: Sequence[Ranked]) -> list[Hit]:
        """The hits, but for those whose file has gone meanwhile."""
        chunks = defaultdict[str, list[int]](list)
        for hit in found:
            chunks[hit.candidate.store_id].append(hit.candidate.chunk)
        texts: dict[tuple[str, int], Passage] = {}
        for store_id, ids in chunks.items():
            of_store: dict[int, Passage] = {}
            work = partial(StoreIndex.passages, chunks=ids)
            of_store = await self._read(store_id, work, of_store)
            texts |= {(store_id, id): passage for id, passage in of_store.items()}
        return [_hit(hit, texts[hit.candidate.key]) for hit in found if hit.candidate.key in texts]

    async def _windows(
        self, text: str, chunks: Sequence[Span], project: str = ""
    ) -> tuple[Grid, Vectors]:
        """The windows of a text that its chunks have, and their vectors. Raises EngineError."""
        grid = await self._run(cut, text, chunks, self._embedder.window)
        vectors = np.empty((len(grid.windows), self._embedder.dimensions), np.float32)
        for first in range(0, len(vectors), TEXTS_AT_ONCE):
            spans = grid.windows[first : first + TEXTS_AT_ONCE]
            texts = [text[start:end] for start, end in spans]
            found = await self._embedder.embed(texts, query=False, project=project)
            vectors[first : first + len(texts)] = found
        return grid, vectors

    async def _embed_again(self, store_id: str) -> None:
        """Make the vectors of the files that have none. What fails is tried at the next use."""
        try:
            while await self._embed_one_again(store_id):
                pass
            log.info("embedded_again", extra={"store": store_id})
        except (EngineError, *FAULTS) as error:
            log.warning("not_embedded", extra={"store": store_id, "reason": str(error)})
        finally:
            del self._embedding[store_id]

    async def _embed_one_again(self, store_id: str) -> bool:
        """The stores take turns, file by file. False if no file lacks vectors."""
        async with self._embedded_again:
            file = await self._read(store_id, StoreIndex.unembedded, None)
            if file is None:
                return False
            grid, vectors = await self._windows(file.text, file.chunks)
            work = partial(StoreIndex.embed, file=file, grid=grid, vectors=vectors)
            await self._change(store_id, work)
            return True

    async def _read(self, store_id: str, work: Callable[[StoreIndex], T], nothing: T) -> T:
        """Look at an index in a thread; `nothing` where there is none."""
        return await self._if_there(store_id, partial(self._run, work), nothing)

    async def _change(self, store_id: str, work: Callable[[StoreIndex], None]) -> None:
        """Change an index in a thread, if there is one."""
        await self._if_there(store_id, partial(self._in_turn, work), None)

    async def _write(self, store_id: str, work: Callable[[StoreIndex], T]) -> T:
        """Change an index, which is made if there is none, in a thread."""
        return await self._with(store_id, partial(self._in_turn, work))

    async def _in_turn(self, work: Callable[[StoreIndex], T], index: StoreIndex) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, index)

    async def _if_there(
        self, store_id: str, use: Callable[[StoreIndex], Awaitable[T]], nothing: T
    ) -> T:
        """Do something with an index, if there is one; once more if it was found broken."""
        for _ in range(2):
            if not await self._is_there(store_id):
                return nothing
            async with self._using(store_id) as index:
                try:
                    return await use(index)
                except Broken as error:
                    self._begin_anew(store_id, index, error)
        return nothing

    async def _with(self, store_id: str, use: Callable[[StoreIndex], Awaitable[T]]) -> T:
        """Do something with an index; once more with a new one, if it is broken or was dropped."""
        async with self._using(store_id) as index:
            try:
                return await use(index)
            except Broken as error:
                self._begin_anew(store_id, index, error)
        async with self._using(store_id) as index:
            return await use(index)

    @asynccontextmanager
    async def _using(self, store_id: str) -> AsyncIterator[StoreIndex]:
        held = self._open.get(store_id)
        if held is None:
            # A close that begins later waits for this opening, and not this for that.
            opening = self._opened(store_id, self._path(store_id), self._closing.get(store_id))
            held = _Open(asyncio.create_task(opening, name=f"open {store_id}"))
            self._open[store_id] = held
        self._open.move_to_end(store_id)
        held.users += 1
        try:
            index = await asyncio.shield(held.opening)
            self._tend(index)
            yield index
        finally:
            held.users -= 1
            self._make_room()

    async def _opened(
        self, store_id: str, path: Path, closing: asyncio.Task[None] | None
    ) -> StoreIndex:
        """Open it when it is closed, if it was open before."""
        if closing is not None:
            await asyncio.wait([closing])
        embedder = self._embedder
        make = partial(StoreIndex, store_id, path, embedder.fingerprint, embedder.dimensions)
        try:
            return await self._run(make)
        except Broken as error:
            await self._run(shutil.rmtree, path)
            self._tell(store_id, error)
            return await self._run(make)

    def _begin_anew(self, store_id: str, index: StoreIndex, error: Broken) -> None:
        """Unless another user of it has done so."""
        held = self._open.get(store_id)
        if held is not None and held.index is index:
            self._close(store_id, StoreIndex.destroy)
            self._tell(store_id, error)

    def _tell(self, store_id: str, error: Broken) -> None:
        log.warning("index_lost", extra={"store": store_id, "reason": str(error)})
        self._lost(store_id)

    def _tend(self, index: StoreIndex) -> None:
        if index.view.unembedded and index.id not in self._embedding:
            task = asyncio.create_task(self._embed_again(index.id), name=f"embed {index.id}")
            self._embedding[index.id] = task

    def _make_room(self) -> None:
        """Close what was not used for longest, and forget what could not be opened.

        The one that was used last stays open, or a large one would be opened at each use.
        """
        taken = sum(held.bytes for held in self._open.values())
        newest = next(reversed(self._open), None)
        for store_id, held in [*self._open.items()]:
            too_much = taken > self._settings.index_bytes or len(self._open) > MOST_OPEN
            is_much = too_much and store_id != newest
            if held.users == 0 and (held.failed or (is_much and held.index is not None)):
                taken -= held.bytes
                self._close(store_id, StoreIndex.close)

    def _close(self, store_id: str, how: Callable[[StoreIndex], None]) -> None:
        """Begin to close it; whoever wants to open it again waits."""
        held = self._open.pop(store_id)

        async def shut() -> None:
            try:
                await self._run(how, await held.opening)
            except (Broken, *FAULTS) as error:
                log.warning("index_not_closed", extra={"store": store_id, "reason": str(error)})
            finally:
                if self._closing[store_id] is asyncio.current_task():
                    del self._closing[store_id]

        self._closing[store_id] = asyncio.create_task(shut(), name=f"close {store_id}")

    def _clear(self, store_id: str) -> None:
        """Begin to remove what there is of a store that is not open; whoever opens it waits."""

        async def remove() -> None:
            try:
                await self._run(_remove_folder, self._path(store_id))
            finally:
                del self._closing[store_id]

        self._closing[store_id] = asyncio.create_task(remove(), name=f"clear {store_id}")

    async def _closed(self, store_id: str) -> None:
        """Return when it is not being closed any more."""
        if (closing := self._closing.get(store_id)) is not None:
            await asyncio.shield(closing)

    async def _is_there(self, store_id: str) -> bool:
        """Whoever uses it at once, if it is, does not make one that is being removed anew."""
        while store_id not in self._open:
            await self._closed(store_id)
            is_there = await self._run(self._path(store_id).is_dir)
            if store_id not in self._closing and store_id not in self._open:
                return is_there
        return True

    def _path(self, store_id: str) -> Path:
        if not STORE_ID.fullmatch(store_id):
            raise ValueError(f"{store_id!r} cannot be a store's id")
        return self._folder / store_id

    async def _run(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work, *given)


@dataclass(frozen=True, slots=True)
class _Query:
    """What is looked for: in words, as vectors, in which files."""

    texts: Sequence[str]
    vectors: Vectors | None
    allowed: Set[str] | None
    by_words: bool

    def nearest(self, view: View, among: Collection[int] | None) -> Sequence[Nearness | None]:
        if self.vectors is None:
            return [None] * len(self.texts)
        return view.nearest(self.vectors, among)

    def matching(
        self, index: StoreIndex, view: View, among: Collection[int] | None
    ) -> Sequence[dict[int, float] | None]:
        if not self.by_words:
            return [None] * len(self.texts)
        return [index.matching(view, text, among, DEPTH) for text in self.texts]


def _hit(hit: Ranked, passage: Passage) -> Hit:
    found = hit.candidate
    return Hit(
        store_id=found.store_id,
        file_id=found.file_id,
        ordinal=passage.ordinal,
        text=passage.text,
        start=found.start,
        end=found.end,
        page=passage.page,
        score=hit.score,
    )


def _remove_folder(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)


def _remove_others(folder: Path, names: Set[str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)
