"""Files that are put into stores' indexes, and found there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.config import SearchSettings
from server.engine.protocol import EngineUnavailable
from server.engine.vectors import Vector
from server.search import store as store_module
from server.search.chunks import Chunk
from server.search.embedder import NgramEmbedder
from server.search.index import EMBEDDED_AGAIN, Hit, Indexes
from server.search.view import MOST_REMEMBERED
from tests.search.fakes import (
    WordEmbedder,
    chunked,
    embedded_again,
    found,
    lines,
    opened,
    put_lines,
    search,
)
from tests.support import eventually

FRUIT = "apples are red\nbananas are yellow\ncherries are red too\n"
TOWNS = "Oslo lies on a fjord\nBern lies on a river\n"


async def test_a_chunk_is_found_as_it_stands_in_its_file(indexes: Indexes) -> None:
    """With its place, its page and its text, character by character."""
    text = "Première page.\r\n\tSecond 漢字 page. Third."
    chunks = chunked(text, 15)
    await indexes.put("vs", "file-a", text, chunks)
    hit = (await search(indexes, "漢字"))[0]
    assert hit == Hit("vs", "file-a", 1, text[15:30], 15, 30, 2, hit.score)
    assert await indexes.chunks_of("vs", "file-a") == [text[c.start : c.end] for c in chunks]


async def test_the_best_is_first_and_scores_tell_how_good(indexes: Indexes) -> None:
    """The very text has 1, what has nothing in common about 0, and they fall along the list."""
    await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    hits = await search(indexes, "bananas are yellow")
    assert hits[0].text == "bananas are yellow\n"
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert all(before.score >= after.score for before, after in pairwise(hits))
    assert len(hits) == 5
    assert hits[-1].score < 0.3
    assert [hit.text for hit in await search(indexes, "bananas are yellow", limit=1)] == [
        "bananas are yellow\n"
    ]


async def test_hits_below_the_threshold_are_left_out(indexes: Indexes) -> None:
    """Up to all of them."""
    await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    every = await search(indexes, "bananas")
    some = await search(indexes, "bananas", score_threshold=every[0].score)
    assert some == [hit for hit in every if hit.score >= every[0].score]
    assert 0 < len(some) < len(every)
    assert await search(indexes, "zebra", score_threshold=0.99) == []


async def test_a_file_that_is_put_again_is_replaced(indexes: Indexes) -> None:
    """And takes as many bytes as its texts and vectors have."""
    await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    text = "plums are blue: für Ähre"
    assert await indexes.put("vs", "fruit", text, lines(text)) == len(text.encode()) + 32 * 4
    assert await indexes.chunks_of("vs", "fruit") == [text]
    assert "bananas are yellow\n" not in await found(indexes, "bananas")
    assert (await found(indexes, "plums"))[0] == text
    assert (await found(indexes, "Oslo"))[0] == "Oslo lies on a fjord\n"


async def test_what_is_removed_is_not_found(indexes: Indexes) -> None:
    """Files from a store, whole stores; to remove what is not there does nothing."""
    await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    await put_lines(indexes, "other", fruit=FRUIT)
    await indexes.remove("vs", ["fruit", "unknown"])
    assert {hit.file_id for hit in await search(indexes, "apples")} == {"towns"}
    assert await indexes.chunks_of("vs", "fruit") == []
    assert await indexes.missing("vs", ["fruit", "towns", "x"]) == {"fruit", "x"}
    await indexes.drop("vs")
    assert await search(indexes, "Oslo") == []
    assert await indexes.missing("vs", ["towns"]) == {"towns"}
    assert len(await indexes.search(["other"], ["apples"], limit=9)) == 3
    for store_id in ("vs", "unknown"):
        await indexes.drop(store_id)
        await indexes.remove(store_id, ["fruit"])
        assert await indexes.chunks_of(store_id, "fruit") == []
    await put_lines(indexes, "vs", fruit=FRUIT)
    assert len(await search(indexes, "apples")) == 3


async def test_looking_makes_nothing(indexes: Indexes, tmp_path: Path) -> None:
    """A store that nothing was put into has no folder."""
    assert await search(indexes, "x") == []
    assert await indexes.missing("vs", ["a"]) == {"a"}
    await indexes.remove("vs", ["a"])
    await indexes.keep_only({"vs"})
    assert not (tmp_path / "search").exists()


async def test_an_index_is_there_after_a_restart(tmp_path: Path) -> None:
    """Found by words and by vectors, without anything being embedded again."""
    async with opened(tmp_path) as first:
        await put_lines(first, "vs", fruit=FRUIT)
        before = await search(first, "red cherries")
    embedder = WordEmbedder()
    async with opened(tmp_path, embedder) as second:
        assert await search(second, "red cherries") == before
        await second.keep_only({"other"})
    assert not (tmp_path / "vs").exists()
    assert not set(embedder.embedded) & set(FRUIT.splitlines(keepends=True))


async def test_only_allowed_files_are_looked_at(indexes: Indexes) -> None:
    """However many others are nearer."""
    files = {f"f{number}": f"apples number {number}\n" for number in range(300)}
    for name, text in files.items():
        await indexes.put("vs", name, text, lines(text))
    hits = await search(indexes, "apples number 7", allowed={"f250", "f299", "unknown"})
    assert {hit.file_id for hit in hits} == {"f250", "f299"}
    assert (await search(indexes, "apples number 7"))[0].file_id == "f7"
    assert await search(indexes, "apples number 7", allowed=set()) == []
    assert await search(indexes, "apples number 7", allowed={"unknown"}) == []


async def test_several_queries_and_stores_give_one_list(indexes: Indexes) -> None:
    """Each chunk once, however many queries find it, and stores that are named twice count once."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    await put_lines(indexes, "other", towns=TOWNS)
    hits = await indexes.search(
        ["vs", "other", "vs", "unknown"],
        ["bananas yellow", "Bern river", "Bern river", " "],
        limit=9,
    )
    assert {(hit.store_id, hit.text) for hit in hits[:2]} == {
        ("vs", "bananas are yellow\n"),
        ("other", "Bern lies on a river\n"),
    }
    assert len({(hit.store_id, hit.ordinal) for hit in hits}) == len(hits) == 5


