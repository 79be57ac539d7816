"""The stores: what the schema promises, and that each query finds its index."""

from __future__ import annotations

import sqlite3

import pytest

from server.db.database import Database, Tx
from server.db.stores import (
    MOST_CHARACTERS,
    Assistants,
    Files,
    Record,
    Slice,
    Spent,
    Threads,
    VectorStores,
)
from server.db.tables import metadata
from tests.db import rows

ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
FINAL = ("completed", "incomplete", "failed", "cancelled", "expired")


@pytest.mark.parametrize("status", ACTIVE)
async def test_second_active_run(db: Database, thread: Record, status: str) -> None:
    """The database itself refuses a second active run in a thread, whatever the first one does."""
    await db.write(lambda tx: rows.run(tx, thread.id, status=status))
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        await db.write(lambda tx: rows.run(tx, thread.id))
    other = await db.write(rows.thread)
    await db.write(lambda tx: rows.run(tx, other.id))


@pytest.mark.parametrize("status", FINAL)
async def test_run_after_one_that_ended(db: Database, thread: Record, status: str) -> None:
    """A run that has ended makes room for the next."""
    await db.write(lambda tx: rows.run(tx, thread.id, status=status))
    row = await db.write(lambda tx: rows.run(tx, thread.id))
    active = await db.read(lambda tx: tx.runs.active_in_thread(thread.id))
    assert active is not None
    assert active.id == row.id


async def test_held_runs(db: Database, thread: Record) -> None:
    """Runs that are held wait behind the active one; they neither count as active nor are next."""

    def unit(tx: Tx) -> tuple[Record, Record | None, Record | None]:
        rows.run(tx, thread.id, held=True)
        rows.run(tx, thread.id, held=True)
        nobody = tx.runs.next_queued(["tiny"], {})
        assert nobody is None
        active = rows.run(tx, thread.id)
        return active, tx.runs.active_in_thread(thread.id), tx.runs.next_queued(["tiny"], {})

    active, in_thread, waiting = await db.write(unit)
    assert in_thread == active == waiting


async def test_run_that_stops_being_held(db: Database, thread: Record) -> None:
    """Letting a held run go while another is active is refused as well."""

    def unit(tx: Tx) -> None:
        rows.run(tx, thread.id)
        held = rows.run(tx, thread.id, held=True)
        tx.runs.update(held.seq, {"held": False})

    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        await db.write(unit)


async def test_the_next_run_is_the_oldest(db: Database) -> None:
    """Among the queued runs of the models asked for."""

    def unit(tx: Tx) -> tuple[list[Record], list[Record | None]]:
        models = ("other", "tiny", "tiny")
        made = [rows.run(tx, rows.thread(tx).id, model_id=model) for model in models]
        asked = (["tiny"], ["tiny", "other"], ["third"], [])
        return made, [tx.runs.next_queued(models, {}) for models in asked]

    made, found = await db.write(unit)
    assert found == [made[1], made[0], None, None]


async def test_projects_take_turns(db: Database) -> None:
    """A run is of the project with the fewest in progress; of the same number, the oldest is.

    If a project had a turn, others that have as many in progress are first.
    """

    def unit(tx: Tx) -> list[str]:
        for project in ("many", "many", "many", "few", "few"):
            rows.run(tx, rows.thread(tx).id, project_id=project)
        after_turns = tx.runs.next_queued(["tiny"], {"many": 7, "few": 6, "none": 8})
        assert after_turns is not None
        assert after_turns.project_id == "few"
        turns = []
        while (run := tx.runs.next_queued(["tiny"], {})) is not None:
            tx.runs.update_if(run.id, "queued", None, {"status": "in_progress"})
            turns.append(run.project_id)
        return turns

    assert await db.write(unit) == ["many", "few", "many", "few", "many"]


