"""What several queries found, as one list."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.search.ranking import Candidate, falling, ranked


def candidate(
    chunk: int, cosine: float | None = None, coverage: float | None = None, **more: object
) -> Candidate:
    """A chunk of a file of its own."""
    fields: dict[str, object] = {
        "store_id": "vs",
        "chunk": chunk,
        "file_id": f"file-{chunk}",
        "start": 0,
        "end": 100,
        "cosine": cosine,
        "coverage": coverage,
    }
    return Candidate(**{**fields, **more})  # type: ignore[arg-type]


def order(*found: list[Candidate], unrelated: float = 0.0) -> list[int]:
    """The chunks."""
    return [hit.candidate.chunk for hit in ranked(found, unrelated)]


def test_the_order_of_one_query_is_that_of_its_scores() -> None:
    """Nearness and words together; neither alone decides."""
    near, both, worded = candidate(1, 0.9, 0.0), candidate(2, 0.7, 0.7), candidate(3, 0.0, 0.9)
    assert order([near, worded, both]) == [2, 3, 1]
    scores = [hit.score for hit in ranked([[near, worded, both]], 0.0)]
    assert scores == pytest.approx([0.7, 0.63, 0.27])


def test_what_several_queries_find_is_first_and_there_once() -> None:
    """Its score is from the query that it fits best, and the mean where the order is another."""
    first = [candidate(1, 0.9), candidate(2, 0.8)]
    second = [candidate(3, 0.9), candidate(2, 0.85)]
    hits = ranked([first, second], 0.0)
    assert [hit.candidate.chunk for hit in hits] == [2, 1, 3]
    assert hits[0].score == pytest.approx((0.85 + 0.9 + 0.9) / 3)


def test_equals_have_one_rank() -> None:
    """So that the order in which they come does not decide."""
    first = [candidate(1, 0.5), candidate(2, 0.5)]
    second = [candidate(1, 0.6), candidate(2, 0.7)]
    assert order(first, second) == [2, 1]
    assert order(first[::-1], second[::-1]) == [2, 1]


def test_a_chunk_is_told_by_its_store_too() -> None:
    """Ids are the stores' own."""
    hits = ranked([[candidate(1, 0.9), candidate(1, 0.8, store_id="other")]], 0.0)
    assert [hit.candidate.store_id for hit in hits] == ["vs", "other"]


@pytest.mark.parametrize(
    ("one", "unrelated", "score"),
    [
        (candidate(1, 1.0), 0.3, 1.0),
        (candidate(1, 0.3), 0.3, 0.0),
        (candidate(1, 0.1), 0.3, 0.0),
        (candidate(1, 0.65), 0.3, 0.5),
        (candidate(1, 0.65, 0.5), 0.3, 0.5),
        (candidate(1, 1.0, 1.0), 0.3, 1.0),
        (candidate(1, -0.2, 1.0), 0.3, 0.7),
        (candidate(1, 0.65, 0.0), 0.3, 0.15),
        (candidate(1, None, 0.25), 0.3, 0.25),
        (candidate(1, None, None), 0.3, 0.0),
        (candidate(1, 1.0000001), 0.0, 1.0),
    ],
)
def test_a_score_is_how_much_there_is_to_a_hit(
    one: Candidate, unrelated: float, score: float
) -> None:
    """Nearness above that of unrelated texts, and words; where one was not looked at, the other."""
    assert ranked([[one]], unrelated)[0].score == pytest.approx(score)


def test_a_chunk_that_only_repeats_better_ones_is_left_out() -> None:
    """If enough of it is new, or it is of another file, it stays."""
    first = candidate(1, 0.9, file_id="a", start=0, end=800)
    third = candidate(2, 0.8, file_id="a", start=800, end=1600)
    between = candidate(3, 0.7, file_id="a", start=400, end=1200)
    assert order([first, third, between]) == [1, 2]
    assert order([first, between]) == [1, 3]
    elsewhere = candidate(4, 0.7, file_id="b", start=400, end=1200)
    assert order([first, third, elsewhere]) == [1, 2, 4]
    mostly = candidate(5, 0.7, file_id="a", start=100, end=1000)
    assert order([first, mostly]) == [1]


def test_nothing_found_is_an_empty_list() -> None:
    """With and without queries."""
    assert ranked([], 0.0) == []
    assert ranked([[], []], 0.0) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_the_nearest_falling_values(values: list[float]) -> None:
    """They fall, have the same mean, and stay within bounds; values that fall are not changed."""
    found = falling(values)
    assert len(found) == len(values)
    assert all(before >= after for before, after in pairwise(found))
    assert sum(found) == pytest.approx(sum(values))
    assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for value in found)
    assert falling(sorted(values, reverse=True)) == sorted(values, reverse=True)


def test_falling_values_are_the_nearest_by_least_squares() -> None:
    """An example that can be checked by hand."""
    assert falling([0.5, 0.9, 0.1, 0.3, 0.0]) == pytest.approx([0.7, 0.7, 0.2, 0.2, 0.0])


CANDIDATES = st.builds(
    candidate,
    st.integers(1, 8),
    st.floats(-1, 1),
    st.floats(0, 1),
    file_id=st.sampled_from("ab"),
    start=st.integers(0, 5),
    end=st.integers(6, 9),
)


@given(st.lists(st.lists(CANDIDATES, unique_by=lambda one: one.chunk), max_size=3))
def test_scores_fall_with_the_order(found: list[list[Candidate]]) -> None:
    """They are 0 to 1, no chunk is there twice, and the first found is never left out."""
    hits = ranked(found, 0.2)
    assert all(before.score >= after.score for before, after in pairwise(hits))
    assert all(0 <= hit.score <= 1 for hit in hits)
    chunks = [hit.candidate.chunk for hit in hits]
    assert len(chunks) == len(set(chunks))
    assert bool(hits) == any(found)