async def test_without_queries_nothing_is_found(indexes: Indexes) -> None:
    """Neither for none nor for blank ones."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    assert await indexes.search(["vs"], [], limit=5) == []
    assert await indexes.search(["vs"], ["", " \n"], limit=5) == []
    assert await indexes.search([], ["apples"], limit=5) == []


async def test_a_chunk_that_its_neighbours_hold_is_not_found_beside_them(indexes: Indexes) -> None:
    """Of three that overlap by halves, the middle one only repeats the others."""
    text = "red apples. " * 10 + "green pears. " * 10 + "blue plums. " * 10 + "pink roses. " * 10
    chunks = [Chunk(start, start + 240, 1, None) for start in (0, 120, 240)]
    await indexes.put("vs", "a", text, chunks)
    hits = await search(indexes, "red apples blue plums pink roses", limit=50)
    assert {hit.ordinal for hit in hits} == {0, 2}
    assert len(await indexes.chunks_of("vs", "a")) == 3


async def test_a_long_chunk_is_as_near_as_its_nearest_part(
    indexes: Indexes, embedder: WordEmbedder
) -> None:
    """One sentence of it that fits is enough, wherever it stands."""
    embedder.window = 16
    other = " ".join(f"other{number}" for number in range(200))
    near = f"{other}. The giraffe sleeps standing up at night. {other}"
    await indexes.put("vs", "near", near, chunked(near, len(near)))
    await indexes.put("vs", "far", other, chunked(other, len(other)))
    assert all(len(window) <= 64 for window in embedder.embedded)
    assert len(embedder.embedded) > 60
    hits = await search(indexes, "The giraffe sleeps standing up", ranker="none")
    assert [hit.file_id for hit in hits] == ["near", "far"]
    assert hits[0].score > hits[1].score


async def test_in_a_store_of_few_chunks_a_question_finds_with_a_score_that_says_so(
    tmp_path: Path,
) -> None:
    """Words that half of them have tell something, and those of any question say little."""
    async with opened(tmp_path, NgramEmbedder()) as indexes:
        for name, text in {"people": "Alice lives in Paris.", "prices": "Tea costs two."}.items():
            await indexes.put("vs", name, text, lines(text))
        first, other = await search(indexes, "Where does Alice live?")
        assert (first.file_id, other.file_id) == ("people", "prices")
        assert first.score > 0.35 > 0.1 > other.score
        for nothing in ("Who are the others?", "Where is the station?"):
            assert all(hit.score < 0.2 for hit in await search(indexes, nothing))


async def test_an_uncommon_word_counts_more_than_those_of_any_question(indexes: Indexes) -> None:
    """Also where the store is too small for that to be seen in it."""
    await put_lines(indexes, "vs", rivers="the rivers\n", where="where is it\n")
    assert (await found(indexes, "where is it with rivers"))[0] == "the rivers\n"


async def test_without_a_ranker_the_vectors_decide(
    indexes: Indexes, embedder: WordEmbedder
) -> None:
    """By their cosines alone; words that the query has do not count."""
    await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    query = "red fruit on a river"
    texts = [hit.text for hit in await search(indexes, query, ranker="none")]
    cosines = {text: float(embedder.vector(text) @ embedder.vector(query)) for text in texts}
    assert texts == sorted(texts, key=lambda text: -cosines[text])
    assert len(texts) == 5


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Die Straße ist gesperrt", "STRASSE"),
        ("une crème brûlée", "creme"),
        ("東京都に住んでいます", "東京"),
        ("ภาษาไทยไม่มีช่องว่าง", "ภาษาไทย"),
        ("error code E-1042", "1042"),
        ("emoji 🙂 and words", "🙂 words"),
    ],
)
async def test_words_are_found_in_any_language(
    indexes: Indexes, embedder: WordEmbedder, text: str, query: str
) -> None:
    """Also when there are no vectors to help."""
    await put_lines(indexes, "vs", a="something else\n", b=f"{text}\n", c="another thing\n")
    embedder.fails = True
    assert await found(indexes, query) == [f"{text}\n"]


HOSTILE = [
    '"',
    "'",
    '"""',
    "a AND",
    "NEAR(",
    "words: zebras",
    "* OR",
    "-zebras",
    "^",
    "a + b",
    "({[",
]
HOSTILE += ["zebras; DROP TABLE word", "'; DELETE FROM chunk --", "\\", "\x00", "\ud800", "%", "_"]


