"""Which snapshots are kept, where, and for whom."""

from __future__ import annotations

from array import array
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.protocol import TRANSIENT
from server.engine.snapshots import (
    LEAST_BACKLOG,
    MOST_SHARED,
    SHARED,
    Fetched,
    Snapshot,
    SnapshotStore,
    Written,
    common_prefix,
)
from tests.engine.archives import SlowArchive


class ScanningStore(SnapshotStore):
    """Looks at all that it has for the one to give up, as the rule is told."""

    def _next_out_of_memory(self, spare: Snapshot | None) -> Snapshot:
        held = [each for each in self if each.state is not None and each is not spare]
        return min(held, key=lambda each: (each.size <= self._memory_limit, each.used))

    def _next_off_disk(self) -> Snapshot:
        return min((each for each in self if each.path is not None), key=lambda each: each.used)


class Kept:
    """A store over a slow archive."""

    def __init__(
        self,
        *,
        memory: int = 100,
        disk: int = 0,
        one_per_owner: bool = True,
        kind: type[SnapshotStore] = SnapshotStore,
    ) -> None:
        self.archive = SlowArchive()
        self.store = kind(
            memory_limit=memory,
            disk_limit=disk,
            archive=self.archive,
            one_per_owner=one_per_owner,
        )

    def keep(self, owner: str, size: int = 10, *, scope: str = "a", seed: int = 0) -> Snapshot:
        tokens = array("i", range(seed, seed + size))
        return self.store.keep(scope, owner, tokens, np.full(size, seed % 256, np.uint8))

    def deliver(self, number: int = 0) -> None:
        news = self.archive.deliver(number)
        if isinstance(news, Written):
            self.store.written(news)
        else:
            self.store.fetched(news)

    def deliver_all(self) -> None:
        while self.archive.jobs:
            self.deliver()

    def owners(self) -> set[str]:
        return {snapshot.owner for snapshot in self.store}


def test_an_owner_finds_its_own_and_the_shared_ones_of_its_scope_only() -> None:
    """Nothing crosses a scope, and owners of one scope do not see each other's."""
    kept = Kept()
    mine, shared = kept.keep("x"), kept.keep(SHARED, seed=1)
    kept.keep("y", seed=2)
    kept.keep("x", scope="b", seed=3)
    assert kept.store.candidates("a", "x") == [mine, shared]
    assert kept.store.candidates("b", "y") == []


def test_a_new_snapshot_replaces_what_its_owner_had() -> None:
    """In memory and on disk; shared ones stand beside each other."""
    kept = Kept(disk=100)
    kept.keep("x", 10)
    kept.deliver_all()
    newest = kept.keep("x", 12)
    kept.deliver_all()
    for seed in range(3):
        kept.keep(SHARED, seed=seed)
    assert kept.store.candidates("a", "x")[0] is newest
    assert len(kept.store.candidates("a", "x")) == 4
    assert (kept.store.on_disk, len(kept.archive.files)) == (12, 1)


def test_an_owner_of_exact_states_keeps_the_two_newest() -> None:
    """The end of the last prompt, and the end of the answer to it."""
    kept = Kept(one_per_owner=False)
    states = [kept.keep("x", 10 + turn) for turn in range(4)]
    assert kept.store.candidates("a", "x") == states[2:]


def test_memory_gives_up_the_longest_unused() -> None:
    """Without a disk they are gone; one that was used meanwhile stays."""
    kept = Kept(memory=30)
    first, _, _ = (kept.keep(owner) for owner in "xyz")
    kept.store.use(first)
    kept.keep("w")
    assert kept.owners() == {"x", "z", "w"}
    assert kept.store.in_memory == 30


def test_one_that_is_too_large_for_memory_takes_nothing_with_it() -> None:
    """The others stay; it goes to disk, if there is one."""
    for disk, known in ((0, {"x", "y"}), (100, {"x", "y", "z"})):
        kept = Kept(memory=30, disk=disk)
        for owner in "xy":
            kept.keep(owner)
        kept.keep("z", 31)
        kept.deliver_all()
        assert kept.owners() == known
        assert kept.store.in_memory == 20


