"""Filters in SQL, against what they mean."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import Connection, insert, select

from server.db import tables
from server.db.attributes import matches
from server.db.connection import open_engine
from server.db.tables import core
from server.schemas import Filter

FILES = core(tables.VectorStoreFile)
FILTER: TypeAdapter[Any] = TypeAdapter(Filter)

KEYS = st.sampled_from(["a", "b", "", 'q"uo\\te', "$.a", "a.b", "\N{SNOWMAN}", "\n", "a' OR 1"])
NUMBERS = st.integers(-3, 3) | st.sampled_from(
    [0.5, 1.0, -1.5, 1e300, 2**63, 2**64 - 1, -(2**63), 2**53 + 1]
)
TEXTS = st.sampled_from(["", "1", "1.0", "true", "a", "B", "\N{SNOWMAN}", "\N{GRINNING FACE}", "%"])
SCALARS = st.booleans() | NUMBERS | TEXTS
ATTRIBUTES = st.dictionaries(KEYS, SCALARS, max_size=4)
COMPARISONS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["eq", "ne"]), "key": KEYS, "value": SCALARS}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["gt", "gte", "lt", "lte"]),
            "key": KEYS,
            "value": NUMBERS | TEXTS,
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["in", "nin"]),
            "key": KEYS,
            "value": st.lists(NUMBERS | TEXTS, max_size=4),
        }
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)
ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def means(filter: Any, attributes: dict[str, Any]) -> bool:
    """What a filter says of attributes, in plain Python."""
    if filter["type"] in ("and", "or"):
        parts = [means(part, attributes) for part in filter["filters"]]
        return all(parts) if filter["type"] == "and" else any(parts)
    there = attributes.get(filter["key"])
    match filter["type"]:
        case "eq":
            return same(there, filter["value"])
        case "ne":
            return not same(there, filter["value"])
        case "in":
            return any(same(there, value) for value in filter["value"])
        case "nin":
            return not any(same(there, value) for value in filter["value"])
    if kind(there) != kind(filter["value"]):
        return False
    return bool(ORDERS[filter["type"]](stored(there), stored(filter["value"])))


def kind(value: Any) -> type:
    """A number is a number, with a fraction or without."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def stored(value: Any) -> Any:
    """Integers that 64 bits cannot hold are rounded."""
    beyond = isinstance(value, int) and not -(2**63) <= value < 2**63
    return float(value) if beyond else value


def same(one: Any, other: Any) -> bool:
    """Equal, and of one kind."""
    return kind(one) == kind(other) and stored(one) == stored(other)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A database with the tables."""
    path: Path = tmp_path_factory.mktemp("filters") / "a.db"
    with open_engine(path, busy_timeout=1.0).connect() as opened:
        tables.metadata.create_all(opened)
        opened.exec_driver_sql("PRAGMA foreign_keys = OFF")
        opened.exec_driver_sql("BEGIN")
        yield opened
        opened.exec_driver_sql("ROLLBACK")


def found(connection: Connection, attributes: list[dict[str, Any]], filter: Any) -> list[int]:
    """The places of the attributes that SQL finds."""
    connection.execute(FILES.delete())
    rows = [
        {
            "seq": place + 1,
            "id": f"file-{place}",
            "project_id": "default",
            "vector_store_id": "vs_1",
            "usage_bytes": 0,
            "created_at": 1,
            "status": "completed",
            "chunking_strategy": {},
            "attributes": each,
            "claimed": False,
            "attempts": 1,
        }
        for place, each in enumerate(attributes)
    ]
    if rows:
        connection.execute(insert(FILES), rows)
    query = select(FILES.c.seq).where(matches(FILTER.validate_python(filter))).order_by("seq")
    return [seq - 1 for seq in connection.execute(query).scalars()]


@given(attributes=st.lists(ATTRIBUTES, max_size=5), filter=FILTERS)
@bounded(deadline=None, max_examples=300)
def test_sql_finds_what_a_filter_means(
    connection: Connection, attributes: list[dict[str, Any]], filter: Any
) -> None:
    """Whatever characters keys and values have, and however filters are nested."""
    wanted = [place for place, each in enumerate(attributes) if means(filter, each)]
    assert found(connection, attributes, filter) == wanted


MIXED = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"b": 1}, {}]


@pytest.mark.parametrize(
    ("filter", "wanted"),
    [
        ({"type": "eq", "key": "a", "value": 1}, [0, 1]),
        ({"type": "eq", "key": "a", "value": "1"}, [2]),
        ({"type": "eq", "key": "a", "value": True}, [3]),
        ({"type": "ne", "key": "a", "value": 1}, [2, 3, 4, 5]),
        ({"type": "gte", "key": "a", "value": 0}, [0, 1]),
        ({"type": "gt", "key": "a", "value": ""}, [2]),
        ({"type": "in", "key": "a", "value": ["1", 7]}, [2]),
        ({"type": "in", "key": "a", "value": []}, []),
        ({"type": "nin", "key": "a", "value": [1]}, [2, 3, 4, 5]),
        ({"type": "and", "filters": []}, [0, 1, 2, 3, 4, 5]),
        ({"type": "or", "filters": []}, []),
    ],
)
def test_a_number_is_no_text_and_true_is_no_number(
    connection: Connection, filter: Any, wanted: list[int]
) -> None:
    """And a file without the attribute is neither equal to anything nor among anything."""
    assert found(connection, MIXED, filter) == wanted