@pytest.mark.parametrize("query", [*HOSTILE, "}" * 9000])
async def test_a_query_is_no_expression(indexes: Indexes, query: str) -> None:
    """Operators and quotes are as good as blanks, and never an error."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    assert len(await search(indexes, query)) == 3
    assert (await found(indexes, f"{query} yellow {query}"))[0] == "bananas are yellow\n"


@pytest.mark.parametrize("store_id", ["..", "a/b", "", "a\x00", ".", "ä"])
async def test_a_store_is_no_path(indexes: Indexes, store_id: str) -> None:
    """What could lead elsewhere is no store's id."""
    for attempt in (
        indexes.put(store_id, "a", "text", lines("text")),
        indexes.search([store_id], ["x"], limit=1),
        indexes.drop(store_id),
    ):
        with pytest.raises(ValueError, match="cannot be a store's id"):
            await attempt


async def test_without_an_embedder_words_serve(indexes: Indexes, embedder: WordEmbedder) -> None:
    """To search; what is put needs vectors, and is not there in halves."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    embedder.fails = True
    assert await found(indexes, "bananas") == ["bananas are yellow\n"]
    assert await found(indexes, "bananas", ranker="none") == ["bananas are yellow\n"]
    with pytest.raises(EngineUnavailable):
        await put_lines(indexes, "vs", towns=TOWNS)
    assert await indexes.missing("vs", ["towns"]) == {"towns"}
    embedder.fails = False
    assert len(await search(indexes, "bananas")) == 3


@pytest.mark.parametrize("dimensions", [32, 16])
async def test_another_embedder_makes_the_vectors_again(tmp_path: Path, dimensions: int) -> None:
    """Out of the texts, while words are found; what is put or removed meanwhile stays so."""
    async with opened(tmp_path) as first:
        await put_lines(first, "vs", fruit=FRUIT, towns=TOWNS, gone="zebra\n")
    embedder = WordEmbedder(dimensions, name="other")
    async with opened(tmp_path, embedder) as second:
        await second.search(["unknown"], ["x"], limit=1)  # now it knows what is unrelated
        embedder.embedded.clear()
        embedder.works.clear()
        asked = asyncio.create_task(second.missing("vs", []))
        await asked
        await second.remove("vs", ["gone"])
        embedder.works.set()
        text = "plums are blue\n"
        await second.put("vs", "more", text, lines(text))
        assert "Bern lies on a river\n" in await found(second, "Bern")
        await embedded_again(second)
        hits = await search(second, "plums are blue", ranker="none")
        assert len(hits) == 6
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert set(embedder.embedded) >= {*FRUIT.splitlines(True), *TOWNS.splitlines(True)}
        assert await found(second, "Oslo lies on a fjord", limit=1) == ["Oslo lies on a fjord\n"]
    again = WordEmbedder(dimensions, name="other")
    async with opened(tmp_path, again) as third:
        assert len(await search(third, "plums are blue", ranker="none")) == 6
        assert not set(again.embedded) & set(FRUIT.splitlines(True))


async def test_vectors_that_could_not_be_made_again_are_made_at_the_next_use(
    tmp_path: Path,
) -> None:
    """A model that cannot be loaded costs nothing but nearness."""
    async with opened(tmp_path) as first:
        await put_lines(first, "vs", fruit=FRUIT)
    embedder = WordEmbedder(name="other")
    async with opened(tmp_path, embedder) as second:
        embedder.fails = True
        assert await found(second, "bananas") == ["bananas are yellow\n"]
        await embedded_again(second)
        embedder.fails = False
        await search(second, "bananas")
        await embedded_again(second)
        assert len(await search(second, "bananas", ranker="none")) == 3


class Busy(WordEmbedder):
    """Counts who waits for vectors."""

    at_once = most = 0

    async def embed(self, texts: Sequence[str], *, query: bool, project: str = "") -> list[Vector]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await super().embed(texts, query=query, project=project)
        finally:
            self.at_once -= 1

    async def waited_for(self) -> int:
        """By so many."""
        return self.at_once


async def test_few_files_are_embedded_again_at_once(tmp_path: Path) -> None:
    """However many stores want it; they take turns, and all have their vectors in the end."""
    names = [f"vs{number}" for number in range(8)]
    async with opened(tmp_path) as first:
        for name in names:
            await put_lines(first, name, fruit=FRUIT, towns=TOWNS)
    embedder = Busy(name="other")
    async with opened(tmp_path, embedder) as second:
        embedder.works.clear()
        for name in names:
            await second.missing(name, [])
        await eventually(embedder.waited_for, lambda number: number == EMBEDDED_AGAIN)
        embedder.works.set()
        await embedded_again(second)
        assert embedder.most == EMBEDDED_AGAIN
        assert len(await second.search(names, ["Oslo"], limit=99, ranker="none")) == 8 * 5


async def test_a_store_that_is_dropped_while_it_is_embedded_again(tmp_path: Path) -> None:
    """Is gone, and nothing makes its folder anew."""
    async with opened(tmp_path) as first:
        await put_lines(first, "vs", fruit=FRUIT)
    embedder = Busy(name="other")
    async with opened(tmp_path, embedder) as second:
        embedder.works.clear()
        await second.missing("vs", [])
        await eventually(embedder.waited_for, lambda number: number == 1)
        await second.drop("vs")
        embedder.works.set()
        await embedded_again(second)
        assert not (tmp_path / "vs").exists()


async def test_whoever_looks_makes_no_dropped_store_anew(indexes: Indexes, tmp_path: Path) -> None:
    """Nor whoever removes something from it, at whatever moment."""
    for _ in range(20):
        await put_lines(indexes, "vs", fruit=FRUIT)
        await asyncio.gather(
            search(indexes, "apples"),
            indexes.drop("vs"),
            indexes.missing("vs", []),
            indexes.remove("vs", ["towns"]),
            search(indexes, "apples"),
        )
        assert not (tmp_path / "search" / "vs").exists()


async def test_a_store_that_is_dropped_when_it_has_just_begun_to_open(tmp_path: Path) -> None:
    """Neither waits for the other."""
    async with opened(tmp_path) as first:
        await put_lines(first, "vs", fruit=FRUIT)
    async with opened(tmp_path) as second, asyncio.timeout(5):

        async def use() -> None:
            async with second._using("vs"):  # what is public reads something before it
                pass

        await asyncio.gather(use(), second.drop("vs"))


async def test_overlapping_chunks_are_embedded_again_as_they_were(tmp_path: Path) -> None:
    """Windows are cut from the file's text, put together out of its chunks."""
    text = "".join(f"Sentence number {number} of it. " for number in range(200))
    chunks = chunked(text, 1600, 800)
    embedder, other = WordEmbedder(), WordEmbedder(name="other")
    async with opened(tmp_path, embedder) as first:
        await first.put("vs", "a", text, chunks)
    async with opened(tmp_path, other) as second:
        await second.missing("vs", [])
        await embedded_again(second)
    assert other.embedded == embedder.embedded
    assert sum(map(len, other.embedded)) == len(text)


