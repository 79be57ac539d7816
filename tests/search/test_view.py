"""Which chunks are nearest, against the plainest way to find out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.search import view as module
from server.search.matrix import Matrix, Vectors, checksum
from server.search.passages import Stored
from server.search.view import View

DIMENSIONS = 4


@st.composite
def views(draw: st.DrawFn) -> View:
    """Files with and without vectors, whose chunks overlap or not, between rows of nobody."""
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    rows, chunk, columns, files = 0, 0, [], {}
    for number in range(1, draw(st.integers(0, 6)) + 1):
        rows += draw(st.integers(0, 3))  # of a file that is gone
        size = draw(st.integers(0, 6))
        first, rows = rows, rows + size
        files[f"f{number}"] = Stored(number, f"f{number}", first, rows, 0 if size else None)
        for _ in range(draw(st.integers(1, 4))):
            chunk += 1
            start = draw(st.integers(first, rows))
            stop = draw(st.integers(start, rows))
            columns.append([chunk, number, 0, 1, start, stop])
    layout = np.array(columns, np.int64).reshape(-1, 6).T
    return View(layout, files, random.normal(size=(rows, DIMENSIONS)).astype(np.float32))


@pytest.mark.parametrize(("block", "gap"), [(1, 0), (3, 0), (2, 5), (1000, 1000)])
@given(st.data())
def test_nearness_is_exact(block: int, gap: int, data: st.DataObject) -> None:
    """Each chunk's is the greatest cosine of its rows; chunks of other files have none."""
    view = data.draw(views())
    queries = np.random.default_rng(1).normal(size=(2, DIMENSIONS)).astype(np.float32)
    numbers = [file.number for file in view.files.values()]
    among = data.draw(st.none() | st.lists(st.sampled_from(numbers)) if numbers else st.none())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        patch.setattr(module, "GAP", gap)
        near = view.nearest(queries, among)
    for query, nearness in zip(queries, near, strict=True):
        expected = [expected_of(view, column, query, among) for column in view.layout.T.tolist()]
        assert nearness.of_chunks == pytest.approx(expected, abs=1e-5)
        best = nearness.best(3).tolist()
        ranked = sorted((-score, place) for place, score in enumerate(expected) if score > -np.inf)
        assert [-expected[place] for place in best] == pytest.approx(
            [score for score, _ in ranked[:3]], abs=1e-5
        )
        assert [nearness.cosine(place) for place in best] == pytest.approx(
            [expected[place] for place in best], abs=1e-5
        )
        assert all(
            (nearness.cosine(n) is None) == (score == -np.inf) for n, score in enumerate(expected)
        )


def expected_of(view: View, column: list[int], query: Vectors, among: list[int] | None) -> float:
    """The plainest way."""
    _, file, _, _, first, last = column
    if among is not None and file not in among:
        return -np.inf
    return max((float(view.vectors[row] @ query) for row in range(first, last)), default=-np.inf)


def test_places_of_chunks_that_are_gone_are_left_out() -> None:
    """Also if they are newer than the view."""
    columns = [[3, 1, 0, 1, 0, 0], [5, 1, 0, 1, 0, 0], [9, 1, 0, 1, 0, 0]]
    view = View(np.array(columns, np.int64).T, {}, np.empty((0, DIMENSIONS), np.float32))
    assert view.places([1, 3, 4, 9, 10]).tolist() == [0, 2]
    assert view.places([]).tolist() == []


def test_a_matrix_has_the_rows_that_were_written(tmp_path: Path) -> None:
    """Written over where they did not count, cut where they do not; old views keep theirs."""
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    matrix = Matrix(tmp_path / "rows", 4)
    assert matrix.view(3).shape == (0, 4)
    matrix.append(0, [rows[:2], rows[2:3]])
    old = matrix.view(3)
    matrix.append(3, [rows[:3]])
    matrix.append(3, [rows[3:5]])
    assert np.array_equal(matrix.view(9), rows[:5])
    matrix.append(5, [np.empty((0, 4), np.float32)])
    matrix.cut(4)
    assert np.array_equal(matrix.view(9), rows[:4])
    matrix.close()
    assert np.array_equal(old, rows[:3])
    assert checksum(old) == checksum(rows[:3]) != checksum(rows[1:4])
    assert (tmp_path / "rows").stat().st_mode & 0o077 == 0