def test_how_large_a_state_can_be_depends_on_where_it_may_go() -> None:
    """Only what is an owner's goes to disk unused, and nothing while much waits to be written."""
    kept = Kept(memory=30, disk=100)
    transient = f"{TRANSIENT}x"
    assert [kept.store.largest(owner) for owner in ("x", SHARED, transient)] == [100, 30, 30]
    kept.keep("x", 60)
    assert kept.store.largest("y") == 30
    kept.deliver_all()
    assert kept.store.largest("y") == 100
    assert Kept(memory=30).store.largest("x") == 30


def test_what_was_fetched_stays_until_it_was_used() -> None:
    """Also where memory holds nothing: it is there for the one that asked, and then gone."""
    kept = Kept(memory=0, disk=100)
    snapshot = kept.keep("x")
    kept.deliver_all()
    assert snapshot.state is None
    kept.store.fetch(snapshot)
    kept.store.fetch(snapshot)  # nobody waits twice
    assert kept.store.fetching
    kept.deliver_all()
    assert snapshot.state is not None
    assert not kept.store.fetching
    kept.store.use(snapshot)
    assert snapshot.state is None
    assert kept.owners() == {"x"}


def test_a_fetch_beyond_the_limit_leaves_the_others_in_memory() -> None:
    """It is there on top of them."""
    kept = Kept(memory=15, disk=100)
    large = kept.keep("x", 20)
    kept.keep("y", 15)
    kept.deliver_all()
    kept.store.fetch(large)
    kept.deliver_all()
    assert kept.store.in_memory == 35
    kept.store.use(large)
    assert kept.store.in_memory == 15


def test_disk_gives_up_the_longest_unused() -> None:
    """Its file goes; the state stays where memory still has it."""
    kept = Kept(memory=20, disk=30)
    for owner in "xyzw":
        kept.keep(owner)
        kept.deliver_all()
    assert kept.store.on_disk == 30
    assert {path.name.partition(".")[0] for path in kept.archive.files} == set("yzw")
    assert kept.owners() == set("yzw")


def test_a_shared_snapshot_goes_to_disk_once_it_served() -> None:
    """Most shared prefixes are never asked for again."""
    kept = Kept(disk=100)
    snapshot = kept.keep(SHARED)
    assert not kept.archive.jobs
    kept.store.use(snapshot)
    kept.store.use(snapshot)
    kept.deliver_all()
    assert snapshot.path in kept.archive.files


def test_what_is_transient_goes_to_no_disk() -> None:
    """Neither when it is made nor when it served; it is gone once memory needs the room."""
    kept = Kept(memory=30, disk=100)
    snapshot = kept.keep(f"{TRANSIENT}x", 20)
    kept.store.use(snapshot)
    assert not kept.archive.jobs
    kept.keep("y", 20)
    assert kept.owners() == {"y"}


def test_shared_snapshots_are_bounded_in_number() -> None:
    """Each is compared with every prompt; the longest unused goes."""
    kept = Kept(memory=100_000)
    for seed in range(MOST_SHARED + 5):
        kept.keep(SHARED, 1, seed=seed)
    shared = kept.store.candidates("a", "x")
    assert [snapshot.tokens[0] for snapshot in shared] == list(range(5, MOST_SHARED + 5))


@pytest.mark.parametrize("how", ["forget", "replace"])
def test_one_that_is_dropped_while_it_is_written_leaves_no_file(how: str) -> None:
    """The file is removed as soon as it is known to be there."""
    kept = Kept(disk=100)
    kept.keep("x")
    if how == "forget":
        kept.store.forget("x")
    else:
        kept.keep("x", 12)
    assert kept.store.writing
    kept.deliver_all()
    assert len(kept.archive.files) == (how == "replace")
    assert kept.store.on_disk == sum(len(state) for state in kept.archive.files.values())


