"""An archive in a dictionary, which reads and writes when the test says so, in any order."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from server.engine.backend import State
from server.engine.snapshots import Fetched, Snapshot, Written


class SlowArchive:
    """What was asked for is in `jobs` until `deliver` does it."""

    def __init__(self) -> None:
        self.files: dict[Path, State] = {}
        self.written: dict[Path, Snapshot] = {}  # what they were made of
        self.jobs: list[tuple[str, Snapshot, State | None]] = []
        self.full = False  # the disk
        self.broken = False  # what is read is not what was written
        self._numbers = count()

    def write(self, snapshot: Snapshot) -> None:
        assert snapshot.state is not None
        assert not any(job[:2] == ("write", snapshot) for job in self.jobs), "written twice"
        self.jobs.append(("write", snapshot, snapshot.state))

    def fetch(self, snapshot: Snapshot) -> None:
        assert snapshot.path is not None, "there is nothing to fetch"
        self.jobs.append(("fetch", snapshot, None))

    def remove(self, snapshot: Snapshot) -> None:
        assert snapshot.path is not None
        del self.files[snapshot.path]  # once only

    def deliver(self, number: int = 0) -> Written | Fetched:
        """Do one of the jobs."""
        kind, snapshot, state = self.jobs.pop(number % len(self.jobs))
        if kind == "fetch":
            read = self.files.get(snapshot.path) if snapshot.path is not None else None
            return Fetched(snapshot, None if self.broken else read)
        if self.full or state is None:
            return Written(snapshot, None)
        path = Path(f"/cache/{snapshot.owner}.{next(self._numbers)}")
        self.files[path] = state
        self.written[path] = snapshot
        return Written(snapshot, path)
