"""Windows, and which of them a chunk has."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.search.windows import BYTES_A_TOKEN, Span, cut

TEXTS = st.text(st.sampled_from("ab .\n。é漢"), min_size=1, max_size=400)


@st.composite
def chunks_of(draw: st.DrawFn, text: str) -> list[Span]:
    """Chunks that begin one after the other and are all of a text, with overlaps or without."""
    size = draw(st.integers(1, len(text)))
    stride = draw(st.integers(1, size))
    starts = range(0, len(text), stride)
    return [(start, min(start + size, len(text))) for start in starts]


@given(st.data(), TEXTS, st.integers(0, 20))
def test_windows_are_all_of_the_text(data: st.DataObject, text: str, window: int) -> None:
    """One after the other, none empty or longer than the embedder reads, cut where chunks begin."""
    chunks = data.draw(chunks_of(text))
    grid = cut(text, chunks, window)
    assert grid.windows[0][0] == 0
    assert grid.windows[-1][1] == len(text)
    assert all(end == start for (_, end), (start, _) in pairwise(grid.windows))
    bytes_each = max(len(character.encode()) for character in text)
    for start, end in grid.windows:
        assert start < end
        if window:
            assert end - start <= max(1, window * BYTES_A_TOKEN)
    assert {start for start, _ in chunks} <= {start for start, _ in grid.windows}
    assert bytes_each <= 3


@given(st.data(), TEXTS, st.integers(0, 20))
def test_a_chunk_has_the_windows_that_are_in_it(
    data: st.DataObject, text: str, window: int
) -> None:
    """Each chunk has one at least; those that are wholly in it, and none that mostly is not."""
    chunks = data.draw(chunks_of(text))
    grid = cut(text, chunks, window)
    for (start, end), own in zip(chunks, grid.of_chunks, strict=True):
        assert len(own) > 0
        assert grid.windows[own.start][0] == start
        for index, (first, last) in enumerate(grid.windows):
            if start <= first and last <= end:
                assert index in own
            if last <= start or end <= first:
                assert index not in own


def test_a_window_ends_where_a_paragraph_or_a_sentence_does() -> None:
    """If there is an end of one near enough."""
    text = "One two three four. " * 48 + "\n\n" + "Five six seven. " * 40
    windows = cut(text, [(0, len(text))], 50).windows
    ends = [text[start:end][-2:] for start, end in windows]
    assert set(ends) == {". ", "\n\n"}
    assert all(40 <= end - start <= 200 for start, end in windows)


def test_chunks_that_overlap_share_windows() -> None:
    """What two chunks have in common is embedded once."""
    text = "word " * 800
    grid = cut(text, [(0, 2000), (1000, 3000), (2000, 4000)], 0)
    first, second, third = map(set, grid.of_chunks)
    assert first & second
    assert second & third
    assert not first & third
    assert sum(end - start for start, end in grid.windows) == len(text)


def test_a_script_of_longer_characters_has_shorter_windows() -> None:
    """A token is about as many bytes of it, so fewer characters."""
    plain, han = "word " * 1000, "漢字。字漢" * 1000
    widest = [
        max(end - start for start, end in cut(text, [(0, 5000)], 0).windows)
        for text in (plain, han)
    ]
    assert widest[1] < widest[0] / 2


def test_nothing_has_no_windows() -> None:
    """Neither without chunks nor with empty ones."""
    assert cut("", [], 0).windows == []
    assert [*cut("", [(0, 0)], 0).of_chunks[0]] == []
