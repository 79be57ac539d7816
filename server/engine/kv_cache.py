"""Which tokens sit in which slot of the context, and what becomes of those that nobody decodes.

The first tier of the prefix cache, and the way to the others. A finished sequence's tokens stay in
its slot, as a prefix for the thread that returns; when slots or cells are needed, or others are
decoded beside too many idle tokens, the longest unused is saved (`snapshots`) and cut.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from server.engine.backend import Backend, State
from server.engine.cells import CellCount
from server.engine.snapshots import SHARED, Snapshot, SnapshotStore, common_prefix

# Every chat starts with the same few tokens of its template; sharing those saves nothing.
SHORTEST_PREFIX = 16
# Shorter ones are read again faster than they are worth a place.
SHORTEST_SNAPSHOT = 64
# How many tokens more a snapshot must have than the context for it to be worth loading.
WORTH_LOADING = 32
# The fastest of so many saves tells how fast saving is: a busy machine makes any one of them slow.
SAVES_MEASURED = 4
# How much faster it is taken to be whenever it was too slow: so that it is tried again at times.
FORGIVENESS = 0.002
# An idle slot is saved after so many seconds, while nobody waits for it.
SAVE_AFTER = 5.0
# Beside live sequences, nothing is saved ahead of need for so many times what the last one took: a
# GPU's states are large and have to come over a bus.
REST = 9


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence of the context. `tokens` is exactly what its cells hold."""

    index: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    scope: str = ""
    owner: str = SHARED
    pieces: int = 0  # in which its tokens came: about as many ranges of cells as it lies in
    busy: bool = False
    discard: bool = False  # its owner was forgotten
    used: int = 0  # order of last use
    idle_since: float = 0.0
    saved: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """The longest part of a prompt that need not be decoded, and where it is."""

    length: int
    source: Slot | Snapshot | None

    @property
    def on_disk(self) -> bool:
        """Whether it has to be read before it can be used."""
        return isinstance(self.source, Snapshot) and self.source.state is None

    @property
    def shared_cells(self) -> int:
        """How many of its cells a live sequence holds anyway."""
        return self.length if isinstance(self.source, Slot) and self.source.busy else 0


NOTHING = Prefix(0, None)


