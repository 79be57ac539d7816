"""Saved prefixes: what sequences had in the context before others needed its cells.

The second and third tier of the prefix cache: memory, and below it files (`archive`). A snapshot
belongs to a scope, which nothing crosses, and within it to an owner, or to nobody where many share
it: an owner finds its own and the shared ones. Knows no cells, slots or requests.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from server.engine.backend import State
from server.engine.protocol import TRANSIENT

SHARED = ""  # the owner of what belongs to nobody
MOST_SHARED = 256  # in a scope: each is compared with every prompt
# A model that cannot be cut in the middle goes on from exact states only: the end of the last
# prompt, if the answer is told differently the next time, and the end of the answer, if not.
STATES_OF_AN_OWNER = 2
# What waits to be written is held in memory, beyond the limit; so much of it may always wait.
LEAST_BACKLOG = 256 << 20


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
    used: int = 0  # when it last was, compared with others


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
        self._most_backlog = min(self._disk_limit // 2, max(memory_limit, LEAST_BACKLOG))
        self._per_owner = 1 if one_per_owner else STATES_OF_AN_OWNER
        self._shelves: dict[str, dict[str, list[Snapshot]]] = {}  # by scope, by owner
        # The longest unused first: with ten thousands of them, none is looked for.
        self._held = OrderedDict[Snapshot, None]()  # in memory; what is too large for it before all
        self._filed = OrderedDict[Snapshot, None]()  # on disk, or on their way there
        self._unwritten: dict[Snapshot, State] = {}  # on their way to the archive
        self._backlog = 0  # bytes of these
        self._forgotten = set[Snapshot]()  # dropped while the archive had them
        self._fetching = 0
        self._uses = count(1)
        self.in_memory = 0  # bytes
        self.on_disk = 0

    @property
    def keeps(self) -> bool:
        """Whether it is worth saving anything."""
        return bool(self._memory_limit or self._disk_limit)

    def largest(self, owner: str) -> int:
        """Bytes of a state that can be kept for this owner now; to save a larger one is no use."""
        on_disk = 0 if owner == SHARED else self._largest_on_disk(owner)
        return max(self._memory_limit, on_disk)

    @property
    def fetching(self) -> bool:
        """Whether something is on its way from disk."""
        return self._fetching > 0

    @property
    def writing(self) -> bool:
        """Whether something is on its way to disk."""
        return bool(self._unwritten)

    def __iter__(self) -> Iterator[Snapshot]:
        for shelf in self._shelves.values():
            for owned in shelf.values():
                yield from owned

    def adopt(self, snapshot: Snapshot) -> None:
        """Take up one that an earlier process left on disk, the longest unused first."""
        self._shelve(snapshot)
        self._filed[snapshot] = None
        self.on_disk += snapshot.size
        self._trim_disk()

    def keep(self, scope: str, owner: str, tokens: array[int], state: State) -> Snapshot:
        """Take a new one; it replaces what its owner had, and goes to disk unless it is shared."""
        snapshot = Snapshot(scope, owner, tokens, state.nbytes)
        replaced = [] if owner == SHARED else self._owned(scope, owner)
        for old in replaced[: max(0, len(replaced) + 1 - self._per_owner)]:
            self.drop(old)
        self._shelve(snapshot)
        self._enter_memory(snapshot, state)
        if owner != SHARED:
            self._write(snapshot)
        self._trim_memory()
        return snapshot

    def candidates(self, scope: str, owner: str) -> list[Snapshot]:
        """What may hold a prefix of the owner's next prompt."""
        own = [] if owner == SHARED else self._owned(scope, owner)
        return [*own, *self._owned(scope, SHARED)]

    def holds(self, scope: str, owner: str, tokens: array[int]) -> bool:
        return any(snapshot.tokens == tokens for snapshot in self._owned(scope, owner))

    def use(self, snapshot: Snapshot) -> None:
        """It served a sequence. A shared one that does so is worth a place on disk."""
        self._touch(snapshot)
        self._write(snapshot)
        self._trim_memory()

    def fetch(self, snapshot: Snapshot) -> None:
        """Have it read from disk; `fetched` says when it is in memory."""
        if snapshot.fetching or self._archive is None:
            return
        snapshot.fetching = True
        self._fetching += 1
        if snapshot in self._unwritten:
            self.fetched(Fetched(snapshot, self._unwritten[snapshot]))
        else:
            self._archive.fetch(snapshot)

    def fetched(self, result: Fetched) -> None:
        snapshot = result.snapshot
        snapshot.fetching = False
        self._fetching -= 1
        if result.state is None:
            self.drop(snapshot)
        elif snapshot in self._owned(snapshot.scope, snapshot.owner):
            self._touch(snapshot)
            self._enter_memory(snapshot, result.state)
            self._trim_memory(spare=snapshot)

    def written(self, result: Written) -> None:
        snapshot = result.snapshot
        del self._unwritten[snapshot]
        self._backlog -= snapshot.size
        snapshot.path = result.path
        if snapshot in self._forgotten:
            self._forgotten.discard(snapshot)
            self._erase(snapshot)
        elif result.path is not None:
            self.on_disk += snapshot.size
            self._trim_disk()
        else:
            del self._filed[snapshot]
            if snapshot.state is None:
                self.drop(snapshot)

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
            del self._filed[snapshot]
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

    def _write(self, snapshot: Snapshot) -> None:
        """Send it, just used, to disk, unless it is there, on its way, too large, or transient."""
        fits = snapshot.size <= self._largest_on_disk(snapshot.owner)
        absent = snapshot.path is None and snapshot not in self._unwritten
        if self._archive and fits and absent and snapshot.state is not None:
            self._unwritten[snapshot] = snapshot.state
            self._backlog += snapshot.size
            self._filed[snapshot] = None
            self._archive.write(snapshot)

    def _largest_on_disk(self, owner: str) -> int:
        waits = self._backlog > self._most_backlog
        return 0 if waits or owner.startswith(TRANSIENT) else self._disk_limit

    def _touch(self, snapshot: Snapshot) -> None:
        snapshot.used = next(self._uses)
        if snapshot in self._held:
            self._held.move_to_end(snapshot, last=self._fits_memory(snapshot))
        if snapshot in self._filed:
            self._filed.move_to_end(snapshot)

    def _shelve(self, snapshot: Snapshot) -> None:
        self._touch(snapshot)
        shelf = self._shelves.setdefault(snapshot.scope, {})
        shelf.setdefault(snapshot.owner, []).append(snapshot)
        shared = self._owned(snapshot.scope, SHARED)
        if len(shared) > MOST_SHARED:
            self.drop(min(shared, key=lambda snapshot: snapshot.used))

    def _trim_memory(self, spare: Snapshot | None = None) -> None:
        """Give up the longest unused states; what is on disk, or will be, stays known.

        One that is larger than the limit goes first, lest it take all others with it; one that was
        just fetched may stay until it was used.
        """
        limit = self._memory_limit
        if spare is not None and spare.size > limit:
            limit += spare.size
        while self.in_memory > limit:
            oldest = self._next_out_of_memory(spare)
            self._leave_memory(oldest)
            if oldest.path is None and oldest not in self._unwritten:
                self.drop(oldest)

    def _trim_disk(self) -> None:
        while self.on_disk > self._disk_limit:
            oldest = self._next_off_disk()
            self.on_disk -= oldest.size
            self._erase(oldest)
            if oldest.state is None:
                self.drop(oldest)

    def _next_out_of_memory(self, spare: Snapshot | None) -> Snapshot:
        return next(snapshot for snapshot in self._held if snapshot is not spare)

    def _next_off_disk(self) -> Snapshot:
        return next(snapshot for snapshot in self._filed if snapshot.path is not None)

    def _fits_memory(self, snapshot: Snapshot) -> bool:
        return snapshot.size <= self._memory_limit

    def _enter_memory(self, snapshot: Snapshot, state: State) -> None:
        """It was just used, so that it stays longer than all others that fit."""
        snapshot.state = state
        self.in_memory += snapshot.size
        self._held[snapshot] = None
        self._held.move_to_end(snapshot, last=self._fits_memory(snapshot))

    def _leave_memory(self, snapshot: Snapshot) -> None:
        if snapshot.state is not None:
            snapshot.state = None
            self.in_memory -= snapshot.size
            del self._held[snapshot]

    def _erase(self, snapshot: Snapshot) -> None:
        if self._archive is not None and snapshot.path is not None:
            self._archive.remove(snapshot)
            self._filed.pop(snapshot, None)  # it may have been dropped while it was written
        snapshot.path = None


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences, of one type, begin with in common."""
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    return bisect_left(range(shorter), True, key=lambda end: left[: end + 1] != right[: end + 1])
