"""What is measured of runs and of the calls of models, for runs and chat completions alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from server.metrics import Metrics
from server.runs.turns import ModelCall, Turn

REASONS = frozenset({"stop", "tool_calls", "length", "content_filter", "cancelled", "error"})


class Heard:
    """Called with each delta of a turn; remembers when the first came."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self) -> None:
        if self.first is None:
            self.first = time.perf_counter()


class Observer:
    """Counts in the metrics what executions and completions do."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @contextmanager
    def call(self, model_id: str, turn: Turn) -> Iterator[Heard]:
        """Around the iteration of a turn."""
        begun, heard, cancelled = time.perf_counter(), Heard(), False
        try:
            yield heard
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            if (call := turn.call) is not None:
                call = replace(call, finish_reason="cancelled") if cancelled else call
                self._count(model_id, call, begun, heard.first, time.perf_counter())

    def claim(self, model_id: str, to: str, seconds: float) -> None:
        """A claim is over, and its run is now as `to` says."""
        self._metrics.claims.labels(model_id, to).inc()
        self._metrics.claim_seconds.labels(model_id).observe(seconds)

    def recovered(self, runs: int) -> None:
        """So many runs were claimed by a server that died."""
        self._metrics.recovered.inc(runs)

    def _count(
        self, model_id: str, call: ModelCall, begun: float, first: float | None, end: float
    ) -> None:
        metrics = self._metrics
        reason = call.finish_reason if call.finish_reason in REASONS else "other"
        metrics.model_calls.labels(model_id, reason).inc()
        tokens = {
            "prompt": call.prompt_tokens,
            "cached": call.cached_tokens,
            "completion": call.completion_tokens,
            "reasoning": call.reasoning_tokens,
        }
        for kind, number in tokens.items():
            metrics.tokens.labels(model_id, kind).inc(number)
        if first is None:
            return
        metrics.first_token_seconds.labels(model_id).observe(first - begun)
        if call.completion_tokens > 1:
            each = (end - first) / (call.completion_tokens - 1)
            metrics.token_seconds.labels(model_id).observe(each)