class KVCache:
    """The slots of one backend. Owned by the decode loop.

    `idle_limit` is in tokens, and holds while any slot is busy. `seconds_to_read` is what a token
    of a prompt takes, once that is known.
    """

    def __init__(
        self,
        backend: Backend,
        store: SnapshotStore,
        *,
        idle_limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._store = store
        self._idle_limit = idle_limit
        self._clock = clock
        self._slots = [Slot(index) for index in range(backend.slots)]
        self._cells = CellCount(backend.slots)
        self._uses = count(1)
        self._rests_until = 0.0  # by the clock
        self._saves = deque[float](maxlen=SAVES_MEASURED)  # seconds for a piece of a slot
        self.seconds_to_read: float | None = None

    @property
    def held_cells(self) -> int:
        return self._cells.total

    @property
    def free_cells(self) -> int:
        return self._backend.cells - self._cells.total

    @property
    def idle_cells(self) -> int:
        """Cells that would be free if nothing idle were kept."""
        return self._cells.total - self._cells.held_by(s.index for s in self._slots if s.busy)

    @property
    def has_slot(self) -> bool:
        return not all(slot.busy for slot in self._slots)

    def find(self, tokens: array[int], scope: str, owner: str) -> Prefix:
        """The longest usable prefix; of much the same length, the nearest."""
        found = [
            Prefix(self._usable(slot.tokens, tokens, shared=slot.busy), slot)
            for slot in self._slots
            if slot.tokens and slot.scope == scope
        ]
        found += [
            Prefix(self._usable(snapshot.tokens, tokens), snapshot)
            for snapshot in self._store.candidates(scope, owner)
        ]
        return max((prefix for prefix in found if prefix.length), key=_value, default=NOTHING)

    def fetch(self, snapshot: Snapshot) -> None:
        self._store.fetch(snapshot)

    def claim(self, prefix: Prefix, scope: str, owner: str) -> Slot | None:
        """A slot that holds the prefix, or as much of it as could be had; None if all are busy."""
        source = prefix.source
        if isinstance(source, Slot) and self._is_taken_over(source, prefix.length, owner):
            slot = source
            if slot.owner != owner:
                self._save_idle(slot)
            self.cut(slot, prefix.length)
        else:
            # Making room may drop the very snapshot that is to be loaded: hold on to its state.
            state = source.state if isinstance(source, Snapshot) else None
            free = self._free_slot(source)
            if free is None:
                return None
            slot = free
            self._fill(slot, prefix, state)
        slot.scope, slot.owner = scope, owner
        slot.busy, slot.discard, slot.saved = True, False, False
        return slot

    def extend(self, slot: Slot, tokens: array[int]) -> None:
        """A step has decoded these."""
        slot.tokens += tokens
        slot.pieces += 1
        self._cells.extend(slot.index, len(tokens))

    def release(self, slot: Slot) -> None:
        """The generation ended; its tokens stay until the cells are needed."""
        slot.busy, slot.used, slot.idle_since = False, next(self._uses), self._clock()
        if slot.discard:
            self.cut(slot, 0)

    def park(self, slot: Slot) -> None:
        """The sequence has to wait for cells; what it had is saved for its return."""
        slot.busy = False
        self._save_and_empty(slot)

    def cut(self, slot: Slot, length: int) -> None:
        if length < len(slot.tokens):
            self._backend.cut(slot.index, length)
            self._cells.cut(slot.index, length)
            del slot.tokens[length:]
            slot.pieces = min(slot.pieces, length)

    def restore(self, slot: Slot) -> None:
        """After an aborted step: make the cells hold what `tokens` says, as far as that goes."""
        length = len(slot.tokens) if self._backend.rolls_back else 0
        self._backend.cut(slot.index, length)
        self._cells.cut(slot.index, length)
        del slot.tokens[length:]

    def make_room(self, cells: int) -> bool:
        """Evict idle slots, the longest unused first, until so many cells are free."""
        while self.free_cells < cells:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Save and empty the longest unused idle slot; False if there is none."""
        idle = self._idle_slots()
        if not idle:
            return False
        self._save_and_empty(min(idle, key=_last_use))
        return True

    def save_shared(self, slot: Slot, length: int) -> None:
        """Keep a slot's first tokens for all that will begin like it."""
        self._save(slot, SHARED, length)

    def save_own(self, slot: Slot) -> None:
        """Keep all that a slot holds for its owner's next turn."""
        if not slot.discard:
            self._save(slot, slot.owner, len(slot.tokens))

    @property
    def next_save(self) -> float | None:
        """When, on the clock, the next idle slot is to be saved; None if none is."""
        due = [slot.idle_since + SAVE_AFTER for slot in self._idle_slots() if not slot.saved]
        return min(due, default=None) if self._store.keeps else None

    def save_due(self) -> None:
        """Save the idle slot whose time has come, if there is one."""
        if self._rests:
            return
        unsaved = [slot for slot in self._idle_slots() if not slot.saved]
        if unsaved:
            first = min(unsaved, key=lambda slot: slot.idle_since)
            if first.idle_since + SAVE_AFTER <= self._clock():
                self._save_idle(first)

    def save_all(self) -> None:
        """Before the end: what is idle goes to the store."""
        for slot in sorted(self._idle_slots(), key=_last_use, reverse=True):
            self._save_idle(slot)

    def forget(self, owner: str) -> None:
        """Keep nothing of an owner's, now or when its sequence ends."""
        self._store.forget(owner)
        for slot in self._slots:
            if slot.owner == owner and slot.busy:
                slot.discard = True
            elif slot.owner == owner:
                self.cut(slot, 0)

    def thin_out(self) -> None:
        """Hold idle cells to their limit while there is somebody whom they slow down.

        To save what is in them takes a while: not for when somebody waits to hear of a step.
        """
        while self._is_too_full and self.evict():
            pass

    def thin_out_gently(self) -> None:
        """The same, as far as saving leaves most of the time to decoding."""
        while self._is_too_full and not self._rests and self.evict():
            pass

    @property
    def _is_too_full(self) -> bool:
        return self._is_busy and self.idle_cells > self._idle_limit

    @property
    def _is_busy(self) -> bool:
        return any(slot.busy for slot in self._slots)

    @property
    def _rests(self) -> bool:
        return self._clock() < self._rests_until and self._is_busy

    def _idle_slots(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.tokens and not slot.busy]

    def _usable(self, held: array[int], tokens: array[int], *, shared: bool = False) -> int:
        # At least one token is decoded again: logits are not part of what is kept.
        length = min(common_prefix(held, tokens), len(tokens) - 1)
        if (shared or length < len(held)) and not self._backend.rolls_back:
            return 0
        return length if length >= SHORTEST_PREFIX else 0

    def _is_taken_over(self, slot: Slot, length: int, owner: str) -> bool:
        """Whether a slot is cut for the sequence, and not copied from.

        Another owner's slot is, and one of which little would be left, only if no other is free, or
        if the model cannot copy.
        """
        if slot.busy:
            return False
        if slot.owner == owner != SHARED and len(slot.tokens) <= 2 * length:
            return True
        others = [other for other in self._slots if other is not slot and not other.busy]
        return not others or not self._backend.rolls_back

    def _free_slot(self, source: Slot | Snapshot | None) -> Slot | None:
        """An empty slot, made by evicting the longest unused one if need be, but not the source."""
        free = [slot for slot in self._slots if not slot.busy and slot is not source]
        if not free:
            return None
        slot = min(free, key=lambda slot: (bool(slot.tokens), slot.used))
        self._save_and_empty(slot)
        return slot

    def _fill(self, slot: Slot, prefix: Prefix, state: State | None) -> None:
        """Let an empty slot begin with a prefix."""
        source = prefix.source
        if isinstance(source, Slot):
            self._backend.copy(source.index, slot.index, prefix.length)
            self._cells.share(source.index, slot.index, prefix.length)
            slot.tokens += source.tokens[: prefix.length]
            slot.pieces = source.pieces
        elif source is not None and state is not None:
            self._load(slot, source, state, prefix.length)

    def _load(self, slot: Slot, snapshot: Snapshot, state: State, length: int) -> None:
        """From memory to the context; a state that llama.cpp does not take is dropped."""
        if not self.make_room(len(snapshot.tokens)):
            return
        if self._backend.load(slot.index, state):
            self.extend(slot, snapshot.tokens)
            self.cut(slot, length)
            self._store.use(snapshot)
        else:
            self._store.drop(snapshot)

    def _save_and_empty(self, slot: Slot) -> None:
        self._save_idle(slot)
        self.cut(slot, 0)

    def _save_idle(self, slot: Slot) -> None:
        if not slot.saved:
            self.save_own(slot)
        slot.saved = True

    def _save(self, slot: Slot, owner: str, length: int) -> None:
        tokens = slot.tokens[:length]
        if length < SHORTEST_SNAPSHOT or not self._store.keeps:
            return
        if not self._store.holds(slot.scope, owner, tokens) and self._is_worth_saving(slot, length):
            started = self._clock()
            state = self._backend.save(slot.index, length, self._store.largest(owner))
            if state is None:
                return
            seconds = self._clock() - started
            self._rests_until = started + (1 + REST) * seconds
            self._saves.append(seconds / max(1, slot.pieces))
            self._store.keep(slot.scope, owner, tokens, state)

    def _is_worth_saving(self, slot: Slot, length: int) -> bool:
        """Whether to save it takes less time than to read it again would.

        Every range of cells is copied by itself, for each layer. Between a GPU and memory that
        takes so long that a short answer, written beside others, is sooner computed again.
        """
        if self.seconds_to_read is None or len(self._saves) < SAVES_MEASURED:
            return True
        if min(self._saves) * slot.pieces <= self.seconds_to_read * length:
            return True
        self._saves.extend([seconds * (1 - FORGIVENESS) for seconds in self._saves])
        return False


def _value(prefix: Prefix) -> int:
    """In tokens; what is at hand is worth some tokens more."""
    if isinstance(prefix.source, Slot):
        return prefix.length + WORTH_LOADING + (not prefix.source.busy)
    return prefix.length + (not prefix.on_disk)


def _last_use(slot: Slot) -> int:
    return slot.used
