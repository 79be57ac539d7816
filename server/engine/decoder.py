"""Continuous batching over one model context: requests in, one report per decode step out.

Works on token ids. Knows nothing of messages, tools, rows or HTTP, nor of processes and sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from server.engine.backend import Backend, Outcome
from server.engine.batch import Batch, Part
from server.engine.kv_cache import KVCache
from server.engine.messages import End, Failure, FailureKind, Step, Token
from server.engine.protocol import FinishReason, Request
from server.engine.scheduler import Scheduler, Share
from server.engine.sequence import Sequence
from server.engine.settings import EngineSettings

# A step is interrupted for a cancelled prompt only if waiting for its end would be felt.
LONG_STEP = 128


class Decoder:
    """The engine's core. Owned by one thread; only `interrupt` may be called from another."""

    def __init__(
        self,
        backend: Backend,
        settings: EngineSettings,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        size = max(settings.batch, backend.slots)
        self._backend = backend
        self._clock = clock
        self._cache = KVCache(backend)
        self._scheduler = Scheduler(
            backend, self._cache, batch=size, smallest_chunk=settings.prefill_chunk_busy
        )
        self._batch = Batch(size)
        self._sequences: dict[int, Sequence] = {}
        self._long = frozenset[int]()  # numbers whose prompt the running step computes
        self._unwanted = set[int]()  # numbers whose cancellation is on its way
        self._report = _Report()

    @property
    def idle(self) -> bool:
        return not self._sequences and self._report.empty

    def submit(self, number: int, request: Request) -> None:
        problem = self._problem(request)
        if problem is not None:
            self._report.failures.append(Failure(number, *problem))
            return
        sequence = Sequence.of(number, request, self._backend.context)
        self._sequences[number] = sequence
        self._scheduler.waiting.append(sequence)
        if sequence.full:
            self._end(sequence, "length")

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

    def step(self) -> Step:
        """One decode step, or none if nothing is left to decode."""
        started = self._clock()
        self._scheduler.admit()
        if shares := self._scheduler.plan():
            self._decode(shares)
        report, self._report = self._report, _Report()
        return Step(
            tokens=tuple(report.tokens),
            ends=tuple(report.ends),
            failures=tuple(report.failures),
            live=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            seconds=self._clock() - started,
        )

    def _decode(self, shares: list[Share]) -> None:
        rows = self._batch.fill(map(_part, shares))
        started = self._clock()
        match self._run(shares):
            case Outcome.DONE:
                prompt = sum(share.count for share in shares if share.count > 1)
                self._scheduler.observe(prompt, self._clock() - started)
                self._advance(shares, rows)
            case Outcome.ABORTED:
                for share in shares:
                    self._cache.restore(share.slot)
            case Outcome.FULL:
                self._relieve()

    def _run(self, shares: list[Share]) -> Outcome:
        self._long = _long_prompts(shares)
        try:
            if self._long.isdisjoint(self._unwanted):
                return self._backend.decode(self._batch)
            return Outcome.ABORTED
        finally:
            self._long = frozenset()

    def _advance(self, shares: list[Share], rows: list[int]) -> None:
        for share, row in zip(shares, rows, strict=True):
            sequence = share.sequence
            share.slot.tokens += _tokens(share)
            if share.completes:
                self._append(sequence, sequence.sampler.pick(self._backend.logits(row)))

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
        self._scheduler.remove(sequence)
        del self._sequences[sequence.number]
        counts = (sequence.prompt_tokens, sequence.completion_tokens, sequence.cached_tokens or 0)
        self._report.ends.append(End(sequence.number, reason, *counts))

    def _relieve(self) -> None:
        """Fewer cells are free than counted: some models keep more than one a token."""
        running = self._scheduler.running
        if self._cache.evict():
            return
        if len(running) > 1:
            self._scheduler.park(running[-1])
        elif running[0].completion_tokens:
            self._end(running[0], "length")
        else:
            self._fail(running[0], "too_long", "The prompt does not fit the model's memory.")

    def _fail(self, sequence: Sequence, kind: FailureKind, reason: str) -> None:
        self._scheduler.remove(sequence)
        del self._sequences[sequence.number]
        self._report.failures.append(Failure(sequence.number, kind, reason))

    def _problem(self, request: Request) -> tuple[FailureKind, str] | None:
        prompt, context = request.prompt, self._backend.context
        if not prompt:
            return "invalid", "The prompt is empty."
        if len(prompt) >= context:
            return "too_long", (
                f"The prompt has {len(prompt)} tokens; the model's context holds {context}."
            )
        if min(prompt) < 0 or max(prompt) >= self._backend.vocabulary:
            return "invalid", "The prompt has a token that is not in the model's vocabulary."
        return None


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


def _tokens(share: Share) -> list[int]:
    start = len(share.slot.tokens)
    return share.sequence.tokens[start : start + share.count]


def _long_prompts(shares: list[Share]) -> frozenset[int]:
    if sum(share.count for share in shares) < LONG_STEP:
        return frozenset()
    return frozenset(share.sequence.number for share in shares if share.count > 1)
