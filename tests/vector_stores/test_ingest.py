"""How files get into vector stores, whatever happens to them on the way."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from server import schemas
from server.db.database import DatabaseBusy, DatabaseFull
from server.search.extraction import NotExtracted
from server.search.index import Indexes
from server.vector_stores import ingest, rows
from server.vector_stores.queue import TRIED_TOO_OFTEN
from tests.support import LiveServer, eventually, live_server
from tests.vector_stores.conftest import (
    Script,
    broken,
    clean,
    counts,
    files_in,
    settled,
    store_of,
    store_with,
    text_in_index,
    uploaded,
)

PROJECT = "default"


async def test_files_are_taken_in_with_their_text(live: LiveServer) -> None:
    """Completed, with the bytes that they take, and no error."""
    store = await store_of(live, "One fish.", "Two fish.")
    for file_id, row in (await settled(live, store)).items():
        assert (row.status, row.last_error, row.claimed) == ("completed", None, False)
        assert row.usage_bytes > 0
        assert (await text_in_index(live, store, file_id)).endswith(" fish.")


async def test_two_at_once_and_the_oldest_first(live: LiveServer, script: Script) -> None:
    """No more than the setting says."""
    texts = [f"Number {number}." for number in range(6)]
    gates = [script.holds(text) for text in texts]
    store = await store_of(live, *texts)
    for begun in range(2, 7):
        await eventually(_begun(script), lambda number, begun=begun: number >= begun)
        assert live.services.ingestor.running == 2
        gates[begun - 2].set()
    gates[-1].set()
    await settled(live, store)
    assert script.begun == texts
    assert script.most_at_once == 2


def _begun(script: Script) -> Any:
    async def number() -> int:
        return len(script.begun)

    return number


async def test_projects_take_turns(tmp_path: Path, script: Script) -> None:
    """Whoever brings many files does not keep the others waiting for all of them."""
    async with live_server(tmp_path, vector_stores__parallel=1) as live:
        gate = script.holds("mine 0")
        mine = await store_of(live, *(f"mine {number}" for number in range(4)))
        theirs = await store_of(live, "theirs", project="other")
        await script.arrived.wait()
        gate.set()
        await settled(live, theirs)
        await settled(live, mine)
        assert script.begun.index("theirs") <= 2


@pytest.mark.parametrize("code", ["unsupported_file", "invalid_file"])
async def test_a_file_that_has_no_text_fails_at_once(
    live: LiveServer, script: Script, code: Any
) -> None:
    """With the reason; the others are not harmed."""
    script.fails("bad", NotExtracted(code, "There is no text in it."))
    store = await store_of(live, "bad", "good")
    bad, good = (await settled(live, store)).values()
    assert (bad.status, good.status) == ("failed", "completed")
    assert bad.last_error == {"code": code, "message": "There is no text in it."}
    assert bad.attempts == 1
    assert await text_in_index(live, store, bad.id) == ""


async def test_what_may_pass_is_tried_again(live: LiveServer, script: Script) -> None:
    """Whether extraction says so, or something breaks that nobody thought of."""
    script.fails("once", broken())
    script.fails("twice", OSError("The disk hiccupped."), ZeroDivisionError())
    store = await store_of(live, "once", "twice")
    rows = (await settled(live, store)).values()
    assert [(row.status, row.attempts) for row in rows] == [("completed", 2), ("completed", 3)]


async def test_it_is_not_tried_for_ever(live: LiveServer, script: Script) -> None:
    """Three attempts, then the file has failed, with what is known of the reason."""
    script.fails("told", *[broken("It is stubborn.")] * 3)
    script.fails("untold", *[ZeroDivisionError()] * 3)
    store = await store_of(live, "told", "untold")
    told, untold = (await settled(live, store)).values()
    assert told.last_error == {"code": "server_error", "message": "It is stubborn."}
    assert untold.last_error == {"code": "server_error", "message": TRIED_TOO_OFTEN}
    assert (told.attempts, untold.attempts) == (3, 3)


async def test_what_was_in_progress_when_the_server_died_is_taken_in_alone(
    tmp_path: Path, script: Script
) -> None:
    """File by file, however often, before all others: so it shows which one the server dies of."""
    texts = [f"text {number}" for number in range(4)]
    async with live_server(tmp_path, vector_stores__parallel=4) as live:
        gates = [script.holds(text) for text in texts]
        store = await store_of(live, *texts)
        assert await eventually(_begun(script), lambda begun: begun == 4)
        [first, second, *_] = await files_in(live, store)

        def died(tx: Any) -> None:
            for file_id in (first, second):
                row = tx.vector_store_files.get(store, file_id)
                tx.vector_store_files.update(row.seq, {"claimed": True, "attempts": 4})

        await live.services.ingestor.stop()
        await live.services.db.write(died)
    script.begun.clear()
    async with live_server(tmp_path, vector_stores__parallel=4) as live:
        for number in (1, 2):
            assert await eventually(_begun(script), lambda begun, n=number: begun == n)
            assert live.services.ingestor.running == 1
            gates[number - 1].set()
        for gate in gates:
            gate.set()
        rows = (await settled(live, store)).values()
        assert [(row.status, row.attempts) for row in rows] == [
            *[("completed", 5)] * 2,
            *[("completed", 1)] * 2,
        ]


async def test_a_file_that_ended_the_server_nine_times_fails(tmp_path: Path) -> None:
    """It is not begun a tenth time."""
    async with live_server(tmp_path, vector_stores__parallel=1) as live:
        (file_id,) = await uploaded(live, "poison")

        def poisoned(tx: Any) -> str:
            store = rows.create_store(tx, PROJECT, rows.alike([file_id]))
            row = tx.vector_store_files.get(store.id, file_id)
            tx.vector_store_files.update(row.seq, {"attempts": 9})
            return str(store.id)

        store = await live.services.db.write(poisoned)
        row = (await settled(live, store))[file_id]
        assert row.last_error == {"code": "server_error", "message": TRIED_TOO_OFTEN}


async def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Counted in tokens."""
    async with live_server(tmp_path, vector_stores__max_tokens=10) as live:
        store = await store_of(live, "word " * 1000)
        (row,) = (await settled(live, store)).values()
        message = "The file has more than 10 tokens."
        assert row.last_error == {"code": "invalid_file", "message": message}