async def test_memory_is_bounded(tmp_path: Path) -> None:
    """With room for none, one index at a time stays open, and all are searched all the same."""
    async with opened(tmp_path, index_bytes=1) as indexes:
        names = [f"vs{number}" for number in range(8)]
        for name in names:
            await indexes.put(name, "a", f"text of {name}", lines(f"text of {name}"))
        assert list(indexes._open) == names[-1:]
        hits = await indexes.search(names, ["text"], limit=50)
        assert {hit.store_id for hit in hits} == set(names)
        await asyncio.gather(*(put_lines(indexes, name, b=FRUIT) for name in names * 3))
        assert len(await indexes.search(names, ["apples"], limit=50)) == 8 * 4
        assert len(indexes._open) == 1
    async with opened(tmp_path) as indexes:
        await indexes.search(names, ["text"], limit=50)
        assert len(indexes._open) == 8


async def test_an_index_that_has_no_room_is_opened_once(tmp_path: Path) -> None:
    """It stays open until another one is used."""
    async with opened(tmp_path, index_bytes=1) as indexes:
        await put_lines(indexes, "vs", a=FRUIT)
        index = indexes._open["vs"].index
        for _ in range(3):
            assert len(await search(indexes, "apples")) > 0
            assert indexes._open["vs"].index is index
        await put_lines(indexes, "other", a=FRUIT)
        assert list(indexes._open) == ["other"]


