"""Where a text is cut: all of it is in chunks, none is too long, and words stay whole."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.search.chunks import Chunk, split
from server.search.extraction import Document
from server.search.tokens import TokenEnds, estimated_ends
from tests.timing import little_work


def ends_of(text: str) -> TokenEnds:
    """Tokens as most vocabularies have them: a word with the space before it, a line's end."""
    tokens = re.finditer(r" ?[^\W_]+| ?[^\s\w]|\s", text)
    return np.array([token.end() for token in tokens], np.int64)


def cut(text: str, size: int, overlap: int = 0) -> list[str]:
    """The chunks' texts."""
    chunks = split(Document(text), ends_of(text), size, overlap)
    return [text[chunk.start : chunk.end] for chunk in chunks]


def tokens_between(ends: TokenEnds, start: int, end: int) -> int:
    """How many end behind one character and not behind the other."""
    return int(np.count_nonzero((ends > start) & (ends <= end)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Document, TokenEnds, int, int]:
    """A document in pages, its tokens, of which several may share a character, and sizes."""
    text = draw(st.text("ab.。 \n\t😀", max_size=300))
    inside = st.lists(st.integers(min(1, len(text)), len(text)), max_size=400)
    ends = [*sorted(draw(inside)), len(text)]
    starts = st.lists(st.integers(0, len(text)), max_size=5)
    pages = [0, *sorted(draw(starts))] if draw(st.booleans()) else []
    size = draw(st.integers(1, 60))
    overlap = draw(st.integers(0, size - 1))
    return Document(text, pages), np.array(ends, np.int64), size, overlap


@given(cases())
def test_chunks_are_the_text(case: tuple[Document, TokenEnds, int, int]) -> None:
    """Each character is in one, in order, with no more tokens and no more overlap than asked."""
    document, ends, size, overlap = case
    chunks = split(document, ends, size, overlap)
    if not document.text:
        assert chunks == []
        return
    assert chunks[0].start == 0
    assert chunks[-1].end == len(document.text)
    for before, after in pairwise(chunks):
        assert before.start < after.start <= before.end < after.end
        assert tokens_between(ends, after.start, before.end) <= overlap
    for chunk in chunks:
        assert chunk.tokens == tokens_between(ends, chunk.start, chunk.end)
        one = chunk.end - chunk.start == 1 or len(set(ends[ends > chunk.start][: size + 1])) == 1
        assert chunk.tokens <= size or one


@given(cases())
def test_a_chunk_is_on_the_page_of_its_first_word(
    case: tuple[Document, TokenEnds, int, int],
) -> None:
    """Not on the one that ends with the spaces before it."""
    document, ends, size, overlap = case
    for chunk in split(document, ends, size, overlap):
        if not document.pages:
            assert chunk.page is None
            continue
        text = document.text[chunk.start : chunk.end]
        first = chunk.start + len(text) - len(text.lstrip() or text)
        assert chunk.page == sum(start <= first for start in document.pages)


def test_a_chunk_ends_with_the_best_that_it_can_reach() -> None:
    """A paragraph before a line, that before a sentence, that before a word."""
    filler = "w " * 13
    for better, worse in [("\n\n", "\n"), ("\n", ". a "), (". ", " a "), ("! ", "- ")]:
        text = f"{filler}x{better}y{worse}z and so on and so forth"
        first, *_ = cut(text, 20)
        assert first.rstrip() == f"{filler}x{better}".rstrip()


def test_a_chunk_is_not_cut_short_for_what_is_too_far_back() -> None:
    """It has three quarters of its tokens at least."""
    text = "A title\n\n" + "word " * 40
    first, *_ = cut(text, 20)
    assert len(ends_of(first)) == 20


def test_chinese_ends_with_its_sentences() -> None:
    """Which have no spaces."""
    text = "我们今天讨论服务器的设计。以及怎样搜索文件。" * 4
    ends = np.arange(1, len(text) + 1)
    chunks = split(Document(text), ends, 40, 0)
    assert all(text[chunk.start : chunk.end].endswith("。") for chunk in chunks)


def test_an_overlap_begins_with_a_sentence() -> None:
    """Where there is one in its first quarter."""
    text = "one two three four five six. Seven eight nine ten eleven twelve thirteen end"
    first, second = cut(text, 14, 8)
    assert first.endswith("thirteen")
    assert second.strip().startswith("Seven")


def test_text_without_tokens_is_one_chunk() -> None:
    """What a vocabulary does not see is kept all the same."""
    assert split(Document(" \n "), np.empty(0, np.int64), 10, 5) == [Chunk(0, 3, 0, None)]


@pytest.mark.parametrize(("size", "overlap"), [(10, 10), (10, -1)])
def test_an_overlap_is_smaller_than_its_chunk(size: int, overlap: int) -> None:
    """Else there would be no end."""
    with pytest.raises(ValueError, match="cannot overlap"):
        split(Document("text"), np.array([4]), size, overlap)


@pytest.mark.parametrize("unit", ["Some words, and a sentence. ", "a", "\n", " ", "日本"])
def test_a_long_text_takes_time_in_proportion(unit: str) -> None:
    """Half a million tokens in chunks of the usual size take no time that anybody notices."""
    text = unit * (1_500_000 // len(unit.encode()))
    with little_work(2):
        chunks = split(Document(text), estimated_ends(text), 800, 400)
    assert len(chunks) >= 1000
