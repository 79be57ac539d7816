"""Where spans go: OpenTelemetry's SDK, and OTLP over HTTP. Needs the extra `traces`.

The SDK's own environment variables say where to, how many, and by what name.
"""

from __future__ import annotations

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

LAST_SPANS: Final = 3000  # milliseconds that sending them may take at the end


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
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))

    def close() -> None:
        provider.force_flush(LAST_SPANS)
        provider.shutdown()

    return Traces(provider.get_tracer("assistants-server", __version__), close)
