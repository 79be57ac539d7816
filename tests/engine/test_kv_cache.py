"""What becomes of the tokens in the context's slots."""

from __future__ import annotations

from array import array

from server.engine.batch import Batch, Part
from server.engine.kv_cache import REST, SAVE_AFTER, SAVES_MEASURED, KVCache, Slot
from server.engine.snapshots import SHARED, SnapshotStore
from tests.engine.arithmetic import ArithmeticBackend
from tests.engine.serving import prompt_of


class Cached:
    """A cache over a model made of arithmetic."""

    def __init__(
        self, *, slots: int = 4, cells: int = 1000, idle: int = 1000, memory: int = 1000
    ) -> None:
        self.backend = ArithmeticBackend(slots=slots, context=500, cells=cells)
        self.store = SnapshotStore(memory_limit=memory)
        self.cache = KVCache(
            self.backend, self.store, idle_limit=idle, clock=lambda: self.backend.now
        )
        self._batch = Batch(500)

    def begin(self, owner: str, tokens: list[int]) -> Slot:
        """A sequence that has decoded these tokens."""
        prefix = self.cache.find(array("i", tokens), "", owner)
        slot = self.cache.claim(prefix, "", owner)
        assert slot is not None
        rest = array("i", tokens[len(slot.tokens) :])
        assert self.cache.make_room(len(rest))
        self._batch.fill([Part(slot.index, len(slot.tokens), rest, False)])
        self.backend.decode(self._batch)
        self.cache.extend(slot, rest)
        return slot

    def take(self, owner: str, tokens: list[int]) -> Slot:
        """The same, and its end."""
        slot = self.begin(owner, tokens)
        self.cache.release(slot)
        return slot

    def length(self, owner: str, tokens: list[int]) -> int:
        return self.cache.find(array("i", tokens), "", owner).length

    def saved(self) -> dict[str, int]:
        return {snapshot.owner: len(snapshot.tokens) for snapshot in self.store}


def test_cells_that_idle_slots_share_are_idle() -> None:
    """A common prefix that only idle threads have would be free without them."""
    cached = Cached()
    common = prompt_of(1, 100)
    first = cached.begin("x", common + prompt_of(2, 50))
    second = cached.begin("y", common + prompt_of(3, 50))
    assert cached.cache.idle_cells == 0
    cached.cache.release(first)
    assert cached.cache.idle_cells == 50
    cached.cache.release(second)
    assert cached.cache.idle_cells == cached.backend.cells_held == 200


def test_idle_threads_beyond_the_limit_are_saved_and_cut_when_another_is_decoded() -> None:
    """The longest unused first; they come back from memory. Alone, they slow nobody down."""
    cached = Cached(idle=100)
    cached.take("x", prompt_of(0, 70))
    cached.take("y", prompt_of(1, 70))
    assert not cached.saved()
    cached.cache.thin_out()
    assert not cached.saved()
    cached.begin("z", prompt_of(2, 70))
    cached.cache.thin_out()
    assert cached.saved() == {"x": 70}
    assert cached.backend.cells_held == 140
    assert cached.length("x", prompt_of(0, 80)) == 70


def test_a_thread_that_ends_beside_others_makes_room() -> None:
    """Those are still decoded, and would pay for what is kept of it. Nobody waits for that."""
    cached = Cached(idle=0)
    first = cached.begin("x", prompt_of(0, 70))
    cached.begin("y", prompt_of(1, 70))
    cached.cache.release(first)
    assert not cached.saved()
    cached.cache.thin_out()
    assert cached.saved() == {"x": 70}
    assert cached.backend.cells_held == 70


def test_saving_ahead_of_need_leaves_most_of_the_time_to_others() -> None:
    """One that took a second is the last for nine, but for when there is nobody to wait for it."""
    cached = Cached(idle=0)
    cached.backend.seconds_per_save = 1.0
    for number, owner in enumerate("xyz"):
        cached.take(owner, prompt_of(number, 70))
    live = cached.begin("live", prompt_of(3, 70))
    cached.cache.thin_out_gently()
    assert cached.saved() == {"x": 70}
    cached.backend.now += REST - 0.5
    cached.cache.thin_out_gently()
    cached.cache.save_due()
    assert cached.saved() == {"x": 70}
    cached.backend.now += 0.5
    cached.cache.thin_out_gently()
    assert cached.saved() == {"x": 70, "y": 70}
    cached.cache.release(live)
    cached.cache.save_due()
    assert cached.saved() == {"x": 70, "y": 70, "z": 70}


def test_who_has_to_go_goes_at_once() -> None:
    """For those who start, and for cells that are needed, nothing waits."""
    cached = Cached(idle=0, cells=280)
    cached.backend.seconds_per_save = 1.0
    for number, owner in enumerate("xyz"):
        cached.take(owner, prompt_of(number, 70))
    cached.begin("live", prompt_of(3, 70))
    cached.cache.thin_out_gently()
    assert cached.cache.make_room(140)
    assert cached.saved() == {"x": 70, "y": 70}
    cached.cache.thin_out()
    assert cached.backend.cells_held == 70


def test_a_slot_that_another_thread_takes_over_is_saved_before() -> None:
    """Where no other is free: its own words behind the common beginning are not lost."""
    cached = Cached(slots=1)
    common = prompt_of(1, 100)
    cached.take("x", common + prompt_of(2, 70))
    cached.take("y", common + prompt_of(3, 70))
    assert cached.saved() == {"x": 170}
    assert cached.backend.saves == 1