async def test_a_full_disk_is_waited_for(
    live: LiveServer, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of an ingestion that cannot be written is written later."""
    complete, full = ingest.complete, [True, True]

    def at_last(*given: Any) -> bool:
        if full:
            full.pop()
            raise DatabaseFull("no")
        return complete(*given)

    monkeypatch.setattr(ingest, "complete", at_last)
    store = await store_of(live, "text")
    (row,) = (await settled(live, store)).values()
    assert (row.status, row.attempts) == ("completed", 3)


@pytest.mark.parametrize("step", ["release", "fail", "claim"])
async def test_a_busy_database_loses_nothing(
    live: LiveServer, script: Script, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever could not be written is written later."""
    monkeypatch.setattr(ingest, "PAUSE", 0.01)
    work, busy = getattr(ingest, step), [True, True]

    def at_last(*given: Any, **named: Any) -> Any:
        if busy:
            busy.pop()
            raise DatabaseBusy("no")
        return work(*given, **named)

    monkeypatch.setattr(ingest, step, at_last)
    script.fails("again", broken())
    script.fails("bad", *[NotExtracted("invalid_file", "No.")] * 3)
    store = await store_of(live, "again", "bad")
    statuses = [row.status for row in (await settled(live, store)).values()]
    assert statuses == ["completed", "failed"]
    assert busy == []


async def test_counts_tell_how_far_it_has_come(live: LiveServer, script: Script) -> None:
    """File by file, and the store is ready when none is left."""
    script.fails("bad", NotExtracted("invalid_file", "No."))
    gate = script.holds("slow")
    store = await store_of(live, "slow", "bad", "good")
    read = live.services.db.read

    async def shown() -> schemas.FileCounts:
        return await read(lambda tx: counts(tx, store))

    wanted = schemas.FileCounts(in_progress=1, completed=1, failed=1, cancelled=0, total=3)
    assert await eventually(shown, lambda found: found == wanted)
    assert not await live.services.ingestor.wait_ready(store, 0.01)
    gate.set()
    assert await live.services.ingestor.wait_ready(store, 20.0)
    assert (await shown()).completed == 2


async def test_whoever_waits_for_a_store_hears_of_its_end(live: LiveServer, script: Script) -> None:
    """Also where nothing is left of it to wait for."""
    script.holds("slow")
    store = await store_of(live, "slow")
    waiting = asyncio.create_task(live.services.ingestor.wait_ready(store, 20.0))
    await script.arrived.wait()
    assert not waiting.done()
    (file_id,) = await files_in(live, store)
    await live.services.db.write(lambda tx: rows.remove_file(tx, PROJECT, store, file_id))
    assert await waiting
    assert await live.services.ingestor.wait_ready("vs_none", 20.0)


async def test_what_was_removed_meanwhile_is_dropped(live: LiveServer, script: Script) -> None:
    """From the index, too, when its ingestion has ended."""
    gate = script.holds("slow")
    store = await store_of(live, "slow", "other")
    await script.arrived.wait()
    slow, other = await files_in(live, store)
    await live.services.db.write(lambda tx: rows.remove_file(tx, PROJECT, store, slow))
    gate.set()
    assert list(await settled(live, store)) == [other]
    assert await text_in_index(live, store, slow) == ""
    assert await text_in_index(live, store, other) == "other"


async def test_failures_are_forgotten_with_their_files(live: LiveServer, script: Script) -> None:
    """Whether one was removed before it could be tried again, or refused then."""
    gate, ingestor = script.holds("removed"), live.services.ingestor
    script.fails("removed", broken())
    script.fails("refused", broken(), NotExtracted("invalid_file", "It is none."))
    store = await store_of(live, "removed", "refused")
    await script.arrived.wait()
    removed, refused = await files_in(live, store)
    await live.services.db.write(lambda tx: rows.remove_file(tx, PROJECT, store, removed))
    gate.set()
    row = (await settled(live, store))[refused]
    assert (row.status, row.attempts) == ("failed", 2)

    async def working() -> int:
        return ingestor.running

    await eventually(working, lambda number: number == 0)
    assert ingestor._failures
    await ingestor.sweep()
    assert not ingestor._failures


async def test_those_that_are_tried_again_are_remembered(live: LiveServer, script: Script) -> None:
    """A sweep between the attempts changes nothing."""
    script.fails("bad", *[broken()] * 3)
    store = await store_of(live, "bad")

    async def busy() -> bool:
        await live.services.ingestor.sweep()
        return await live.services.db.read(lambda tx: tx.vector_stores.is_busy(store))

    await eventually(busy, lambda still: not still)
    [row] = (await settled(live, store)).values()
    assert (row.status, row.attempts) == ("failed", 3)


async def test_what_was_added_again_meanwhile_is_there(live: LiveServer, script: Script) -> None:
    """However the two ends come, the later one counts."""
    gate = script.holds("slow")
    store = await store_of(live, "slow")
    await script.arrived.wait()
    (file_id,) = await files_in(live, store)

    def again(tx: Any) -> None:
        rows.remove_file(tx, PROJECT, store, file_id)
        rows.add_file(tx, PROJECT, store, schemas.CreateVectorStoreFile(file_id=file_id))

    await live.services.db.write(again)
    gate.set()
    (row,) = (await settled(live, store)).values()
    assert (row.status, row.attempts) == ("completed", 1)
    assert script.begun == ["slow", "slow"]
    assert await text_in_index(live, store, file_id) == "slow"


async def test_a_deleted_store_takes_its_index_along(
    live: LiveServer, script: Script, tmp_path: Path
) -> None:
    """Even if it is deleted in the middle of an ingestion; the files stay files."""
    gate = script.holds("slow")
    store = await store_of(live, "slow", "quick")
    file_ids = list(await files_in(live, store))

    def ready(tx: Any) -> bool:
        return counts(tx, store).completed == 1

    async def half_done() -> bool:
        return await live.services.db.read(ready)

    await eventually(half_done, bool)
    await live.services.db.write(
        lambda tx: rows.delete_store(tx, rows.require_store(tx, PROJECT, store))
    )
    gate.set()
    await clean(live)
    for file_id in file_ids:
        assert await text_in_index(live, store, file_id) == ""
    kept = await live.services.db.read(lambda tx: tx.files.among(PROJECT, file_ids, tx.now))
    assert sorted(kept) == sorted(file_ids)


async def test_a_deleted_file_leaves_every_store(live: LiveServer, script: Script) -> None:
    """And every index; also where it was about to come."""
    gate = script.holds("slow")
    slow, quick = await uploaded(live, "slow", "quick")
    stores = [await store_with(live, slow, quick) for _ in range(3)]
    for file_id in (slow, quick):
        await live.services.files.delete(PROJECT, file_id)
    gate.set()
    for store in stores:
        assert await settled(live, store) == {}
        assert await text_in_index(live, store, quick) == ""
        assert await text_in_index(live, store, slow) == ""


async def test_a_cancelled_batch_goes_no_further(live: LiveServer, script: Script) -> None:
    """What is done stays; what was being done is dropped; the rest is not begun."""
    texts = ["quick", "slow 1", "slow 2", "last"]
    gates = [script.holds(text) for text in texts[1:3]]
    file_ids = await uploaded(live, *texts)
    store = await store_with(live)
    write = live.services.db.write
    wanted = rows.alike(file_ids)
    batch = await write(lambda tx: rows.create_batch(tx, PROJECT, store, wanted))
    await eventually(_begun(script), lambda number: number == 3)
    await write(lambda tx: rows.cancel_batch(tx, PROJECT, store, batch.id))
    for gate in gates:
        gate.set()
    found = await settled(live, store)
    statuses = [found[file_id].status for file_id in file_ids]
    assert statuses == ["completed", "cancelled", "cancelled", "cancelled"]
    assert script.begun == texts[:3]
    for file_id in file_ids[1:]:
        assert await text_in_index(live, store, file_id) == ""
    shown = await write(
        lambda tx: rows.shown_batch(tx, rows.cancel_batch(tx, PROJECT, store, batch.id))
    )
    assert (shown.status, shown.file_counts.cancelled) == ("cancelled", 3)


async def test_an_index_that_cannot_be_cleaned_is_cleaned_later(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile files are taken in all the same."""
    monkeypatch.setattr(ingest, "PAUSE", 0.01)
    store = await store_of(live, "old")
    (old,) = await settled(live, store)
    remove, broken = Indexes.remove, [True, True]

    async def at_last(indexes: Indexes, *given: Any) -> None:
        if broken:
            broken.pop()
            raise OSError("The disk hiccupped.")
        await remove(indexes, *given)

    monkeypatch.setattr(Indexes, "remove", at_last)
    await live.services.db.write(lambda tx: rows.remove_file(tx, PROJECT, store, old))
    (new,) = await settled(live, await store_of(live, "new"))
    assert await text_in_index(live, store, old) == ""
    assert broken == []
    assert new


async def test_an_index_that_is_lost_is_made_again(live: LiveServer, script: Script) -> None:
    """Of what is missing in it, when somebody says so."""
    store = await store_of(live, "one", "two")
    one, two = await settled(live, store)
    await live.services.searcher._indexes.remove(store, [one])
    gate = script.holds("one")
    live.services.ingestor.suspect(store)
    await eventually(_begun(script), lambda number: number == 3)
    statuses = {file_id: row.status for file_id, row in (await files_in(live, store)).items()}
    assert statuses == {one: "in_progress", two: "completed"}
    gate.set()
    await settled(live, store)
    assert await text_in_index(live, store, one) == "one"


async def test_an_index_that_cannot_be_read_holds_up_no_other(
    live: LiveServer, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again by the sweep, and what it lacks is then taken in."""
    spoilt, sound = await store_of(live, "one"), await store_of(live, "two")
    (one,), (two,) = await settled(live, spoilt), await settled(live, sound)
    indexes, missing, unreadable = live.services.searcher._indexes, Indexes.missing, {spoilt}
    await indexes.remove(spoilt, [one])
    await indexes.remove(sound, [two])

    async def at_last(indexes: Indexes, store_id: str, file_ids: Any) -> set[str]:
        if store_id in unreadable:
            raise sqlite3.OperationalError("disk I/O error")
        return await missing(indexes, store_id, file_ids)

    monkeypatch.setattr(Indexes, "missing", at_last)
    for store in (spoilt, sound):
        live.services.ingestor.suspect(store)
    await eventually(_begun(script), lambda number: number == 3)
    await settled(live, sound)
    assert await text_in_index(live, sound, two) == "two"
    assert await text_in_index(live, spoilt, one) == ""
    unreadable.clear()
    await live.services.ingestor.sweep()
    await eventually(_begun(script), lambda number: number == 4)
    await settled(live, spoilt)
    assert await text_in_index(live, spoilt, one) == "one"


async def test_indexes_that_are_gone_are_made_again_at_the_start(tmp_path: Path) -> None:
    """They can be left out of a backup: the files are what they are made of."""
    async with live_server(tmp_path) as live:
        store = await store_of(live, "one", "two")
        file_ids = list(await settled(live, store))
    shutil.rmtree(tmp_path / "indexes")

    async with live_server(tmp_path) as live:

        async def texts() -> list[str]:
            return [await text_in_index(live, store, file_id) for file_id in file_ids]

        await eventually(texts, lambda found: found == ["one", "two"])
        assert {row.status for row in (await settled(live, store)).values()} == {"completed"}


async def test_a_server_that_stops_leaves_the_rest_for_later(
    tmp_path: Path, script: Script
) -> None:
    """It does not wait for slow files, and to have been stopped is no attempt."""
    gate = script.holds("slow")
    async with live_server(tmp_path) as live:
        store = await store_of(live, "slow")
        await script.arrived.wait()
    gate.set()
    async with live_server(tmp_path) as live:
        (row,) = (await settled(live, store)).values()
        assert (row.status, row.attempts) == ("completed", 1)
