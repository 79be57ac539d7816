"""One sending of a request: what tells a retry that is marked as one from another request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.db.database import Tx
from server.db.stores import Record

REMEMBERED: Final = 1800  # seconds: the SDKs wait for an answer for 10 minutes, three times


@dataclass(frozen=True, slots=True)
class Attempt:
    """`request_hash` tells who asks for what, if it is known; `number` counts retries from 1."""

    request_hash: str | None = None
    number: int = 0

    @property
    def is_retry(self) -> bool:
        return self.number > 0

    def message(self, tx: Tx, thread_id: str) -> Record | None:
        """The message that an earlier sending of this retry has made, as far as can be told."""
        if not self.is_retry or self.request_hash is None:
            return None
        since = tx.now - REMEMBERED
        return tx.messages.give(thread_id, self.request_hash, self.number, since)

    def run(self, tx: Tx, thread_id: str) -> Record | None:
        """The run, likewise."""
        if not self.is_retry or self.request_hash is None:
            return None
        return tx.runs.give(thread_id, self.request_hash, self.number, tx.now - REMEMBERED)


UNMARKED: Final = Attempt()
