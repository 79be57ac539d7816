"""The states of a run and the only code that writes one.

    create                     submit_outputs
      |        +------------------------------------------+
      v        v                                          |
     queued ------> in_progress ------> requires_action --+
      |  ^             |  |  |                  |
      |  +-- rescue ---+  |  +--> completed, incomplete, failed
      |                   |                     |
      +---- cancel -------+------- cancel ------+----> cancelling ----> cancelled
      +---- sweep --------+------- sweep -------+-------------------> expired

A write is conditional on the state it leaves, and on the fence of the claim where an execution
writes. Losing that race is an answer, `RunMoved`, not a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server import failpoints
from server.db.database import Tx
from server.db.stores import Record
from server.schemas import RunStatus

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    "queued": frozenset({"in_progress", "cancelling", "expired", "failed"}),
    "in_progress": frozenset(
        {
            "completed",
            "incomplete",
            "failed",
            "requires_action",
            "cancelling",
            "expired",
            "queued",
        }
    ),
    "requires_action": frozenset({"queued", "cancelling", "expired"}),
    "cancelling": frozenset({"cancelled", "expired"}),
    "completed": frozenset(),
    "incomplete": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}

ACTIVE = frozenset(status for status, onward in TRANSITIONS.items() if onward)
TERMINAL = frozenset(status for status, onward in TRANSITIONS.items() if not onward)


@dataclass(frozen=True, slots=True)
class Claim:
    """An execution's right to write: stale once the run was claimed again."""

    run_id: str
    fence: int


class IllegalTransition(Exception):
    """The state table has no such arrow: a fault in the code."""


class RunMoved(Exception):
    """The run is no longer in the state that was expected, or was deleted."""


def move(
    tx: Tx,
    run_id: str,
    frm: RunStatus,
    to: RunStatus,
    claim: Claim | None = None,
    **changes: Any,
) -> Record:
    """Take the run from one status to another and return its row. Raises RunMoved."""
    if to not in TRANSITIONS[frm]:
        raise IllegalTransition(f"{run_id}: {frm} -> {to}")
    failpoints.hit(f"run.{to}")
    fence = None if claim is None else claim.fence
    row = tx.runs.update_if(run_id, frm, fence, {"status": to, **changes})
    if row is None:
        raise RunMoved(run_id)
    return row