async def test_conditional_update(db: Database, thread: Record) -> None:
    """A run changes only if it still has the status, and the fence where one is given."""

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id, fence=3)
        assert tx.runs.update_if(run.id, "in_progress", None, {"status": "failed"}) is None
        assert tx.runs.update_if(run.id, "queued", 2, {"status": "failed"}) is None
        assert tx.runs.by_id(run.id) == run
        claimed = tx.runs.update_if(run.id, "queued", 3, {"status": "in_progress", "fence": 4})
        assert claimed is not None
        assert (claimed.status, claimed.fence) == ("in_progress", 4)
        assert tx.runs.by_id(run.id) == claimed

    await db.write(unit)


async def test_active_runs(db: Database) -> None:
    """All that have not ended, oldest first, and how many there are of each kind."""

    def unit(tx: Tx) -> None:
        made = [rows.run(tx, rows.thread(tx).id, status=status) for status in (*ACTIVE, *FINAL)]
        made.append(rows.run(tx, rows.thread(tx).id))
        assert tx.runs.active() == [*made[:4], made[-1]]
        made.append(rows.run(tx, rows.thread(tx).id, model_id="other"))
        counts = {"queued": 2, "in_progress": 1, "requires_action": 1, "cancelling": 1}
        by_model = {("tiny", status): number for status, number in counts.items()}
        assert tx.runs.count_active() == {**by_model, ("other", "queued"): 1}

    await db.write(unit)


async def test_deleting_a_thread(db: Database, thread: Record) -> None:
    """Takes everything in it along, tombstones too, and nothing of another thread.

    It leaves its own tombstone.
    """
    tables = ("thread", "message", "run", "run_step", "turn", "thread_metadata", "run_metadata")
    tables += ("tombstone",)

    def fill(tx: Tx, thread_id: str) -> None:
        rows.message(tx, thread_id)
        tx.messages.bury(rows.message(tx, thread_id))
        run = rows.run(tx, thread_id, metadata={"a": "b"})
        rows.turn(tx, run, rows.step(tx, run).id, 1)

    def counts(tx: Tx) -> list[int]:
        raw = tx.queries.raw
        return [raw.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables]

    def unit(tx: Tx) -> None:
        fill(tx, thread.id)
        fill(tx, rows.thread(tx).id)
        for each in tx.threads.every(project_id=rows.PROJECT):
            tx.threads.update(each.seq, {"metadata": {"a": "b"}})
        assert counts(tx) == [2] * len(tables)
        tx.threads.bury(thread)
        *others, tombstones = counts(tx)
        assert others == [1] * len(others)
        assert tombstones == 2

    await db.write(unit)


async def test_parent_that_is_gone(db: Database) -> None:
    """A row under a thread that does not exist is refused."""
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await db.write(lambda tx: rows.message(tx, "thread_of_nobody"))


async def test_json_is_replaced(db: Database, thread: Record) -> None:
    """An update of a JSON column puts the new value in the place of the whole old one."""
    written = await db.write(
        lambda tx: rows.message(tx, thread.id, metadata={"a": "1", "b": "ü😀"}, content=[])
    )
    assert written.metadata == {"a": "1", "b": "ü😀"}
    updated = await db.write(lambda tx: tx.messages.update(written.seq, {"metadata": {"c": "3"}}))
    found = await db.read(lambda tx: tx.messages.by_id(written.id))
    assert updated == found
    assert updated.metadata == {"c": "3"}
    assert updated.content == []


async def test_json_null(db: Database, thread: Record) -> None:
    """None in a JSON column is NULL, so that `IS NULL` finds it."""

    def unit(tx: Tx) -> object:
        row = rows.message(tx, thread.id, incomplete_details=None)
        raw = tx.queries.raw
        return raw.execute(
            "SELECT incomplete_details IS NULL FROM message WHERE seq = ?", (row.seq,)
        ).fetchone()

    assert await db.write(unit) == (1,)


