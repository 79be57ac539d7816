"""Saved prefixes: what sequences had in the context before others needed its cells.

The second and third tier of the prefix cache: memory, and below it files (`archive`). A snapshot
belongs to a scope, which nothing crosses, and within it to an owner, or to nobody where many share
it: an owner finds its own and the shared ones. Knows no cells, slots or requests.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from server.engine.backend import State

SHARED = ""  # the owner of what belongs to nobody
MOST_SHARED = 256  # in a scope: each is compared with every prompt
# A model that cannot be cut in the middle goes on from exact states only: the end of the last
# prompt, if the answer is told differently the next time, and the end of the answer, if not.
STATES_OF_AN_OWNER = 2


@dataclass(slots=True, eq=False)
class Snapshot:
    """A state and the tokens it stands for. It is in memory, on disk, or in both."""

    scope: str
    owner: str
    tokens: array[int]
    size: int  # bytes of the state
    state: State | None = None
    path: Path | None = None
    fetching: bool = False
    used: int = 0  # order of last use


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot is on disk now, or could not be written: then `path` is None."""

    snapshot: Snapshot
    path: Path | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was read of a snapshot's file; None if it is not what was once written."""

    snapshot: Snapshot
    state: State | None


class Archive(Protocol):
    """The files. Each call returns at once; what was read or written is delivered later."""

    def write(self, snapshot: Snapshot) -> None: ...

    def fetch(self, snapshot: Snapshot) -> None: ...

    def remove(self, snapshot: Snapshot) -> None: ...


