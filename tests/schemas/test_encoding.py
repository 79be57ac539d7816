"""The bytes of wire objects."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import schemas

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(st.dictionaries(TEXT, VALUES))
def test_bodies_are_what_json_dumps_writes_with_an_indent_of_two(
    value: schemas.JsonObject,
) -> None:
    """Raw UTF-8, no newline at the end; events the same on one line."""
    indented = json.dumps(value, indent=2, ensure_ascii=False).encode()
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    assert schemas.pretty(value) == indented
    assert schemas.compact(value) == line


@pytest.mark.parametrize("number", [0.0, 1.0, 0.1, 0.7, 1.5, 2.0, 0.68001021, 1e-4])
def test_floats_stay_floats(number: float) -> None:
    """A temperature of 1 is shown as 1.0, as the hosted API does."""
    assert schemas.compact({"a": number}) == f'{{"a":{number!r}}}'.encode()


def test_an_empty_page_has_null_cursors() -> None:
    """The types say string; the hosted API said null."""
    page = schemas.ListPage[schemas.Thread].of([], has_more=False)
    assert schemas.compact(page) == (
        b'{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}'
    )


def test_a_page_names_its_first_and_last_object() -> None:
    """Clients go on after the last."""
    data = [schemas.Thread(id=i, created_at=1, metadata={}, tool_resources={}) for i in ("a", "b")]
    page = schemas.to_wire(schemas.ListPage[schemas.Thread].of(data, has_more=True))
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)
    assert list(page["data"][0]) == ["id", "object", "created_at", "metadata", "tool_resources"]
