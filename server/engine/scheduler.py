"""Which tokens the next decode step computes.

Every live stream gets its one token, in the same step as prompts or, where the model computes them
faster apart, in every other one. Prompts share what is left: the project that was served least
comes first, and within it the shortest remaining prompt, which grows older ones into the first
place in time. How much is left follows from what prompt tokens were seen to cost. A prompt that
begins like one that is just being read waits for it and takes its prefix. When the cells run out
the youngest sequence is parked: it is saved, loses its slot, and is first in line again. Where they
run out before they should by our count, nobody is admitted until a sequence has ended. So nothing
that fits alone can fail.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.backend import Backend
from server.engine.kv_cache import KVCache, Prefix, Slot
from server.engine.sequence import Sequence
from server.engine.snapshots import Snapshot, common_prefix

# Cells kept free for each live sequence to grow into before another one is admitted: a parked
# sequence that came back at once would only be parked again.
HEADROOM = 64
# With no more cells in use, prompts and streams are computed together, whatever the backend.
MIXED_CELLS = 1024
# A prompt waits for another one only if it saves so many tokens.
WORTH_WAITING = 32
# Seconds of prompt that a step may take beside live streams: when few prompts wait beside many
# streams, when many do, and when it is the last prompt or all that is left of them, so that short
# ones come in one go.
SHORTEST_STEP = 0.5
LONGEST_STEP = 3.0
LAST_STEP = 1.0
# What all that is left may take grows with what the prompt that has waited longest has waited, and
# half of it is what a step may take, however few wait: short steps cost each of them a quarter.
EARNED_SHARE = 1 / 3
MOST_EARNED = 2.0
# Without streams the batch is filled, but nobody must take a slow machine for one that hangs. What
# is left of all prompts goes in two steps, so that only half of them wait for the last one, if it
# takes so long that one step more is hardly felt.
LONGEST_ALONE = 10.0
WORTH_HALVING = 2.0
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Share:
    """What one sequence contributes to a step: its next `count` undecoded tokens."""

    sequence: Sequence
    slot: Slot
    count: int
    completes: bool  # nothing is left undecoded, so its next token can be sampled


class Scheduler:
    """Owned by the decode loop."""

    def __init__(
        self, backend: Backend, cache: KVCache, *, batch: int, smallest_chunk: int
    ) -> None:
        self.running: list[Sequence] = []  # in order of admission
        self.waiting: list[Sequence] = []  # in order of arrival
        self._backend = backend
        self._cache = cache
        self._batch = batch
        self._smallest_chunk = smallest_chunk
        self._seconds_per_step: float | None = None  # that reads no prompt; smoothed, as the next
        self._served: dict[str, int] = {}  # tokens by project, while it has sequences
        self._read = 0  # prompt tokens, ever
        self._prompts_turn = False  # where a step has either prompts or streams
        self._overfull = False  # the cells ran out early, and no sequence has ended since

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def add(self, sequence: Sequence) -> None:
        """A new project starts level with the one that was served least: idleness is no claim."""
        least = min(self._served.values(), default=0)
        self._served.setdefault(sequence.scope, least)
        sequence.arrival = self._read
        sequence.reusable = self._prefix_of(sequence).length
        self.waiting.append(sequence)

    def admit(self) -> None:
        """Give slots to those in line, as long as there are slots and cells."""
        running = len(self.running)
        if self.waiting and not (self._overfull and self.running):
            self._admit()
        if len(self.running) > running:
            self._cache.thin_out()  # so that who comes alone lies, and is rounded, as ever

    def _admit(self) -> None:
        for sequence in sorted(self.waiting, key=self._place_in_line):
            if not self._cache.has_slot:
                return
            prefix = self._prefix_of(sequence)
            sequence.reusable = prefix.length
            if self._follows(sequence, prefix):
                continue
            if prefix.on_disk and isinstance(prefix.source, Snapshot):
                self._cache.fetch(prefix.source)
                if prefix.on_disk:  # one that is on its way there is here at once, for now
                    continue
            if not self._has_room_for(sequence, prefix):
                return
            self._start(sequence, prefix)

    def plan(self) -> list[Share]:
        """The next step. Cells for it are free when this returns."""
        self._prompts_turn = not self._prompts_turn
        shares = self._shares()
        while not self._cache.make_room(sum(share.count for share in shares)):
            self.park(self.running[-1])
            shares = self._shares()
        return shares

    def park(self, sequence: Sequence) -> None:
        """Back into the line, without its slot."""
        self.running.remove(sequence)
        self._cache.park(sequence.held)
        sequence.slot, sequence.parked = None, True
        self.waiting.append(sequence)

    def relieve(self) -> None:
        """There are fewer cells than are counted, and no idle ones: those running are too many.

        By the count the parked one could come back at once, to a context that is as full.
        """
        self.park(self.running[-1])
        self._overfull = True

    def remove(self, sequence: Sequence) -> None:
        """The sequence ended, wherever it was."""
        self._overfull = False
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._cache.release(sequence.slot)
            sequence.slot = None
        if all(other.scope != sequence.scope for other in [*self.running, *self.waiting]):
            del self._served[sequence.scope]

    def observe(self, shares: list[Share], seconds: float) -> None:
        """Learn from a step: what each project was given, and what steps and prompts cost."""
        prompt = 0
        for share in shares:
            self._served[share.sequence.scope] += share.count
            prompt += share.count if share.count > 1 else 0
        self._read += prompt
        if prompt == 0:
            self._seconds_per_step = _smoothed(self._seconds_per_step, seconds)
        elif prompt >= self._smallest_chunk:
            usual = min(self._seconds_per_step or 0.0, seconds / 2)
            alone = usual if any(share.count == 1 for share in shares) else 0.0
            measured = (seconds - alone) / prompt
            known = self._cache.seconds_to_read
            self._cache.seconds_to_read = _smoothed(known, measured)

    def expect(self, tokens: int, seconds: float) -> None:
        """What prompts seem to cost, until one was read."""
        self._cache.seconds_to_read = seconds / tokens

    def time_to_read(self, tokens: int) -> float:
        """The seconds that so many tokens of prompts seem to take; 0 if that is not known."""
        return tokens * (self._cache.seconds_to_read or 0.0)

    def _prefix_of(self, sequence: Sequence) -> Prefix:
        return self._cache.find(sequence.tokens, sequence.scope, sequence.owner)

    def _start(self, sequence: Sequence, prefix: Prefix) -> None:
        slot = self._cache.claim(prefix, sequence.scope, sequence.owner)
        if slot is None:
            return
        sequence.slot, slot.discard = slot, sequence.forgotten
        sequence.parked = False
        if sequence.cached_tokens is None:
            sequence.cached_tokens = len(slot.tokens)
        self.waiting.remove(sequence)
        self.running.append(sequence)

    def _shares(self) -> list[Share]:
        shares: list[Share] = []
        prompts: list[Sequence] = []
        for sequence in self.running:
            if sequence.left == 1:
                shares.append(Share(sequence, sequence.held, 1, completes=True))
            else:
                prompts.append(sequence)
        if not prompts or (shares and self._apart and not self._prompts_turn):
            return shares
        prompts.sort(key=self._place_in_prefill)
        budget = self._chunk(len(shares), prompts)
        if self._apart:
            shares = []
        for sequence in prompts:
            if count := min(budget, self._stretch(sequence)):
                completes = count == sequence.left
                shares.append(Share(sequence, sequence.held, count, completes))
                budget -= count
        return shares

    @property
    def _apart(self) -> bool:
        """Whether prompts and streams have steps of their own."""
        return not self._backend.mixes and self._cache.held_cells > MIXED_CELLS

    def _stretch(self, sequence: Sequence) -> int:
        """How far it may read in one go: a state that has no middle is saved between two steps."""
        done = len(sequence.held.tokens)
        if done < sequence.shared and not self._backend.rolls_back:
            return sequence.shared - done
        return sequence.left

    def _chunk(self, streams: int, prompts: list[Sequence]) -> int:
        """How many tokens of the prompts, in this order, go beside so many live streams.

        A step that reads prompts holds up every stream, one that does not holds up every prompt:
        the more prompts wait for each stream, and the longer one has waited, the longer it may
        take. Small chunks are inefficient, too: half of the streams waiting are enough to fill the
        batch.
        """
        room = self._batch - (0 if self._apart else streams)
        cost = self._cache.seconds_to_read
        if cost is None:
            return min(room, self._smallest_chunk) if streams else room
        backlog = [*prompts, *self.waiting]
        left = sum(sequence.left for sequence in backlog)
        waited = self.time_to_read(max(map(self._read_since, backlog)))
        earned = min(MOST_EARNED, EARNED_SHARE * waited)
        if left * cost <= max(LAST_STEP, earned):
            return min(room, left)
        if streams == 0:
            target = LONGEST_ALONE
            if left <= room and left * cost > WORTH_HALVING:
                room = sum(prompt.left for prompt in prompts[: (len(prompts) + 1) // 2])
        else:
            pressure = min(1.0, 2 * len(backlog) / streams)
            target = max(SHORTEST_STEP, earned / 2, LONGEST_STEP * pressure**2)
            target = target if len(backlog) > 1 else min(target, LAST_STEP)
        return min(room, max(self._smallest_chunk, round(target / cost)))

    def _place_in_line(self, sequence: Sequence) -> tuple[bool, int, int]:
        return (not sequence.parked, *self._place_in_prefill(sequence))

    def _place_in_prefill(self, sequence: Sequence) -> tuple[int, int]:
        """By project, then by what is left to read, less half of what was read meanwhile."""
        return self._served[sequence.scope], 2 * sequence.left - self._read_since(sequence)

    def _read_since(self, sequence: Sequence) -> int:
        """How many tokens of prompts were read since it came."""
        return self._read - sequence.arrival

    def _follows(self, sequence: Sequence, prefix: Prefix) -> bool:
        """Whether it begins like a prompt that is being read, and should wait for that."""
        if not self._backend.rolls_back:
            return False
        for other in self.running:
            if other.scope != sequence.scope or other.left <= 1:
                continue
            shared = min(common_prefix(sequence.tokens, other.tokens), len(sequence.tokens) - 1)
            begun = prefix.source is other.slot  # what is missing comes with its next step or two
            gain = shared - prefix.length
            if (begun or gain >= WORTH_WAITING) and len(other.held.tokens) < shared:
                return True
        return False

    def _has_room_for(self, sequence: Sequence, prefix: Prefix) -> bool:
        if not self.running:
            return True
        needed = sum(map(_growth, self.running))
        needed += _reach(sequence) - prefix.shared_cells
        return needed <= self._cache.free_cells + self._cache.idle_cells


def _smoothed(past: float | None, measured: float) -> float:
    return measured if past is None else past + _SMOOTHING * (measured - past)


def _growth(sequence: Sequence) -> int:
    """The cells it will take soon."""
    return _reach(sequence) - len(sequence.held.tokens)


def _reach(sequence: Sequence) -> int:
    return min(len(sequence.tokens) + HEADROOM, sequence.limit)