class SnapshotStore:
    """Owned by the decode loop. Limits are in bytes; 0 keeps nothing in that tier."""

    def __init__(
        self,
        *,
        memory_limit: int = 0,
        disk_limit: int = 0,
        archive: Archive | None = None,
        one_per_owner: bool = True,
    ) -> None:
        self._memory_limit = memory_limit
        self._disk_limit = disk_limit if archive is not None else 0
        self._archive = archive
        self._per_owner = 1 if one_per_owner else STATES_OF_AN_OWNER
        self._shelves: dict[str, dict[str, list[Snapshot]]] = {}  # by scope, by owner
        self._unwritten = set[Snapshot]()  # on their way to the archive, with their states
        self._forgotten = set[Snapshot]()  # dropped while the archive had them
        self._fetching = 0
        self._uses = count(1)
        self.in_memory = 0  # bytes
        self.on_disk = 0

    @property
    def keeps(self) -> bool:
        """Whether it is worth saving anything."""
        return bool(self._memory_limit or self._disk_limit)

    @property
    def fetching(self) -> bool:
        """Whether something is on its way from disk."""
        return self._fetching > 0

    def __iter__(self) -> Iterator[Snapshot]:
        for shelf in self._shelves.values():
            for owned in shelf.values():
                yield from owned

    def adopt(self, snapshot: Snapshot) -> None:
        """Take up one that an earlier process left on disk, the longest unused first."""
        self._shelve(snapshot)
        self.on_disk += snapshot.size
        self._trim_disk()

    def keep(self, scope: str, owner: str, tokens: array[int], state: State) -> Snapshot:
        """Take a new one; it replaces what its owner had, and goes to disk unless it is shared."""
        snapshot = Snapshot(scope, owner, tokens, state.nbytes, state)
        replaced = [] if owner == SHARED else self._owned(scope, owner)
        for old in replaced[: max(0, len(replaced) + 1 - self._per_owner)]:
            self.drop(old)
        self._shelve(snapshot)
        self.in_memory += snapshot.size
        if owner != SHARED:
            self.write(snapshot)
        self._trim_memory()
        return snapshot

    def write(self, snapshot: Snapshot) -> None:
        """Send it to disk, unless it is there, on its way, or too large."""
        absent = snapshot.path is None and snapshot not in self._unwritten
        if self._archive and absent and snapshot.state is not None:
            backlog = sum(waiting.size for waiting in self._unwritten)
            if snapshot.size <= self._disk_limit and backlog <= self._disk_limit // 2:
                self._unwritten.add(snapshot)
                self._archive.write(snapshot)

    def candidates(self, scope: str, owner: str) -> list[Snapshot]:
        """What may hold a prefix of the owner's next prompt."""
        own = [] if owner == SHARED else self._owned(scope, owner)
        return [*own, *self._owned(scope, SHARED)]

    def holds(self, scope: str, owner: str, tokens: array[int]) -> bool:
        return any(snapshot.tokens == tokens for snapshot in self._owned(scope, owner))

    def use(self, snapshot: Snapshot) -> None:
        """It served a sequence. A shared one that does so is worth a place on disk."""
        snapshot.used = next(self._uses)
        self.write(snapshot)
        self._trim_memory()

    def fetch(self, snapshot: Snapshot) -> None:
        """Have it read from disk; `fetched` says when it is in memory."""
        if not snapshot.fetching and self._archive is not None:
            snapshot.fetching = True
            self._fetching += 1
            self._archive.fetch(snapshot)

    def fetched(self, result: Fetched) -> None:
        snapshot = result.snapshot
        snapshot.fetching = False
        self._fetching -= 1
        if result.state is None:
            self.drop(snapshot)
        elif snapshot in self._owned(snapshot.scope, snapshot.owner):
            snapshot.state, snapshot.used = result.state, next(self._uses)
            self.in_memory += snapshot.size
            self._trim_memory(spare=snapshot)

    def written(self, result: Written) -> None:
        snapshot = result.snapshot
        self._unwritten.discard(snapshot)
        snapshot.path = result.path
        if snapshot in self._forgotten:
            self._forgotten.discard(snapshot)
            self._erase(snapshot)
        elif result.path is not None:
            self.on_disk += snapshot.size
            self._trim_disk()
            self._trim_memory()

    def drop(self, snapshot: Snapshot) -> None:
        """Forget it, wherever it is."""
        owned = self._owned(snapshot.scope, snapshot.owner)
        if snapshot not in owned:
            return
        owned.remove(snapshot)
        if not owned:
            del self._shelves[snapshot.scope][snapshot.owner]
        self._leave_memory(snapshot)
        if snapshot in self._unwritten:
            self._forgotten.add(snapshot)
        elif snapshot.path is not None:
            self.on_disk -= snapshot.size
            self._erase(snapshot)

    def forget(self, owner: str) -> None:
        """Drop all that belongs to an owner."""
        for shelf in list(self._shelves.values()):
            for snapshot in list(shelf.get(owner, ())):
                self.drop(snapshot)

    def _owned(self, scope: str, owner: str) -> list[Snapshot]:
        return self._shelves.get(scope, {}).get(owner, [])

    def _shelve(self, snapshot: Snapshot) -> None:
        snapshot.used = next(self._uses)
        shelf = self._shelves.setdefault(snapshot.scope, {})
        shelf.setdefault(snapshot.owner, []).append(snapshot)
        shared = self._owned(snapshot.scope, SHARED)
        if len(shared) > MOST_SHARED:
            self.drop(min(shared, key=_last_use))

    def _trim_memory(self, spare: Snapshot | None = None) -> None:
        """Give up the longest unused states; what is on disk, or will be, stays known."""
        while self.in_memory > self._memory_limit:
            held = [s for s in self if s.state is not None and s is not spare]
            if not held:
                return
            oldest = min(held, key=_last_use)
            self._leave_memory(oldest)
            if oldest.path is None and oldest not in self._unwritten:
                self.drop(oldest)

    def _trim_disk(self) -> None:
        while self.on_disk > self._disk_limit:
            oldest = min((s for s in self if s.path is not None), key=_last_use)
            self.on_disk -= oldest.size
            self._erase(oldest)
            if oldest.state is None:
                self.drop(oldest)

    def _leave_memory(self, snapshot: Snapshot) -> None:
        if snapshot.state is not None:
            snapshot.state = None
            self.in_memory -= snapshot.size

    def _erase(self, snapshot: Snapshot) -> None:
        if self._archive is not None and snapshot.path is not None:
            self._archive.remove(snapshot)
        snapshot.path = None


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences, of one type, begin with in common."""
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    return bisect_left(range(shorter), True, key=lambda end: left[: end + 1] != right[: end + 1])


def _last_use(snapshot: Snapshot) -> int:
    return snapshot.used
