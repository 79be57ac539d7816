"""What the server counts, as Prometheus text. One registry a server, passed to whoever counts.

`docs/metrics.md` lists it all. Labels have few values: routes, configured models, words of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# They would double what is scraped. The function has no types.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCIES: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
COMMITS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
WORK: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
TOKENS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
MODEL: Final = ("model",)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        requests = self._counter(
            "http_requests", "HTTP requests that were answered.", "route", "method", "status"
        )
        request_seconds = self._histogram(
            "http_request_seconds", "To the first byte of the answer.", LATENCIES, "route"
        )
        # Finding a child by its labels costs more than counting with it.
        self._requests_of = cache(requests.labels)
        self._seconds_of = cache(request_seconds.labels)
        self._runs = Gauge(
            "assistants_runs", "Active runs.", [*MODEL, "status"], registry=self.registry
        )
        self._waiting_files = Gauge(
            "assistants_ingestion_waiting_files",
            "Files that wait to be taken into vector stores.",
            registry=self.registry,
        )
        self.claims = self._counter(
            "run_claims", "Claims of runs that are over, by what became of the run.", *MODEL, "to"
        )
        self.claim_seconds = self._histogram(
            "run_claim_seconds", "From a run's claim to its next durable state.", WORK, *MODEL
        )
        self.recovered = self._counter(
            "runs_recovered", "Runs that an earlier server had claimed when it died."
        )
        self.first_token_seconds = self._histogram(
            "model_first_token_seconds", "From a call of a model to its first words.", WAITS, *MODEL
        )
        self.token_seconds = self._histogram(
            "model_token_seconds", "For a token after the first, call by call.", TOKENS, *MODEL
        )
        self.tokens = self._counter(
            "model_tokens",
            "Tokens of model calls; cached and reasoning ones twice.",
            *MODEL,
            "kind",
        )
        self.model_calls = self._counter(
            "model_calls", "Calls of models, by why the answer ended.", *MODEL, "finish_reason"
        )
        self.code_calls = self._counter(
            "sandbox_calls", "Calls that ran code, by how they ended.", "outcome"
        )
        self.code_limits = self._counter(
            "sandbox_limits", "Calls that hit a limit, by which.", "limit"
        )
        self.code_seconds = self._histogram("sandbox_call_seconds", "For such a call.", WORK)
        self.ingested = self._counter(
            "ingestion_files", "Attempts to take in a file, by how they ended.", "outcome"
        )
        self.ingestion_seconds = self._histogram("ingestion_seconds", "For an attempt.", WORK)
        self.commit_seconds = self._histogram(
            "database_commit_seconds", "For a commit to be durable.", COMMITS
        )
        self.units = self._counter(
            "database_writes", "Units of work, by how they ended.", "outcome"
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer, and the time to its first byte."""
        self._requests_of(route, method, status).inc()
        self._seconds_of(route).observe(seconds)

    def stored(self, runs: Mapping[tuple[str, str], int], waiting_files: int) -> None:
        """What the database has at the moment: active runs by model and status, files."""
        self._runs.clear()
        for labels, number in runs.items():
            self._runs.labels(*labels).set(number)
        self._waiting_files.set(waiting_files)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when somebody looks."""
        Gauge(f"assistants_{name}", text, registry=self.registry).set_function(read)

    def watch_count(self, name: str, text: str, read: Callable[[], float]) -> None:
        """The same for what only grows."""
        self.registry.register(_Count(f"assistants_{name}", text, read))

    def watch_models(
        self, read: Callable[[], Mapping[str, Mapping[str, float]]], texts: Mapping[str, str]
    ) -> None:
        """`assistants_engine_<name>`, by model: what `read` gives, and what it is in words.

        A name that ends in `_total` is a counter's.
        """
        self.registry.register(_Models(read, texts))

    def text(self) -> bytes:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"assistants_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        registry = self.registry
        return Histogram(f"assistants_{name}", text, labels, buckets=buckets, registry=registry)


class _Count(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())


class _Models(Collector):
    """Values that the models' engines keep, read when somebody looks."""

    def __init__(
        self, read: Callable[[], Mapping[str, Mapping[str, float]]], texts: Mapping[str, str]
    ) -> None:
        self._read, self._texts = read, texts

    def collect(self) -> Iterator[Metric]:
        """One family for each value, with a sample for each model."""
        values = self._read()
        for name, text in self._texts.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(f"assistants_engine_{name}", text, labels=MODEL)
            for model, of_model in values.items():
                family.add_metric([model], of_model[name])
            yield family