async def test_caller_of_another_project(db: Database, thread: Record) -> None:
    """A foreign id is as unknown as a made-up one, in every store."""

    def unit(tx: Tx) -> None:
        message, run = rows.message(tx, thread.id), rows.run(tx, thread.id)
        step, assistant = rows.step(tx, run), rows.assistant(tx, "asst_1")
        for project, known in ((rows.PROJECT, True), ("other", False)):
            for found in (
                tx.threads.get(project, thread.id),
                tx.threads.with_active_run(project, thread.id),
                tx.messages.get(project, thread.id, message.id),
                tx.runs.get(project, thread.id, run.id),
                tx.steps.get(project, thread.id, run.id, step.id),
                tx.assistants.get(project, assistant.id),
            ):
                assert (found is not None) is known

    await db.write(unit)


async def test_thread_with_active_run(db: Database, thread: Record) -> None:
    """One look tells whether a thread exists, which run is active in it, and what holds then."""

    def unit(tx: Tx) -> None:
        empty = tx.threads.with_active_run(rows.PROJECT, thread.id)
        assert empty is not None
        assert tuple(empty) == (thread.seq, None, 0, None)
        rows.run(tx, thread.id, status="completed")
        waiting = rows.run(tx, thread.id, held=True)
        idle = tx.threads.with_active_run(rows.PROJECT, thread.id)
        assert idle is not None
        assert tuple(idle) == (thread.seq, None, waiting.seq, None)
        run = rows.run(tx, thread.id)
        project = tx.projects.by_id(rows.PROJECT)
        assert project is not None
        tx.projects.update(project.seq, {"busy_policy": "queue"})
        busy = tx.threads.with_active_run(rows.PROJECT, thread.id)
        assert busy is not None
        assert tuple(busy) == (thread.seq, run.id, run.seq, "queue")

    await db.write(unit)


async def test_messages_of_a_conversation(db: Database, thread: Record) -> None:
    """The newest come oldest first, beside the run's own; of those its open one is not spoken."""

    def unit(tx: Tx) -> None:
        assert tx.messages.newest_seq(thread.id) == 0
        assert not tx.messages.any_from_user(thread.id)
        told = [rows.message(tx, thread.id, role="assistant", run_id="run_1") for _ in range(3)]
        assert not tx.messages.any_from_user(thread.id)
        asked = rows.message(tx, thread.id)
        assert tx.messages.any_from_user(thread.id)
        assert tx.messages.spoken(thread.id, "run_2", 2) == [told[-1], asked]
        assert tx.messages.spoken(thread.id, "run_2", 9) == [*told, asked]
        assert tx.messages.spoken(thread.id, "run_1", 1) == [asked, *told]
        assert tx.messages.newest_seq(thread.id) == asked.seq
        assert tx.messages.of_run("run_1") == told
        assert tx.messages.in_progress("run_1") is None
        opened = tx.messages.update(told[1].seq, {"status": "in_progress"})
        assert tx.messages.in_progress("run_1") == opened
        lost = {"incomplete_details": {"reason": "run_failed"}}
        tx.messages.update(told[0].seq, lost)
        assert tx.messages.spoken(thread.id, "run_1", 1) == [asked, told[2]]
        cancelled = {"incomplete_details": {"reason": "run_cancelled"}}
        kept = tx.messages.update(told[0].seq, cancelled)
        assert tx.messages.spoken(thread.id, "run_2", 9) == [kept, told[2], asked]

    await db.write(unit)


async def test_steps_of_a_run(db: Database, thread: Record) -> None:
    """In order; the open one; and the answered calls that began at or after a message."""

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id)
        done = {"type": "tool_calls", "status": "completed"}
        steps = [
            rows.step(tx, run, after_message=3, **done),
            rows.step(tx, run, after_message=5, **done),
            rows.step(tx, run, after_message=7, status="completed"),
            rows.step(tx, run, after_message=8, type="tool_calls"),
            rows.step(tx, run, after_message=9, **done),
        ]
        assert tx.steps.of_run(run.id) == steps
        assert tx.steps.in_progress(run.id) == steps[3]
        assert tx.steps.answered_calls(thread.id, 5) == [steps[1], steps[4]]

    await db.write(unit)


