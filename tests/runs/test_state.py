"""The state table, over a real database: every pair of states, and the fence of a claim."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from server.db.database import Database, Tx
from server.db.migrate import upgrade
from server.ids import RandomIds
from server.runs.state import (
    TERMINAL,
    TRANSITIONS,
    Claim,
    IllegalTransition,
    RunMoved,
    RunStatus,
    move,
)
from tests.support import ManualClock

STATES: tuple[RunStatus, ...] = get_args(RunStatus)
ARROWS = {
    "queued": "in_progress cancelling expired failed",
    "in_progress": "completed incomplete failed requires_action cancelling expired queued",
    "requires_action": "queued cancelling expired",
    "cancelling": "cancelled expired",
}


@pytest.fixture
async def db(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    """A database as the migrations make it."""
    path = tmp_path / "state.db"
    upgrade(path)
    database = Database(path, clock, RandomIds())
    yield database
    database.close()


def a_run(tx: Tx, status: RunStatus, fence: int = 3) -> str:
    """The id of a new run in a thread of its own."""
    shared = {"project_id": "default", "created_at": tx.now, "metadata": {}}
    thread = tx.threads.insert({"id": tx.ids.new("thread"), "tool_resources": {}, **shared})
    run = tx.runs.insert(
        {
            "id": tx.ids.new("run"),
            "thread_id": thread.id,
            "assistant_id": "asst_1",
            "status": status,
            "model": "gpt-4o",
            "model_id": "m",
            "tools": [],
            "tool_resources": {},
            "truncation_strategy": {"type": "auto", "last_messages": None},
            "response_format": "auto",
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "held": False,
            "fence": fence,
            "attempt": 0,
            "worker_deaths": 0,
            "restarts": 0,
            **shared,
        }
    )
    return str(run.id)


def test_table_is_the_one_that_is_documented() -> None:
    """These arrows and no others; the states without one are final."""
    for state in STATES:
        assert TRANSITIONS[state] == set(ARROWS.get(state, "").split())
    assert set(STATES) - set(ARROWS) == TERMINAL


async def test_every_pair_of_states(db: Database) -> None:
    """An arrow of the table is taken; any other pair is refused and changes nothing."""

    def attempt(tx: Tx, frm: RunStatus, to: RunStatus) -> str:
        run_id = a_run(tx, frm)
        with contextlib.suppress(IllegalTransition):
            move(tx, run_id, frm, to)
        run = tx.runs.by_id(run_id)
        assert run is not None
        return str(run.status)

    for frm, to in product(STATES, STATES):
        found = await db.write(lambda tx, frm=frm, to=to: attempt(tx, frm, to))
        assert found == (to if to in TRANSITIONS[frm] else frm), (frm, to)


async def test_every_stale_view_is_refused(db: Database) -> None:
    """Whoever believes the run to be in another state than it is has lost the race."""

    def attempt(tx: Tx, real: RunStatus, believed: RunStatus, to: RunStatus) -> None:
        run_id = a_run(tx, real)
        with pytest.raises(RunMoved):
            move(tx, run_id, believed, to)
        run = tx.runs.by_id(run_id)
        assert run is not None
        assert run.status == real

    def all_of(tx: Tx) -> None:
        for real, believed in product(STATES, STATES):
            if real != believed and (arrows := sorted(TRANSITIONS[believed])):
                attempt(tx, real, believed, arrows[0])

    await db.write(all_of)


async def test_claims_are_fenced(db: Database) -> None:
    """A claim writes while its fence is the run's, and never again once another claim was made."""

    def all_of(tx: Tx) -> None:
        run_id = a_run(tx, "in_progress", fence=3)
        for stale in (2, 4):
            with pytest.raises(RunMoved):
                move(tx, run_id, "in_progress", "completed", Claim(run_id, stale))
        row = move(tx, run_id, "in_progress", "queued", Claim(run_id, 3))
        assert (row.status, row.fence) == ("queued", 3)
        move(tx, run_id, "queued", "in_progress", fence=4)
        with pytest.raises(RunMoved):
            move(tx, run_id, "in_progress", "completed", Claim(run_id, 3))
        row = move(tx, run_id, "in_progress", "completed", Claim(run_id, 4), completed_at=7)
        assert (row.status, row.completed_at) == ("completed", 7)

    await db.write(all_of)


async def test_a_run_that_is_gone_has_moved(db: Database) -> None:
    """Nothing is written about a run that was deleted."""

    def attempt(tx: Tx) -> None:
        with pytest.raises(RunMoved):
            move(tx, "run_gone", "queued", "in_progress")

    await db.write(attempt)


async def test_status_is_written_by_move_only(db: Database) -> None:
    """The store's plain update refuses the column."""

    def attempt(tx: Tx) -> None:
        run = tx.runs.by_id(a_run(tx, "queued"))
        assert run is not None
        with pytest.raises(AssertionError):
            tx.runs.update(run.seq, {"status": "completed"})

    await db.write(attempt)