async def test_what_queries_leave_behind_is_bounded(indexes: Indexes) -> None:
    """How often a word is there is remembered of few words, none of them long, and counted."""
    await put_lines(indexes, "vs", a=FRUIT)
    held = indexes._open["vs"]
    before = held.bytes
    for number in range(40):
        words = [f"w{number}x{each}" for each in range(63)]
        await search(indexes, " ".join([*words, f"{number}" * 1000]))
    [index] = [each.index for each in indexes._open.values()]
    assert index is not None
    frequencies = index.view.frequencies
    assert 0 < len(frequencies) <= MOST_REMEMBERED
    assert max(map(len, frequencies)) < 100
    assert held.bytes >= before + 100 * len(frequencies)


async def test_readers_see_whole_files_while_others_write(tmp_path: Path) -> None:
    """Whoever searches finds a file as it was or as it is, from many threads at once."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", base="common base\n", turning="common 0\n" * 2)
        over = asyncio.Event()

        async def write() -> None:
            for number in range(1, 25):
                await put_lines(indexes, "vs", turning=f"common {number}\n" * 2)
                await put_lines(indexes, "vs", **{f"more{number}": f"common more {number}\n"})
            over.set()

        async def read() -> int:
            times = 0
            while not over.is_set():
                hits = await search(indexes, "common", limit=50)
                turning = [hit.text for hit in hits if hit.file_id == "turning"]
                assert len(set(turning)) <= 1
                assert sum(hit.file_id == "base" for hit in hits) == 1
                times += 1
            return times

        _, *times = await asyncio.gather(write(), read(), read(), read())
        assert min(times) > 0
        assert len(await search(indexes, "common", limit=50)) == 1 + 2 + 24


async def test_a_file_that_comes_after_its_store_was_dropped_makes_it_anew(
    indexes: Indexes, embedder: WordEmbedder
) -> None:
    """It is for whoever drops stores to remove it then; nothing of the former ones is back."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    embedder.works.clear()
    late = asyncio.create_task(put_lines(indexes, "vs", towns=TOWNS))
    await indexes.drop("vs")
    embedder.works.set()
    await late
    assert await indexes.missing("vs", ["fruit", "towns"]) == {"fruit"}
    assert {hit.file_id for hit in await search(indexes, "red river")} == {"towns"}