async def test_large_conversations(db: Database, thread: Record) -> None:
    """Of messages and of calls only the newest are read, if they are more than a context holds."""
    said = [{"type": "text", "text": {"value": "x" * (MOST_CHARACTERS // 2), "annotations": []}}]
    function = {"name": "f", "arguments": "{}", "output": "x" * (MOST_CHARACTERS // 2)}
    call = {"id": "call_1", "type": "function", "function": function}
    answered = {
        "type": "tool_calls",
        "status": "completed",
        "step_details": {"type": "tool_calls", "tool_calls": [call]},
    }

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id)
        told = [rows.message(tx, thread.id, content=said) for _ in range(3)]
        own = rows.message(tx, thread.id, run_id=run.id)
        steps = [rows.step(tx, run, **answered) for _ in range(3)]
        assert tx.messages.spoken(thread.id, run.id, 9) == [*told[1:], own]
        assert tx.steps.answered_calls(thread.id, 0) == steps[1:]

    await db.write(unit)


async def test_tokens_spent(db: Database, thread: Record) -> None:
    """A step's usage is the sum over its turns, a run's over all of its turns; none is zero."""

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id)
        for ordinal, step_id in enumerate(("step_1", "step_1", "step_2", None)):
            rows.turn(tx, run, step_id, ordinal)
        assert tx.turns.spent_by_step("step_1") == Spent(20, 10, 4, 0, 2)
        assert tx.turns.spent_by_run(run.id) == Spent(40, 20, 8, 0, 4)
        assert tx.turns.spent_by_run("run_of_nobody") == Spent(0, 0, 0, 0, 0)

    await db.write(unit)


async def test_turns_as_they_were_written(db: Database, thread: Record) -> None:
    """Those of steps that began at or after a message, newest first; not what has no place."""

    def unit(tx: Tx) -> None:
        run = rows.run(tx, thread.id)
        steps = [rows.step(tx, run, after_message=seq).id for seq in (3, 5, 5, 9)]
        turns = [
            rows.turn(tx, run, step_id, ordinal, prompt_length=length)
            for ordinal, (step_id, length) in enumerate(
                zip((*steps, steps[3], None), (7, 8, 0, 9, 10, 11), strict=True)
            )
        ]
        assert tx.turns.written_since(thread.id, 5, 9) == [turns[4], turns[3], turns[1]]
        assert tx.turns.written_since(thread.id, 0, 3) == [turns[4], turns[3], turns[1]]
        assert tx.turns.written_since(thread.id, 0, 9)[-1] == turns[0]
        assert tx.turns.written_since("thread_of_nobody", 0, 9) == []

    await db.write(unit)


async def test_every_query_has_an_index(db: Database, thread: Record) -> None:
    """No query of the stores reads a whole table; queues are read by their partial indexes."""
    asked: list[str] = []

    def queries(tx: Tx) -> None:
        run = rows.run(tx, thread.id)
        tx.runs.next_queued(["tiny", "other"], {})
        tx.runs.number_queued(5)
        tx.runs.number_queued(5, rows.PROJECT)
        tx.runs.at_work_of_key("key_1", 5)
        tx.runs.at_work_of_key(None, 5)
        for store in (Assistants, Threads, Files, VectorStores):
            store(tx.queries, most=5)._require_room(rows.PROJECT)
        tx.runs.active_in_thread(thread.id)
        tx.runs.active()
        tx.runs.count_active()
        tx.vector_store_files.count_waiting()
        tx.runs.update_if(run.id, "queued", 0, {"status": "in_progress"})
        tx.runs.of_project(rows.PROJECT, Slice(), {})
        for pairs in {}, {"a": "b"}, {"a": "b", "c": "d"}:
            tx.runs.of_project(rows.PROJECT, Slice(after=run.id), pairs, "failed")
            tx.threads.of_project(rows.PROJECT, Slice(order="asc"), pairs)
        tx.threads.with_active_run(rows.PROJECT, thread.id)
        tx.messages.in_progress(run.id)
        tx.messages.spoken(thread.id, run.id, 5)
        tx.messages.newest_seq(thread.id)
        tx.messages.any_from_user(thread.id)
        tx.steps.of_run(run.id)
        tx.steps.answered_calls(thread.id, 0)
        tx.steps.newest_search(thread.id)
        tx.steps.any_code_run(thread.id)
        tx.steps.rounds(run.id)
        tx.turns.spent_by_run(run.id)
        tx.turns.spent_by_step("step_1")
        tx.turns.written_since(thread.id, 0, 5)
        tx.messages.bury(rows.message(tx, thread.id))
        tx.threads.bury(thread)
        tx.files.get(rows.PROJECT, "file-1", 1)
        tx.files.kept(rows.PROJECT, Slice(), 1, "vision")
        tx.files.expired(1, 5)
        tx.files.take_from_tools(rows.PROJECT, "file-1")
        tx.files.has_blob("0")
        tx.files.blobs_among({"0", "1"})
        tx.files.among(rows.PROJECT, ["file-1"], 1)
        tx.vector_stores.touch(rows.PROJECT, ["vs_1"], 1)
        tx.vector_store_files.ingest_again("vs_1", ["file-1"])
        tx.uploads.overdue(1, 5)
        tx.upload_parts.size("upload_1")
        tx.upload_parts.drop("upload_1")
        tx.vector_store_files.shown("vs_1", "file-1", 1)
        tx.vector_store_files.kept("vs_1", Slice(), 1)
        tx.vector_store_files.tallies(["vs_1"], 1)
        tx.vector_store_files.tally_of_batch("vsfb_1", 1)
        tx.vector_store_files.next_to_ingest({})
        tx.vector_store_files.oldest_to_ingest_among([1, 2])
        tx.index_removals.oldest(5, after=1)

    def plans(tx: Tx) -> list[str]:
        raw = tx.queries.raw
        raw.set_trace_callback(asked.append)
        queries(tx)
        raw.set_trace_callback(None)
        return [
            f"{row[3]} <- {statement}"
            for statement in asked
            for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    found = await db.write(plans)
    no_tables = ("SCAN json_each", "SCAN call VIRTUAL", "SCAN given VIRTUAL", "SCAN CONSTANT ROW")
    no_tables += ("SCAN anon_1", "SCAN waiting <-")
    scans = [plan for plan in found if plan.startswith("SCAN") and not plan.startswith(no_tables)]
    queues = ("ix_run_active", "ix_run_queue", "ix_vector_store_file_queue")
    assert all(any(queue in plan for queue in queues) for plan in scans), scans
    assert sum("SEARCH run USING INDEX ix_run_key" in plan for plan in found) == 2
    assert any("SEARCH run USING INDEX ix_run_active (status=?)" in plan for plan in found)
    alone = "SEARCH run USING COVERING INDEX"
    assert any(f"{alone} ix_run_active (status=?)" in plan for plan in found)
    by_project = "ix_run_project_id_status_seq (project_id=? AND status=?)"
    assert any(f"{alone} {by_project}" in plan for plan in found)
    assert any("SEARCH run USING INDEX uq_run_active_thread" in plan for plan in found)
    assert not [plan for plan in found if plan.startswith("USE TEMP B-TREE FOR ORDER BY")][1:]
    by_ids = ".id IN (SELECT given."
    sought = [plan for plan in found if plan.startswith("SEARCH") and by_ids in plan]
    assert len(sought) == 3
    assert all("(id=?" in plan for plan in sought), sought


def test_names_follow_the_convention() -> None:
    """Every constraint and index has a name that a migration can refer to."""
    prefixes = ("ix_", "uq_", "ck_", "fk_", "pk_")
    for table in metadata.sorted_tables:
        names = [constraint.name for constraint in table.constraints]
        names += [index.name for index in table.indexes]
        for name in names:
            assert str(name).startswith(tuple(f"{prefix}{table.name}" for prefix in prefixes))
