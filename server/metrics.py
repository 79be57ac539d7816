"""What the server counts, as Prometheus text. One registry a server, passed to whoever counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

LATENCIES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
TURN_LENGTHS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter(
            "assistants_http_requests",
            "HTTP requests by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        request_seconds = Histogram(
            "assistants_http_request_seconds",
            "Time to the first byte of the answer.",
            ["route"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        # Finding a child by its labels costs more than counting with it.
        self._requests_of = cache(requests.labels)
        self._seconds_of = cache(request_seconds.labels)
        self.turn_seconds = Histogram(
            "assistants_turn_seconds",
            "From the claim of a run to its next durable state.",
            buckets=TURN_LENGTHS,
            registry=self.registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer, and the time to its first byte."""
        self._requests_of(route, method, status).inc()
        self._seconds_of(route).observe(seconds)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when somebody looks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch_models(self, read: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Gauges `assistants_engine_<name>`, labelled by model; `read` gives values by model."""
        self.registry.register(ModelCollector(read))

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self.registry)


class ModelCollector(Collector):
    """Values that the models' engines keep, read when somebody looks."""

    def __init__(self, read: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for each value, with a sample for each model."""
        families: dict[str, GaugeMetricFamily] = {}
        for model, values in self._read().items():
            for name, value in values.items():
                family = families.setdefault(name, _family(name))
                family.add_metric([model], value)
        yield from families.values()


def _family(name: str) -> GaugeMetricFamily:
    text = f"The engine's {name.replace('_', ' ')}."
    return GaugeMetricFamily(f"assistants_engine_{name}", text, labels=["model"])
