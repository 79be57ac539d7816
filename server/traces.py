"""Traces of runs and of calls of models, by OpenTelemetry's conventions for generative AI.

Spans tell ids, models, counts and times, and nothing that somebody wrote. Knows no rows. Its SDK
is an extra, which is imported only where traces are on.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

Attributes = Mapping[str, AttributeValue | None]

HEADER: Final = "traceparent"
_PARENT: Final = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PROPAGATOR: Final = TraceContextTextMapPropagator()

_caller: ContextVar[str | None] = ContextVar("caller", default=None)
_next_trace: ContextVar[int | None] = ContextVar("next_trace", default=None)


class TracesUnavailable(Exception):
    """Traces were asked for and cannot be made; the text is one sentence."""


def called_by(header: str | None) -> None:
    """The span that the request at hand is a part of, as its `traceparent` has it."""
    if header is not None and _PARENT.fullmatch(header):
        _caller.set(header)


def caller() -> str | None:
    """What `called_by` was told in this context, if that made sense."""
    return _caller.get()


def next_trace() -> int | None:
    """The id that the trace which begins now shall have; None: any."""
    return _next_trace.get()


class Traces:
    """Makes spans by a tracer; without one it makes none. `close` has the last ones sent."""

    def __init__(
        self, tracer: Tracer | None = None, close: Callable[[], object] = lambda: None
    ) -> None:
        self._tracer = tracer
        self._close = close

    @property
    def on(self) -> bool:
        return self._tracer is not None

    async def close(self) -> None:
        """Blocks a thread for as long as sending takes."""
        if self.on:
            await asyncio.to_thread(self._close)

    @contextmanager
    def run(self, name: str, run_id: str, parent: str | None, about: Attributes) -> Iterator[Span]:
        """The current span while it lasts: under its caller's, or the first of the run's trace.

        All claims of a run have one trace, whichever process makes them.
        """
        token = _next_trace.set(_trace_of(run_id))
        try:
            span = self.begin(name, about, under=_context_of(parent))
        finally:
            _next_trace.reset(token)
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            finally:
                span.end()

    @contextmanager
    def span(
        self,
        name: str,
        about: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        under: Span | None = None,
    ) -> Iterator[Span]:
        """Under another span, else the current one, else the caller's. What it raises is told."""
        context = _context_of(caller())
        if under is not None or trace.get_current_span().get_span_context().is_valid:
            context = trace.set_span_in_context(under or trace.get_current_span())
        span = self.begin(name, about, kind=kind, under=context)
        try:
            yield span
        except Exception as error:
            fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    def begin(
        self,
        name: str,
        about: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        under: Context | None = None,
    ) -> Span:
        """A span that the caller ends; without a context, under the current one."""
        if self._tracer is None:
            return trace.INVALID_SPAN
        return self._tracer.start_span(name, under, kind, known(about))


def known(about: Attributes) -> dict[str, AttributeValue]:
    """Without what has no value."""
    return {name: value for name, value in about.items() if value is not None}


def fail(span: Span, kind: str) -> None:
    """Mark what a span is about as failed, for a reason in a word."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _trace_of(run_id: str) -> int:
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16]) or 1


def _context_of(parent: str | None) -> Context:
    return Context() if parent is None else _PROPAGATOR.extract({HEADER: parent}, Context())