async def test_dropping_and_writing_at_once_leaves_an_index_that_works(indexes: Indexes) -> None:
    """Whichever is last; nobody hears of an index that went away under them."""
    for _ in range(10):
        await asyncio.gather(
            put_lines(indexes, "vs", fruit=FRUIT),
            search(indexes, "apples"),
            indexes.drop("vs"),
            put_lines(indexes, "vs", towns=TOWNS),
            indexes.remove("vs", ["fruit"]),
        )
        text = "plums\n"
        await indexes.put("vs", "plums", text, lines(text))
        assert (await found(indexes, "plums"))[0] == text
        await indexes.drop("vs")
        assert await found(indexes, "plums") == []


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10, 20])
async def test_a_put_that_is_cancelled_is_whole_or_undone(indexes: Indexes, turns: int) -> None:
    """And can be done again."""
    await put_lines(indexes, "vs", fruit=FRUIT)
    task = asyncio.create_task(put_lines(indexes, "vs", fruit=TOWNS))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    chunks = await indexes.chunks_of("vs", "fruit")
    assert chunks in (FRUIT.splitlines(keepends=True), TOWNS.splitlines(keepends=True))
    await put_lines(indexes, "vs", fruit=TOWNS)
    assert await indexes.chunks_of("vs", "fruit") == TOWNS.splitlines(keepends=True)


