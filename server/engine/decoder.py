"""Continuous batching over one model context: requests in, one report per decode step out.

Works on token ids. Knows nothing of messages, tools, rows or HTTP, nor of processes and sockets.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from server.engine.backend import Backend, Logits, Outcome
from server.engine.batch import Batch, Part
from server.engine.constraint import Compiled, Constraint, ConstraintBroken, MaskThread
from server.engine.kv_cache import KVCache
from server.engine.messages import End, Failure, FailureKind, Step, Token
from server.engine.protocol import FinishReason, Request
from server.engine.sampling import Picker, Turn
from server.engine.scheduler import Scheduler, Share
from server.engine.sequence import Sequence
from server.engine.settings import EngineSettings
from server.engine.snapshots import Fetched, SnapshotStore, Written

# A step is interrupted for a cancelled prompt only if waiting for its end would be felt.
LONG_STEP = 128
# Requests that come within so much of a step that only reads prompts are read in it, too: the step
# begins anew. The share is of the time that it will take.
JOINING_SHARE = 1 / 8
LONGEST_JOINING = 0.05  # seconds
WARM_UP = 32  # tokens


class Decoder:
    """The engine's core. Owned by one thread; only `interrupt` may be called from another."""

    def __init__(
        self,
        backend: Backend,
        settings: EngineSettings,
        store: SnapshotStore | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        size = max(settings.batch, backend.slots)
        self._backend = backend
        self._clock = clock
        self._store = store or SnapshotStore()
        self._cache = KVCache(backend, self._store, idle_limit=settings.idle_cells, clock=clock)
        self._scheduler = Scheduler(
            backend, self._cache, batch=size, smallest_chunk=settings.prefill_chunk_busy
        )
        self._batch = Batch(size)
        self._masks = MaskThread()
        self._picker = Picker(backend.sampling_threads)
        self._sequences: dict[int, Sequence] = {}
        self._unready: dict[int, Sequence] = {}  # those of them whose grammar is being read
        self._long = frozenset[int]()  # numbers whose prompt the running step computes
        self._unwanted = set[int]()  # numbers whose cancellation is on its way
        self._joinable_until = 0.0  # the running step may begin anew for company, by the clock
        self._gathering: float | None = None  # the same of a step that has begun anew already
        self._report = _Report()
        self._waits = False  # there was nothing to decode in the last step, and no news since
        self.steady = False  # all that is known of was being written before the last step, too

    @property
    def idle(self) -> bool:
        """Nothing is left to decode and nothing to report."""
        return not self._sequences and self._report.empty

    @property
    def blocked(self) -> bool:
        """All that is left waits for snapshots or grammars, and nothing was heard since."""
        return self._waits and self._report.empty

    @property
    def saving(self) -> bool:
        """Snapshots are on their way to disk."""
        return self._store.writing

    @property
    def next_chore(self) -> float | None:
        """In how many seconds `tend` has something to do; None if nothing is planned."""
        due = self._cache.next_save
        return None if due is None else max(0.0, due - self._clock())

    def submit(self, number: int, request: Request, constraint: Constraint | None = None) -> None:
        """Take a request; one with a grammar waits for its constraint, if that is not here yet."""
        self._waits = False
        problem = self._problem(request)
        if problem is not None:
            self._report.failures.append(Failure(number, *problem))
            return
        sequence = Sequence.of(number, request, self._backend.context, constraint)
        self._sequences[number] = sequence
        if request.grammar and constraint is None:
            self._unready[number] = sequence
        else:
            self._scheduler.add(sequence)
        if sequence.full:
            self._end(sequence, "length")

    def constrain(self, compiled: Compiled) -> None:
        """A grammar was read; whoever waited for it may have been cancelled meanwhile."""
        self._waits = False
        sequence = self._unready.get(compiled.number)
        if sequence is None:
            return
        if compiled.constraint is None:
            self._fail(sequence, "grammar", f"The grammar is refused: {compiled.problem}.")
            return
        sequence.constraint = compiled.constraint
        del self._unready[compiled.number]
        self._scheduler.add(sequence)

    def cancel(self, number: int) -> None:
        self._unwanted.discard(number)
        sequence = self._sequences.get(number)
        if sequence is not None:
            self._end(sequence, "cancelled")

    def interrupt(self, number: int) -> None:
        """Cut short a long step that computes this sequence's prompt; `cancel` must follow.

        From any thread. It writes `_unwanted` before it reads `_long`, and a step the other way
        round, so that one of the two sees the other.
        """
        self._unwanted.add(number)
        if number in self._long:
            self._backend.interrupt()

    def welcome(self) -> None:
        """A request is on its way: read it with the prompts of a step that has just begun.

        From any thread. If the step ends meanwhile, the next one may have to be done again.
        """
        if self._clock() < self._joinable_until:
            self._backend.interrupt()

    def receive(self, news: Written | Fetched) -> None:
        """The archive has written or read a snapshot."""
        self._waits = False
        if isinstance(news, Written):
            self._store.written(news)
        else:
            self._store.fetched(news)

    def forget(self, owner: str) -> None:
        """Keep nothing of an owner's, now or when what it has asked for ends."""
        self._waits = False
        for sequence in self._sequences.values():
            sequence.forgotten |= sequence.owner == owner
        self._cache.forget(owner)

    def tend(self) -> None:
        """Do what can wait until there is nothing better to do."""
        self._cache.thin_out_gently()
        self._cache.save_due()

    def save_all(self) -> None:
        """Before the end: save what returning threads will ask for."""
        self._cache.save_all()

    def warm_up(self) -> None:
        """Decode something that nobody wants, to see how fast this machine is."""
        tokens = array("i", [0]) * min(WARM_UP, len(self._batch.tokens), self._backend.context - 1)
        self._batch.fill([Part(0, 0, tokens, True)])
        started = self._clock()
        self._backend.decode(self._batch)
        self._scheduler.expect(len(tokens), self._clock() - started)
        self._backend.cut(0, 0)

    def step(self, meanwhile: Callable[[], None] = lambda: None) -> Step:
        """One decode step, or none if nothing is left to decode.

        `meanwhile` is called once the model has computed, so that what it causes in other processes
        runs beside the sampling, which leaves cores to them.
        """
        started = self._clock()
        self._scheduler.admit()
        shares = self._scheduler.plan()
        if shares:
            self._decode(shares, meanwhile)
        self._waits = not shares and (self._store.fetching or bool(self._unready))
        self.steady = self._is_steady(shares)
        return self._told(self._clock() - started)

    def news(self) -> Step | None:
        """Ends and refusals since the last step: nobody should wait for the next one to hear."""
        return None if self._report.empty else self._told(0.0)

    def _told(self, seconds: float) -> Step:
        report, self._report = self._report, _Report()
        return Step(
            tokens=tuple(report.tokens),
            ends=tuple(report.ends),
            failures=tuple(report.failures),
            live=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._unready),
            seconds=seconds,
            cells=self._cache.held_cells,
            saved_bytes=self._store.in_memory,
            stored_bytes=self._store.on_disk,
        )

    def _is_steady(self, shares: list[Share]) -> bool:
        report, scheduler = self._report, self._scheduler
        if report.ends or report.failures or scheduler.waiting or self._unready:
            return False
        return bool(shares) and all(each.completion_tokens > 1 for each in scheduler.running)

    def _decode(self, shares: list[Share], meanwhile: Callable[[], None]) -> None:
        rows = self._batch.fill(map(_part, shares))
        started = self._clock()
        self._begin_masks([share.sequence for share in shares if share.completes])
        outcome = self._run(shares)
        seconds = self._clock() - started
        meanwhile()
        self._gathering = self._gathering if outcome is Outcome.ABORTED else None
        match outcome:
            case Outcome.DONE:
                self._scheduler.observe(shares, seconds)
                self._advance(shares, rows)
            case Outcome.ABORTED:
                self._take_back(shares)
            case Outcome.FULL:
                self._relieve()

    def _run(self, shares: list[Share]) -> Outcome:
        self._backend.resume()  # first, or an interrupt that is meant for this step would be lost
        self._long = self._long_prompts(shares)
        self._joinable_until = self._end_of_joining(shares)
        try:
            if self._long.isdisjoint(self._unwanted):
                return self._backend.decode(self._batch)
            return Outcome.ABORTED
        finally:
            self._long, self._joinable_until = frozenset(), 0.0

    def _end_of_joining(self, shares: list[Share]) -> float:
        """Until when company is worth it that the step begins anew; 0 if it never is.

        One that did so once has no more time than it had at first.
        """
        tokens = sum(share.count for share in shares)
        has_room = tokens < len(self._batch.tokens) and self._cache.has_slot
        reads_only = all(share.count > 1 for share in shares)
        if not (has_room and reads_only and self._backend.rolls_back):
            self._gathering = None
            return 0.0
        now = self._clock()
        if self._gathering is None:
            share = JOINING_SHARE * self._scheduler.time_to_read(tokens)
            self._gathering = now + min(LONGEST_JOINING, share)
        return self._gathering

    def _long_prompts(self, shares: list[Share]) -> frozenset[int]:
        """The sequences for which the step may be cut short.

        Where states have no middle that would cost the other sequences all that they have.
        """
        if sum(share.count for share in shares) < LONG_STEP:
            return frozenset()
        if len(shares) > 1 and not self._backend.rolls_back:
            return frozenset()
        return frozenset(share.sequence.number for share in shares if share.count > 1)

    def _take_back(self, shares: list[Share]) -> None:
        for share in shares:
            self._cache.restore(share.slot)
            reused = share.sequence.cached_tokens or 0
            share.sequence.cached_tokens = min(reused, len(share.slot.tokens))

    def _begin_masks(self, sequences: list[Sequence]) -> None:
        """Those of a step that came to nothing are still there."""
        held = [(s, s.constraint) for s in sequences if s.constraint is not None and s.mask is None]
        masks = self._masks.begin([constraint for _, constraint in held])
        for (sequence, _), mask in zip(held, masks, strict=True):
            sequence.mask = mask

    def _advance(self, shares: list[Share], rows: list[int]) -> None:
        for share in shares:
            self._extend(share)
        ready = [row for share, row in zip(shares, rows, strict=True) if share.completes]
        if ready:
            logits = self._backend.logits(ready)
            self._go_on([share.sequence for share in shares if share.completes], logits)

    def _go_on(self, sequences: list[Sequence], logits: Logits) -> None:
        """Each by a token, of its row."""
        turns = [self._turn(sequence, row) for row, sequence in enumerate(sequences)]
        tokens = iter(self._picker.pick(logits, [turn for turn in turns if turn is not None]))
        for sequence, turn in zip(sequences, turns, strict=True):
            if turn is not None:
                self._take(sequence, next(tokens))

    def _turn(self, sequence: Sequence, row: int) -> Turn | None:
        """None if its constraint has given up: that ends its own sequence, and no other."""
        mask, sequence.mask = sequence.mask, None
        try:
            return Turn(row, sequence.sampler, None if mask is None else mask.result())
        except ConstraintBroken as problem:
            self._break_off(sequence, problem)
            return None

    def _take(self, sequence: Sequence, token: int) -> None:
        try:
            if sequence.constraint is not None:
                sequence.constraint.accept(token)
        except ConstraintBroken as problem:
            self._break_off(sequence, problem)
        else:
            self._append(sequence, token)

    def _break_off(self, sequence: Sequence, problem: ConstraintBroken) -> None:
        self._fail(sequence, "grammar", f"The grammar cannot be followed: {problem}.")

    def _extend(self, share: Share) -> None:
        """Take what was decoded into the slot, and save it where others, or a next turn, begin."""
        sequence, slot = share.sequence, share.slot
        before = len(slot.tokens)
        self._cache.extend(slot, _tokens(share))
        if share.count > 1 or before < sequence.prompt_tokens:
            if before < sequence.shared <= len(slot.tokens):
                self._cache.save_shared(slot, sequence.shared)
            if len(slot.tokens) == sequence.prompt_tokens and not self._backend.rolls_back:
                self._cache.save_own(slot)

    def _append(self, sequence: Sequence, token: int) -> None:
        sequence.tokens.append(token)
        if self._backend.ends_turn(token):
            self._end(sequence, "stop")
            return
        text = self._backend.text(token).decode("latin-1")
        self._report.tokens.append(Token(sequence.number, token, text))
        if sequence.full:
            self._end(sequence, "length")

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        self._drop(sequence)
        counts = (sequence.prompt_tokens, sequence.completion_tokens, sequence.cached_tokens or 0)
        self._report.ends.append(End(sequence.number, reason, *counts))

    def _relieve(self) -> None:
        """Fewer cells are free than counted: some models keep more than one a token."""
        running = self._scheduler.running
        if self._cache.evict():
            return
        if len(running) > 1:
            self._scheduler.relieve()
        elif running[0].completion_tokens:
            self._end(running[0], "length")
        else:
            self._fail(running[0], "too_long", "The prompt does not fit the model's memory.")

    def _fail(self, sequence: Sequence, kind: FailureKind, reason: str) -> None:
        self._drop(sequence)
        self._report.failures.append(Failure(sequence.number, kind, reason))

    def _drop(self, sequence: Sequence) -> None:
        del self._sequences[sequence.number]
        if self._unready.pop(sequence.number, None) is None:
            self._scheduler.remove(sequence)

    def _problem(self, request: Request) -> tuple[FailureKind, str] | None:
        prompt, context = request.prompt, self._backend.context
        if not prompt:
            return "invalid", "The prompt is empty."
        if len(prompt) >= context:
            return "too_long", (
                f"The prompt has {len(prompt)} tokens; the model's context holds {context}."
            )
        if not self._knows(prompt):
            return "invalid", "The prompt has a token that is not in the model's vocabulary."
        if not self._knows([token for token, _ in request.sampling.logit_bias]):
            return "invalid", "logit_bias has a token that is not in the model's vocabulary."
        return None

    def _knows(self, tokens: Collection[int]) -> bool:
        return min(tokens, default=0) >= 0 and max(tokens, default=0) < self._backend.vocabulary


@dataclass(slots=True)
class _Report:
    """What has happened since the last step was reported."""

    tokens: list[Token] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.tokens or self.ends or self.failures)


def _part(share: Share) -> Part:
    return Part(share.slot.index, len(share.slot.tokens), _tokens(share), share.completes)


def _tokens(share: Share) -> array[int]:
    start = len(share.slot.tokens)
    return share.sequence.tokens[start : start + share.count]
