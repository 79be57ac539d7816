"""Group commit: units that wait together share one transaction, and still fail one by one.

Runs on the writer thread and owns its connection. Knows nothing of queues and callers.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

from server import failpoints
from server.db.connection import roll_back
from server.db.unit import Tx, Unit


class GroupCommit:
    """Takes units to their commit, or to their error. `begin` makes a Tx over the connection.

    `committed` is told the seconds that each commit took.
    """

    def __init__(
        self, raw: sqlite3.Connection, begin: Callable[[], Tx], committed: Callable[[float], None]
    ) -> None:
        self._raw = raw
        self._begin = begin
        self._committed = committed

    def run(self, units: Sequence[Unit]) -> None:
        """Attempt the units; those without an error are durable afterwards.

        If the transaction itself fails, all of them get that error: one that had failed by itself
        may have done so on account of another that is now undone.
        """
        try:
            self._raw.execute("BEGIN IMMEDIATE")
            if len(units) == 1:
                self._alone(units[0])
            else:
                self._together(units)
        except Exception as error:  # noqa: BLE001 - the callers get it, the thread lives on
            for unit in units:
                unit.fail(error)
        finally:
            roll_back(self._raw)

    def _alone(self, unit: Unit) -> None:
        unit.attempt(self._begin())
        if unit.error is None:
            self._commit()

    def _together(self, units: Sequence[Unit]) -> None:
        """A full disk rolls back the whole transaction: then each unit gets one of its own."""
        for unit in units:
            self._raw.execute("SAVEPOINT unit")
            unit.attempt(self._begin())
            if not self._raw.in_transaction:
                for each in units:
                    self.run([each])
                return
            if unit.error is not None:
                self._raw.execute("ROLLBACK TO unit")
            self._raw.execute("RELEASE unit")
        self._commit()

    def _commit(self) -> None:
        failpoints.hit("commit.before")
        begun = time.perf_counter()
        self._raw.execute("COMMIT")
        self._committed(time.perf_counter() - begun)
        failpoints.hit("commit.after")