def test_one_that_is_still_being_written_is_there_at_once() -> None:
    """Its state has not left the memory, whatever the limit is."""
    kept = Kept(memory=0, disk=100)
    snapshot = kept.keep("x")
    assert snapshot.state is None
    kept.store.fetch(snapshot)
    assert snapshot.state is not None
    assert [kind for kind, _, _ in kept.archive.jobs] == ["write"]
    kept.deliver_all()
    assert snapshot.path in kept.archive.files


def test_one_that_is_dropped_while_it_is_read_does_not_come_back() -> None:
    """What was read of it is of no interest any more."""
    kept = Kept(memory=0, disk=100)
    snapshot = kept.keep("x")
    kept.deliver_all()
    kept.store.fetch(snapshot)
    kept.store.forget("x")
    kept.store.fetched(Fetched(snapshot, np.zeros(10, np.uint8)))
    assert (kept.owners(), kept.store.in_memory, kept.store.on_disk) == (set(), 0, 0)
    assert not kept.store.fetching


def test_one_that_cannot_be_read_is_dropped() -> None:
    """With its file."""
    kept = Kept(memory=0, disk=100)
    snapshot = kept.keep("x")
    kept.deliver_all()
    kept.archive.broken = True
    kept.store.fetch(snapshot)
    kept.deliver_all()
    assert (kept.owners(), kept.archive.files, kept.store.on_disk) == (set(), {}, 0)


@pytest.mark.parametrize(("memory", "known"), [(100, {"x"}), (0, set())])
def test_a_full_disk_costs_what_memory_does_not_hold(memory: int, known: set[str]) -> None:
    """A snapshot that is nowhere is not known."""
    kept = Kept(memory=memory, disk=100)
    kept.archive.full = True
    kept.keep("x")
    kept.deliver_all()
    assert kept.owners() == known
    assert kept.store.on_disk == 0


def test_a_slow_disk_does_not_fill_the_memory() -> None:
    """What waits to be written is bounded: the rest is not written."""
    kept = Kept(memory=0, disk=8 * LEAST_BACKLOG)
    size = LEAST_BACKLOG // 2
    for owner in range(20):
        kept.store.keep("a", str(owner), array("i", [owner]), np.empty(size, np.uint8))
    assert len(kept.archive.jobs) == 3
    kept.deliver_all()
    assert kept.owners() == set("012")


def test_what_an_earlier_process_left_is_adopted_within_the_limit() -> None:
    """The longest unused goes first."""
    old, new = Kept(disk=100), Kept(disk=25)
    for owner in "xyz":
        old.keep(owner)
    old.deliver_all()
    new.archive.files = old.archive.files
    for snapshot in old.store:
        new.store.adopt(Snapshot("a", snapshot.owner, snapshot.tokens, 10, path=snapshot.path))
    assert new.owners() == {"y", "z"}
    assert len(new.archive.files) == 2


def test_nothing_is_kept_without_limits() -> None:
    """Saving costs time: callers are told that it is for nothing."""
    assert not Kept(memory=0, disk=0).store.keeps
    assert not SnapshotStore(disk_limit=100).keeps  # there is no archive


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40))
def test_the_common_prefix_is_what_a_loop_would_find(left: list[int], right: list[int]) -> None:
    """Also of the empty, and of one that is the other's beginning."""
    loop = 0
    while loop < min(len(left), len(right)) and left[loop] == right[loop]:
        loop += 1
    assert common_prefix(array("i", left), array("i", right)) == loop


actions = st.sampled_from(["keep", "keep", "share", "use", "fetch", "deliver", "forget"])


