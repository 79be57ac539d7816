"""Answers that are kept for the repetitions of their requests, and forgotten in time."""

from __future__ import annotations

from functools import partial
from typing import Final

from server.db.database import Database, Tx
from server.db.queries import Values
from server.db.stores import Record
from server.db.sweep import Sweeper

SWEEP_INTERVAL: Final = 60.0
MOST_AT_ONCE: Final = 500  # others wait for a unit of work to end


class KeptAnswers:
    """By project and key, for `lifetime` seconds; of each project the newest `most` at least."""

    def __init__(self, db: Database, *, lifetime: int, most: int) -> None:
        self._db = db
        self._lifetime = lifetime
        self._most = most
        self._sweeper = Sweeper(self.sweep, "kept_answers_sweep", SWEEP_INTERVAL)

    def start(self) -> None:
        """Begin to sweep."""
        self._sweeper.start()

    async def stop(self) -> None:
        """Return when a sweep that is going on has ended."""
        await self._sweeper.stop()

    def find(self, tx: Tx, project: str, key: str) -> Record | None:
        """The answer that is kept under a key; one that is over is forgotten."""
        kept = tx.kept_answers.get(project, key)
        if kept is not None and kept.created_at <= tx.now - self._lifetime:
            tx.kept_answers.drop(kept.seq)
            return None
        return kept

    def keep(self, tx: Tx, project: str, key: str, answer: Values) -> None:
        """Keep an answer under a key that has none."""
        owner = {"project_id": project, "key": key, "created_at": tx.now}
        tx.kept_answers.insert({**owner, **answer})

    async def sweep(self) -> None:
        """Forget those whose time is over, and what a project has too many of."""
        while await self._db.write(self._prune):
            pass
        for project in await self._db.read(lambda tx: tx.kept_answers.beyond(self._most)):
            await self._drop_oldest(project.project_id, project.number)

    def _prune(self, tx: Tx) -> int:
        return tx.kept_answers.prune(tx.now - self._lifetime, MOST_AT_ONCE)

    async def _drop_oldest(self, project: str, number: int) -> None:
        dropped = 1
        while number > 0 and dropped:
            drop = partial(_drop, project=project, most=min(number, MOST_AT_ONCE))
            dropped = await self._db.write(drop)
            number -= dropped


def _drop(tx: Tx, project: str, most: int) -> int:
    return tx.kept_answers.drop_oldest(project, most)
