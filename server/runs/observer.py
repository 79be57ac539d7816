"""What is logged, counted and traced of runs, and of the calls of models by whoever makes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from server import logs
from server.chat.values import ToolCall
from server.db.stores import Record
from server.metrics import Metrics
from server.runs.models import Model
from server.runs.turns import ModelCall, Turn, TurnRequest
from server.traces import Attributes, Traces, fail, known

log = logging.getLogger(__name__)

REASONS: Final = frozenset({"stop", "tool_calls", "length", "content_filter", "cancelled", "error"})
TOOL_TYPES: Final = {"file_search": "datastore", "code_interpreter": "extension"}


@dataclass(slots=True)
class Claimed:
    """A claim that is being driven; `to` is what became of its run, None if it was taken away."""

    to: str | None = None


class Heard:
    """Called with each delta of a turn; remembers when the first came."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self) -> None:
        if self.first is None:
            self.first = time.perf_counter()


class Steps:
    """The span of a run's open step, if it has one: they follow each other."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._open: Span | None = None

    def begin(self, type: str, id: str) -> None:
        """A step, named by its id or by its message's."""
        self.end()
        about = {"assistants.step.type": type, "assistants.step.about": id}
        self._open = self._traces.begin(f"run_step {type}", about)

    def end(self) -> None:
        if self._open is not None:
            self._open.end()
            self._open = None

    def tool(self, kind: str, calls: Sequence[ToolCall]) -> AbstractContextManager[Span]:
        """Around the work of one of the server's tools."""
        about: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": kind,
            "gen_ai.tool.type": TOOL_TYPES.get(kind),
            "gen_ai.tool.call.id": calls[0].id if len(calls) == 1 else None,
            "assistants.tool.calls": len(calls),
        }
        return self._traces.span(f"execute_tool {kind}", about, under=self._open)


class Observer:
    """Of one server."""

    def __init__(self, metrics: Metrics, traces: Traces) -> None:
        self._metrics = metrics
        self._traces = traces

    @contextmanager
    def claim(self, run: Record) -> Iterator[Claimed]:
        """Around all that is done under a claim of a run."""
        begun, claimed = time.perf_counter(), Claimed()
        about: Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": run.assistant_id,
            "gen_ai.conversation.id": run.thread_id,
            "gen_ai.request.model": run.model_id,
            "assistants.run.id": run.id,
            "assistants.run.attempt": run.attempt,
        }
        with (
            logs.about(thread_id=run.thread_id, run_id=run.id),
            self._traces.run("invoke_agent", run.id, run.traceparent, about) as span,
        ):
            try:
                yield claimed
            finally:
                to, seconds = claimed.to or "lost", time.perf_counter() - begun
                self._metrics.claims.labels(run.model_id, to).inc()
                self._metrics.claim_seconds.labels(run.model_id).observe(seconds)
                span.set_attribute("assistants.run.status", to)
                if to == "failed":
                    fail(span, to)
                facts = {"model": run.model_id, "status": to, "ms": round(seconds * 1000, 1)}
                log.info("run", extra=facts)

    @contextmanager
    def call(self, model: Model, request: TurnRequest, turn: Turn) -> Iterator[Heard]:
        """Around the iteration of a turn."""
        begun, heard, cancelled = time.perf_counter(), Heard(), False
        name = f"chat {model.id}"
        with self._traces.span(name, _asked(model, request), kind=SpanKind.CLIENT) as span:
            try:
                yield heard
            except asyncio.CancelledError:
                cancelled = True
                raise
            finally:
                if (call := turn.call) is not None:
                    call = replace(call, finish_reason="cancelled") if cancelled else call
                    self._count(model.id, call, begun, heard.first, time.perf_counter())
                    span.set_attributes(_answered(call, begun, heard.first))

    def steps(self) -> Steps:
        """For the steps of one claim."""
        return Steps(self._traces)

    def recovered(self, runs: int) -> None:
        """So many runs were claimed by a server that died."""
        self._metrics.recovered.inc(runs)

    def _count(
        self, model_id: str, call: ModelCall, begun: float, first: float | None, end: float
    ) -> None:
        metrics = self._metrics
        metrics.model_calls.labels(model_id, _reason(call)).inc()
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


def _reason(call: ModelCall) -> str:
    """An endpoint may have any."""
    return call.finish_reason if call.finish_reason in REASONS else "other"


def _asked(model: Model, request: TurnRequest) -> Attributes:
    options = request.options
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai" if model.local is None else "llama.cpp",
        "gen_ai.request.model": model.id,
        "gen_ai.request.max_tokens": request.budget.completion,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
        "gen_ai.request.top_k": options.top_k,
        "gen_ai.request.seed": options.seed,
        "gen_ai.request.presence_penalty": options.presence_penalty,
        "gen_ai.request.frequency_penalty": options.frequency_penalty,
        "gen_ai.output.type": "text" if request.response_format is None else "json",
    }


def _answered(call: ModelCall, begun: float, first: float | None) -> dict[str, AttributeValue]:
    return known(
        {
            "gen_ai.response.finish_reasons": [_reason(call)],
            "gen_ai.response.time_to_first_chunk": None if first is None else first - begun,
            "gen_ai.usage.input_tokens": call.prompt_tokens,
            "gen_ai.usage.output_tokens": call.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": call.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": call.reasoning_tokens,
        }
    )
