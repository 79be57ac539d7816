"""Statements on the driver give what SQLAlchemy's own execution of them gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

from server.db import statements, tables
from server.db.connection import open_engine
from server.db.database import Database, Tx
from server.db.queries import MOST_PREPARED, Prepared, Queries, _prepared
from server.db.stores import Record
from server.db.tables import core
from tests.db import rows

RUN = core(tables.Run)
TURN = core(tables.Turn)


@pytest.fixture
def queries(path: Path) -> Iterator[Queries]:
    """Over a database with its tables, and nothing in them."""
    with open_engine(path, busy_timeout=1.0).connect() as connection:
        yield Queries(connection)


async def test_rows_are_those_of_sqlalchemy(db: Database, thread: Record) -> None:
    """Of every type that a column has: text, numbers, true and false, JSON, bytes and nothing."""

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id, metadata={"ü": "😀"}, usage=None, tools=[{"type": "a"}])
        rows.turn(tx, run, None, 1)
        for table in (RUN, TURN):
            query = select(table).order_by(table.c.seq)
            (ours,), (theirs,) = tx.queries.all(query), tx.queries.fresh(query)
            assert ours == theirs
            assert [*map(type, ours)] == [*map(type, theirs)]
            assert ours._asdict() == theirs._asdict()
        assert run.parallel_tool_calls is True
        assert run.held is False
        assert run.usage is None

    await db.write(unit)


async def test_a_new_row_has_its_defaults(db: Database, thread: Record) -> None:
    """Also where many are added at once; what is given goes before."""

    def unit(tx: Tx) -> list[Record]:
        values = [
            {**rows.message_values(thread.id, f"msg_{i}"), "given_to": i, "run_id": None}
            for i in range(3)
        ]
        tx.messages.insert_all(values)
        return [*tx.messages.every(thread_id=thread.id)]

    added = await db.write(unit)
    assert [(row.given_to, row.held) for row in added] == [(0, False), (1, False), (2, False)]


def test_lists(queries: Queries) -> None:
    """A list may be empty, long, and have texts of any kind in it."""
    words = ["", "a", "'", '"', "ü", "😀", "\\", "[1]", "1"]
    add = statements.insert_into(core(tables.Thread))
    values = {"project_id": rows.PROJECT, "created_at": 1, "metadata": {}, "tool_resources": {}}
    for word in words:
        queries.one(add, {"id": word, **values})
    for wanted in ([], words[:1], words, [*words, *map(str, range(5000))]):
        found = queries.scalars(statements.THREADS_AMONG, {"ids": wanted})
        assert set(found) == set(wanted) & set(words)


def test_the_ways_to_ask(queries: Queries) -> None:
    """One row or none, one value, all of them, and how many have changed."""
    table = core(tables.IndexRemoval)
    add = statements.insert_into(table)
    first, *_ = [
        queries.one(add, {"vector_store_id": f"vs_{i}", "file_id": None}) for i in range(3)
    ]
    every = select(table).order_by(table.c.seq)
    of = every.where(table.c.vector_store_id == bindparam("store"))
    assert queries.first(every) == first == (1, "vs_0", None)
    assert queries.first(of, {"store": "vs_9"}) is None
    assert queries.scalar(of, {"store": "vs_2"}) == 3
    assert queries.scalar(of, {"store": "vs_9"}) is None
    assert queries.scalars(every) == [1, 2, 3]
    assert next(iter(queries.some(every))) == first
    assert queries.run(statements.SETTLE_REMOVALS, {"seqs": [1, 3, 7]}) == 2
    assert [row.vector_store_id for row in queries.all(every)] == ["vs_1"]
    with pytest.raises(AssertionError):
        queries.one(of, {"store": "vs_9"})


def test_a_value_that_is_missing_is_no_null(queries: Queries) -> None:
    """Whoever forgets one is told so."""
    with pytest.raises(KeyError, match="thread"):
        queries.first(statements.HELD_RUNS)


def test_no_more_are_kept_than_so_many(queries: Queries) -> None:
    """Clients choose which columns a request changes, and in which order."""
    update = statements.update_of(core(tables.Assistant))
    names = [column.name for column in core(tables.Assistant).c if column.name != "seq"]
    chosen: Callable[[int], list[str]] = lambda i: [n for b, n in enumerate(names) if i >> b & 1]  # noqa: E731
    for i in range(1, MOST_PREPARED + 100):
        queries.first(update, {"at_seq": 1, **dict.fromkeys(chosen(i))})
    assert _prepared.cache_info().currsize <= MOST_PREPARED


def test_prepared_once(queries: Queries) -> None:
    """For the same names, in whatever order."""
    update = statements.update_of(RUN)
    queries.first(update, {"at_seq": 1, "fence": 2, "attempt": 3})
    before = _prepared.cache_info().misses
    queries.first(update, {"attempt": 3, "at_seq": 1, "fence": 2})
    assert _prepared.cache_info().misses == before
    assert Prepared(update, frozenset(["at_seq", "fence"])).sql.startswith("UPDATE run SET fence=?")