async def test_nothing_waits_on_the_loop(indexes: Indexes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever touches the disk or compares vectors runs in threads of the index."""
    loop, seen = threading.current_thread(), set[threading.Thread]()
    for name in ("__init__", "put", "matching", "candidates", "passages", "close"):
        real = getattr(store_module.StoreIndex, name)

        def noting(*given: object, _real: object = real, **more: object) -> object:
            seen.add(threading.current_thread())
            return _real(*given, **more)  # type: ignore[operator]

        monkeypatch.setattr(store_module.StoreIndex, name, noting)
    await put_lines(indexes, "vs", fruit=FRUIT)
    await search(indexes, "apples")
    await indexes.close()
    assert seen
    assert loop not in seen


def matrices_in(folder: Path) -> list[Path]:
    """The files with vectors."""
    return sorted(folder.glob("vectors.*"))


def sizes_of(paths: list[Path]) -> list[int]:
    """In bytes."""
    return [path.stat().st_size for path in paths]


async def test_rows_that_nobody_has_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there are many, the others are copied; they are found as before, also by old views."""
    monkeypatch.setattr(store_module, "FEWEST_UNUSED", 40)
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        await put_lines(indexes, "vs", big="\n".join(f"line {number}" for number in range(100)))
        await put_lines(indexes, "vs", towns=TOWNS)
        some = {"fruit", "towns"}
        expected = await search(indexes, "Bern river", allowed=some, ranker="none")
        await indexes.remove("vs", ["big"])
        assert [path.name for path in matrices_in(tmp_path / "vs")] == ["vectors.2.f32"]
        assert sizes_of(matrices_in(tmp_path / "vs")) == [5 * 32 * 4]
        assert await search(indexes, "Bern river", ranker="none") == expected
        await put_lines(indexes, "vs", more="plums are blue\n")
        after = await search(indexes, "plums are blue")
    async with opened(tmp_path) as indexes:
        assert await search(indexes, "plums are blue") == after
        assert sizes_of(matrices_in(tmp_path / "vs")) == [6 * 32 * 4]


async def test_words_are_indexed_anew_where_they_are_folded_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with another version of Unicode: all words are found, and can be removed."""
    async with opened(tmp_path) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT, towns=TOWNS)
    monkeypatch.setattr("server.search.passages.FOLDING", "other")
    monkeypatch.setattr("server.search.passages.folded", lambda text: text.replace("are", "were"))
    embedder = WordEmbedder()
    async with opened(tmp_path, embedder) as indexes:
        embedder.fails = True
        assert len(await found(indexes, "were")) == 3
        await indexes.remove("vs", ["fruit"])
        assert await found(indexes, "were") == []
        assert await found(indexes, "Oslo") == ["Oslo lies on a fjord\n"]


WORDS = [f"w{number}" for number in range(12)]
FILES = st.sampled_from(["a", "b", "c"])
STORES = st.sampled_from(["vs1", "vs2"])
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), max_size=6
).map("\n".join)
STEPS = st.one_of(
    st.tuples(st.just("put"), STORES, FILES, TEXTS),
    st.tuples(st.just("remove"), STORES, st.lists(FILES, max_size=2)),
    st.tuples(st.just("drop"), STORES),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("search"), st.sampled_from(WORDS), st.none() | st.sets(FILES)),
)


class Reference:
    """What should be found, by the plainest means."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str], list[str]] = {}

    def put(self, store_id: str, file_id: str, text: str) -> None:
        self.lines[store_id, file_id] = [text[c.start : c.end] for c in lines(text)]

    def remove(self, store_id: str, file_ids: list[str]) -> None:
        for file_id in file_ids:
            self.lines.pop((store_id, file_id), None)

    def drop(self, store_id: str) -> None:
        self.lines = {key: value for key, value in self.lines.items() if key[0] != store_id}

    def cosines(self, embedder: WordEmbedder, query: str, allowed: set[str] | None) -> list[float]:
        return sorted(
            float(embedder.vector(line) @ embedder.vector(query))
            for (_, file_id), found in self.lines.items()
            for line in found
            if allowed is None or file_id in allowed
        )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_the_same_is_found_as_by_the_plainest_means(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    """Put, removed, dropped, reopened, in any order; searched with filters, by both means."""
    asyncio.run(play(tmp_path_factory.mktemp("search"), steps))


async def play(folder: Path, steps: list[tuple[object, ...]]) -> None:
    """The same with the index and with the reference, compared on the way and at the end."""
    embedder, reference = WordEmbedder(), Reference()
    indexes = Indexes(folder, embedder, SearchSettings())
    try:
        for verb, *told in steps:
            if verb == "put":
                store_id, file_id, text = map(str, told)
                await indexes.put(store_id, file_id, text, lines(text))
                reference.put(store_id, file_id, text)
            elif verb == "reopen":
                await indexes.close()
                indexes = Indexes(folder, embedder, SearchSettings())
            elif verb == "search":
                await compare(indexes, reference, embedder, *told)  # type: ignore[arg-type]
            else:
                await getattr(indexes, str(verb))(*told)
                getattr(reference, str(verb))(*told)
        for word in WORDS[:3]:
            await compare(indexes, reference, embedder, word, None)
        for (store_id, file_id), expected in reference.lines.items():
            assert await indexes.chunks_of(store_id, file_id) == expected
    finally:
        await indexes.close()


async def compare(
    indexes: Indexes,
    reference: Reference,
    embedder: WordEmbedder,
    word: str,
    allowed: set[str] | None,
) -> None:
    """By vectors, all there is in the order of cosines; by words, just what has the word."""
    stores = ["vs1", "vs2"]
    hits = await indexes.search(stores, [word], limit=99, allowed=allowed, ranker="none")
    cosines = [float(embedder.vector(hit.text) @ embedder.vector(word)) for hit in hits]
    expected = reference.cosines(embedder, word, allowed)[::-1]
    assert cosines == pytest.approx(expected, abs=1e-5)
    embedder.fails = True
    hits = await indexes.search(stores, [word], limit=99, allowed=allowed)
    embedder.fails = False
    having = [
        (store_id, file_id, ordinal)
        for (store_id, file_id), texts in reference.lines.items()
        for ordinal, text in enumerate(texts)
        if word in text.split() and (allowed is None or file_id in allowed)
    ]
    assert sorted((hit.store_id, hit.file_id, hit.ordinal) for hit in hits) == sorted(having)