def test_a_snapshot_is_loaded_even_if_making_room_costs_its_place() -> None:
    """Those who have to go are saved, which may take the very state's place in memory."""
    cached = Cached(slots=2, cells=220, memory=110)
    cached.take("x", prompt_of(0, 100))
    for seed in (1, 2):
        cached.take("y", prompt_of(seed, 100))
    assert cached.saved() == {"x": 100}
    slot = cached.begin("x", prompt_of(0, 110))
    assert cached.backend.loads == 1
    assert cached.backend.held[slot.index] == prompt_of(0, 110)


def test_an_idle_thread_is_saved_when_nobody_waits_for_it() -> None:
    """Some seconds after its end, once, and without leaving the context."""
    cached = Cached()
    assert cached.cache.next_save is None
    cached.take("x", prompt_of(0, 100))
    cached.backend.now = 1.0
    cached.take("y", prompt_of(1, 100))
    assert cached.cache.next_save == SAVE_AFTER
    cached.cache.save_due()
    assert cached.saved() == {}
    cached.backend.now = SAVE_AFTER
    cached.cache.save_due()
    assert cached.saved() == {"x": 100}
    assert cached.cache.next_save == SAVE_AFTER + 1
    cached.backend.now = SAVE_AFTER + 1
    cached.cache.save_due()
    assert cached.cache.next_save is None
    assert cached.backend.cells_held == 200


def test_nothing_is_saved_where_nothing_is_kept() -> None:
    """Nor is anything planned."""
    cached = Cached(idle=50, memory=0)
    cached.take("x", prompt_of(0, 100))
    cached.begin("y", prompt_of(1, 70))
    cached.cache.thin_out()
    assert (cached.cache.next_save, cached.backend.saves) == (None, 0)
    assert cached.backend.cells_held == 70


def test_what_is_short_is_not_worth_a_place() -> None:
    """It is read again as fast."""
    cached = Cached(idle=0)
    cached.take("x", prompt_of(0, 60))
    assert cached.backend.saves == 0


def test_a_thread_that_outgrows_what_is_kept_has_the_beginning_that_it_had() -> None:
    """What would not be kept is not even saved, and so does not take its place."""
    cached = Cached(slots=1, memory=150)
    for length in (100, 200, 300):
        cached.take("x", prompt_of(0, length))
        cached.take("y", prompt_of(1, 60))
    assert cached.saved() == {"x": 100}
    assert cached.length("x", prompt_of(0, 400)) == 100
    assert cached.backend.saves == 1


def test_an_owner_is_forgotten_in_slots_and_snapshots() -> None:
    """What is idle goes at once, what is busy when it ends; others keep theirs."""
    cached = Cached()
    cached.take("x", prompt_of(0, 100))
    cached.cache.save_all()
    cached.take("y", prompt_of(1, 100))
    busy = cached.begin("x", prompt_of(2, 100))
    cached.cache.forget("x")
    assert cached.saved() == {}
    assert cached.backend.cells_held == 200
    cached.cache.save_own(busy)
    cached.cache.release(busy)
    cached.cache.save_all()
    assert cached.backend.cells_held == 100
    assert cached.saved() == {"y": 100}


def test_a_beginning_that_many_share_outlives_the_threads_that_had_it() -> None:
    """It is saved for nobody in particular, and found by everybody of the scope."""
    cached = Cached(idle=0)
    slot = cached.begin("x", prompt_of(1, 150))
    cached.cache.save_shared(slot, 100)
    cached.cache.release(slot)
    cached.cache.forget("x")
    assert cached.saved() == {SHARED: 100}
    assert cached.length("y", prompt_of(1, 100) + prompt_of(2, 20)) == 100


def test_what_belongs_to_nobody_is_taken_over_by_nobody() -> None:
    """Two that begin alike are two, though neither has an owner: the first may come back."""
    cached = Cached()
    common = prompt_of(0, 100)
    first = cached.take(SHARED, common + prompt_of(1, 50))
    second = cached.begin(SHARED, common + prompt_of(2, 50))
    assert second is not first
    assert cached.length(SHARED, common + prompt_of(1, 60)) == 150


def test_what_is_read_again_sooner_than_it_is_saved_is_not_saved() -> None:
    """A written token lies by itself and costs a copy of its own; a prompt's lie together."""
    cached = Cached(cells=4000, memory=4000)
    cached.backend.seconds_per_save = 0.1
    cached.cache.seconds_to_read = 0.0005
    for number in range(SAVES_MEASURED):  # one slow save says little
        cached.take(f"first {number}", prompt_of(number, 70))
        cached.cache.save_all()
    assert len(cached.saved()) == SAVES_MEASURED
    cached.take("short", prompt_of(7, 100))
    assert cached.cache.evict()
    cached.cache.save_all()
    assert "short" not in cached.saved()
    cached.take("long", prompt_of(8, 400))
    cached.cache.save_all()
    assert "long" in cached.saved()


def test_saving_that_was_too_slow_is_tried_again_in_the_end() -> None:
    """What was slow at first need not stay so."""
    cached = Cached(cells=4000, memory=4000)
    cached.backend.seconds_per_save = 0.1
    cached.cache.seconds_to_read = 0.0005
    for number in range(SAVES_MEASURED):
        cached.take(f"first {number}", prompt_of(number, 70))
        cached.cache.save_all()
    cached.backend.seconds_per_save = 0.0
    for number in range(1000):
        if "again" in cached.saved():
            return
        cached.take("again", prompt_of(number, 100))
        assert cached.cache.evict()
    raise AssertionError("it was given up for ever")
