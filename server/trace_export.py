"""Where spans go: OpenTelemetry's SDK, and OTLP over HTTP. Needs the extra `traces`.

The SDK's own environment variables say where to, how many, and by what name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from server import __version__
from server.traces import Traces, next_trace

log = logging.getLogger(__name__)

LAST_SPANS: Final = 3.0  # seconds that sending them may take at the end
QUIET: Final = 60.0  # seconds after spans could not be sent, in which that is not told again
_EXPORTER: Final = logging.getLogger(OTLPSpanExporter.__module__)
_PHRASES: Final = frozenset(status.phrase for status in HTTPStatus)


class NotSent(logging.Filter):
    """Has a line of ours a minute for all that the exporter logs.

    It logs every second that nobody takes its spans, with the words of errors and a URL.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.warning("traces.not_sent", extra={"reason": _reason_of(record)})
        return False


def _reason_of(record: logging.LogRecord) -> str:
    """The type of the error, or how HTTP calls the collector's answer."""
    for value in record.args or ():
        if isinstance(value, Exception):
            return type(value).__name__
        if isinstance(value, str) and value in _PHRASES:
            return value
    return "unknown"


class TraceIds(RandomIdGenerator):
    """Random ids, but for the traces of runs."""

    def generate_trace_id(self) -> int:
        return next_trace() or super().generate_trace_id()


def export(processor: SpanProcessor | None = None) -> Traces:
    """Traces that are sent, or given to a processor."""
    ours = Resource({SERVICE_NAME: "assistants-server", SERVICE_VERSION: __version__})
    provider = TracerProvider(
        resource=ours.merge(OTELResourceDetector().detect()),
        id_generator=TraceIds(),
        shutdown_on_exit=False,
    )
    not_sent = NotSent()
    _EXPORTER.addFilter(not_sent)
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))

    def close() -> None:
        # The SDK sends what it has first, and takes its own time where nobody is there to take it.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(LAST_SPANS)
        if not sending.is_alive():
            _EXPORTER.removeFilter(not_sent)

    return Traces(provider.get_tracer("assistants-server", __version__), close)