@settings(max_examples=200, deadline=None)
@given(
    script=st.lists(st.tuples(actions, st.integers(0, 99), st.integers(1, 30)), max_size=60),
    memory=st.sampled_from([0, 25, 60, 1000]),
    disk=st.sampled_from([0, 25, 60, 1000]),
    one_per_owner=st.booleans(),
    full=st.booleans(),
)
def test_limits_hold_and_nothing_leaks_whatever_happens(
    script: list[tuple[str, int, int]], memory: int, disk: int, one_per_owner: bool, full: bool
) -> None:
    """In any order of keeping, using, forgetting and of what the archive does meanwhile."""
    kept = Kept(memory=memory, disk=disk, one_per_owner=one_per_owner)
    random = Random(1)
    for seed, (action, number, size) in enumerate(script):
        kept.archive.full = full and number % 3 == 0
        act(kept, action, number, size, seed)
        check(kept, memory, disk)
    while kept.archive.jobs:
        kept.deliver(random.randrange(99))
        check(kept, memory, disk)
    assert set(kept.archive.files) == {snapshot.path for snapshot in kept.store if snapshot.path}
    for owner in [*kept.owners()]:
        kept.store.forget(owner)
    assert (list(kept.store), kept.archive.files) == ([], {})
    assert (kept.store.in_memory, kept.store.on_disk) == (0, 0)
    assert not kept.store.writing
    assert not kept.store.fetching


@pytest.mark.parametrize("one_per_owner", [True, False])
@pytest.mark.parametrize("disk", [0, 25, 80])
@pytest.mark.parametrize("memory", [0, 15, 25, 80])
def test_what_is_given_up_is_what_a_scan_would_find(
    memory: int, disk: int, one_per_owner: bool
) -> None:
    """In long histories, with some that are too large for the memory, or for the disk."""
    random = Random(memory + disk)
    stores = [
        Kept(memory=memory, disk=disk, one_per_owner=one_per_owner, kind=kind)
        for kind in (SnapshotStore, ScanningStore)
    ]
    for seed in range(2000):
        action = random.choice(["keep", "keep", "share", "use", "use", "fetch", *["deliver"] * 3])
        number, size = random.randrange(1000), random.randrange(1, 31)
        for kept in stores:
            kept.archive.full = number % 7 == 0
            act(kept, action, number, size, seed)
        ordered, scanning = map(places, stores)
        assert ordered == scanning


def places(kept: Kept) -> list[tuple[str, str, bytes, bool, Path | None]]:
    """All that a store knows, and where it is."""
    return [
        (each.scope, each.owner, each.tokens.tobytes(), each.state is not None, each.path)
        for each in kept.store
    ]


def act(kept: Kept, action: str, number: int, size: int, seed: int) -> None:
    """One thing that may happen to a store."""
    known = list(kept.store)
    chosen = known[number % len(known)] if known else None
    match action:
        case "keep":
            kept.keep(f"owner{number % 4}", size, scope="ab"[number % 2], seed=seed)
        case "share":
            kept.keep(SHARED, size, scope="ab"[number % 2], seed=seed)
        case "use" if chosen is not None:
            kept.store.use(chosen)
        case "fetch" if chosen is not None and chosen.state is None:
            kept.store.fetch(chosen)
        case "deliver" if kept.archive.jobs:
            kept.deliver(number)
        case "forget":
            kept.store.forget(f"owner{number % 4}")
            assert f"owner{number % 4}" not in kept.owners()


def check(kept: Kept, memory: int, disk: int) -> None:
    """What must be true at any time."""
    held = [snapshot.size for snapshot in kept.store if snapshot.state is not None]
    filed = [snapshot.size for snapshot in kept.store if snapshot.path is not None]
    assert kept.store.in_memory == sum(held)
    assert kept.store.on_disk == sum(filed)
    assert sum(filed) <= disk
    assert sum(held) - max(held, default=0) <= memory  # one may be there on top: just fetched
    waiting = {snapshot for kind, snapshot, _ in kept.archive.jobs if kind == "write"}
    for snapshot in kept.store:
        assert snapshot.state is not None or snapshot.path is not None or snapshot in waiting
