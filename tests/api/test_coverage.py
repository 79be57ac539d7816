"""That tests show every field of the API, and that the page which says so is true."""

from __future__ import annotations

import pytest

from tests.covering import DOCUMENT, Shown, all_collected, document, missing


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    """What all tests together show."""
    collected = all_collected(request.config)
    if collected is None:
        pytest.skip("only a part of the tests was collected")
    return collected


def test_every_field_is_shown_by_a_test(shown: Shown) -> None:
    """Each field of each route, with its default, its limit and its error."""
    assert missing(shown) == []


def test_the_page_is_up_to_date(shown: Shown) -> None:
    """Otherwise run `pytest --write-coverage-doc`."""
    assert DOCUMENT.read_text(encoding="utf-8") == document(shown)
