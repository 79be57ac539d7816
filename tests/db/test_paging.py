"""Pages by cursor: complete, in order, without repetition, whatever happens between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from server.db.connection import driver, open_engine, roll_back
from server.db.database import Database, Tx
from server.db.queries import Queries
from server.db.stores import MOST_CHARACTERS, Record, Slice, Store, Stores, UnknownCursor
from tests.db import rows

Order = Literal["asc", "desc"]
ORDERS = st.sampled_from(["asc", "desc"])
LISTS = st.sampled_from(["messages", "assistants", "threads"])
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    """A connection whose changes are undone after each example."""
    with open_engine(path, busy_timeout=1.0).connect() as connection:
        yield connection


class Listing:
    """A list of messages, assistants or threads that grows and shrinks.

    Undone when the example ends.
    """

    def __init__(self, connection: Connection, name: str, length: int) -> None:
        self._raw = driver(connection)
        self._raw.execute("BEGIN IMMEDIATE")
        self._stores = Stores(Queries(connection), {})
        self._name, self._made = name, 0
        self.live: list[str] = []
        self._thread("thread_1", "another")
        for _ in range(length):
            self.add()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        roll_back(self._raw)

    @property
    def store(self) -> Store:
        store: Store = getattr(self._stores, self._name)
        return store

    def add(self) -> None:
        self._made += 1
        name = f"{self._name}_{self._made}"
        if self._name == "messages":
            self._stores.messages.insert(rows.message_values("thread_1", name))
        elif self._name == "threads":
            self._thread(name, rows.PROJECT)
        else:
            rows.assistant(self._stores, name)
        self.live.append(name)

    def _thread(self, name: str, project: str) -> None:
        ident = {"id": name, "project_id": project, "created_at": 1}
        self._stores.threads.insert({**ident, "metadata": {}, "tool_resources": {}})

    def remove(self, place: int) -> None:
        """Delete the one at this place, counted round and round."""
        if self.live:
            row = self.store.by_id(self.live.pop(place % len(self.live)))
            assert row is not None
            self.store.bury(row)

    def page(self, part: Slice) -> tuple[list[str], bool]:
        parent = "thread_1" if self._name == "messages" else rows.PROJECT
        page = self.store.page(parent, part)
        return [row.id for row in page.rows], page.has_more


changes = st.lists(
    st.one_of(
        st.just(lambda listing: listing.add()),
        st.integers(0, 30).map(lambda place: lambda listing: listing.remove(place)),
    ),
    max_size=4,
)


@PROPERTY
@given(
    name=LISTS,
    length=st.integers(0, 12),
    order=ORDERS,
    limit=st.integers(0, 13),
    after=st.none() | st.integers(0, 11),
    before=st.none() | st.integers(0, 11),
)
def test_any_part(
    connection: Connection,
    name: str,
    length: int,
    order: Order,
    limit: int,
    after: int | None,
    before: int | None,
) -> None:
    """A page is the part of the list that its cursors enclose, cut at the limit."""
    with Listing(connection, name, length) as listing:
        ids = listing.live if order == "asc" else listing.live[::-1]
        start = after if after is not None and after < length else None
        end = before if before is not None and before < length else None
        part = Slice(
            limit,
            order,
            after=None if start is None else ids[start],
            before=None if end is None else ids[end],
        )
        wanted = ids[0 if start is None else start + 1 : end]
        backwards = end is not None and start is None
        cut = wanted[max(0, len(wanted) - limit) :] if backwards else wanted[:limit]
        assert listing.page(part) == (cut, len(wanted) > limit)


@PROPERTY
@given(
    name=LISTS,
    length=st.integers(1, 15),
    order=ORDERS,
    limit=st.integers(1, 5),
    backwards=st.booleans(),
    meanwhile=st.lists(changes, max_size=20),
)
def test_walk_through_a_list_that_changes(
    connection: Connection,
    name: str,
    length: int,
    order: Order,
    limit: int,
    backwards: bool,
    meanwhile: list[list[Callable[[Listing], None]]],
) -> None:
    """What is there all the while is met exactly once and in order; nothing is met twice.

    The cursor may be deleted between two pages, as clients do that delete while they page.
    """
    with Listing(connection, name, length) as listing:
        throughout, met = set(listing.live), list[str]()
        upcoming = iter(meanwhile)
        part = Slice(limit, order)
        if backwards:
            last = listing.live[-1 if order == "asc" else 0]
            part, met = Slice(limit, order, before=last), [last]
        more = True
        while more:
            ids, more = listing.page(part)
            assert set(ids) <= set(listing.live)
            met = [*ids, *met] if backwards else [*met, *ids]
            for change in next(upcoming, ()):
                change(listing)
            throughout &= set(listing.live)
            if ids:
                part = (
                    Slice(limit, order, before=ids[0])
                    if backwards
                    else Slice(limit, order, after=ids[-1])
                )
        places = [int(found.rpartition("_")[2]) for found in met]
        assert places == sorted(set(places), reverse=order == "desc")
        assert throughout <= set(met)


async def test_cursor_that_was_deleted(db: Database, thread: Record) -> None:
    """Paging goes on where the deleted object stood, also when it was the newest one."""

    def unit(tx: Tx) -> None:
        first, second, third = (rows.message(tx, thread.id) for _ in range(3))
        tx.messages.bury(second)
        onward = Slice(order="asc", after=second.id)
        assert tx.messages.page(thread.id, onward).rows == [third]
        assert tx.messages.page(thread.id, Slice(after=second.id)).rows == [first]
        tx.messages.bury(third)
        fourth = rows.message(tx, thread.id)
        onward = Slice(order="asc", after=third.id)
        assert tx.messages.page(thread.id, onward).rows == [fourth]

    await db.write(unit)


async def test_newest_assistant_deleted(db: Database) -> None:
    """Its place in the list is not given to the next one, or a client would miss that."""

    def unit(tx: Tx) -> None:
        deleted = rows.assistant(tx, "asst_1")
        tx.assistants.bury(deleted)
        added = rows.assistant(tx, "asst_2")
        onward = Slice(order="asc", after=deleted.id)
        assert tx.assistants.page(rows.PROJECT, onward).rows == [added]

    await db.write(unit)


@pytest.mark.parametrize("end", ["after", "before"])
async def test_foreign_cursor(db: Database, thread: Record, end: str) -> None:
    """A cursor of another list, live or deleted, is as unknown as a made-up one."""

    def unit(tx: Tx) -> None:
        elsewhere = rows.thread(tx).id
        live, buried = rows.message(tx, elsewhere), rows.message(tx, elsewhere)
        tx.messages.bury(buried)
        for cursor in (live.id, buried.id, "msg_of_nobody"):
            with pytest.raises(UnknownCursor) as caught:
                tx.messages.page(thread.id, Slice(**{end: cursor}))  # type: ignore[arg-type]
            assert caught.value.object_id == cursor

    await db.write(unit)


async def test_page_of_a_run(db: Database, thread: Record) -> None:
    """A further condition narrows the list; its cursors keep their meaning."""

    def unit(tx: Tx) -> None:
        mine = [rows.message(tx, thread.id, run_id=run) for run in ("a", "b", "a", "a")]
        of_run = tx.messages.table.c.run_id == "a"
        page = tx.messages.page(thread.id, Slice(1, "asc", after=mine[1].id), of_run)
        assert (page.rows, page.has_more) == ([mine[2]], True)

    await db.write(unit)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_of_large_objects_ends_before_its_limit(db: Database, order: Order) -> None:
    """With the one that makes it large, and says that others follow, whichever way it goes."""
    text = {"value": "x" * (MOST_CHARACTERS // 2), "annotations": []}
    content = [{"type": "text", "text": text}]

    def work(tx: Tx) -> tuple[str, list[str]]:
        thread = rows.thread(tx)
        made = [rows.message(tx, thread.id, content=content).id for _ in range(5)]
        return thread.id, made if order == "asc" else made[::-1]

    def taken(tx: Tx, **cursor: str) -> tuple[list[int], bool]:
        page = tx.messages.page(thread_id, Slice(100, order, **cursor))
        return [ids.index(row.id) for row in page.rows], page.has_more

    thread_id, ids = await db.write(work)
    assert await db.read(taken) == ([0, 1], True)
    assert await db.read(lambda tx: taken(tx, after=ids[1])) == ([2, 3], True)
    assert await db.read(lambda tx: taken(tx, after=ids[3])) == ([4], False)
    assert await db.read(lambda tx: taken(tx, before=ids[4])) == ([2, 3], True)
    assert await db.read(lambda tx: taken(tx, before=ids[2])) == ([0, 1], False)
