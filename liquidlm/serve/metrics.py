"""Figures of a server for Prometheus."""

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .jobs import Job, JobUpdate, PromptRead
from .tokens import Token

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
"""Other methods, which clients may invent, are counted together."""
SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Upper ends of the classes of times."""
LOADS = {
    "running": "Texts that are being written, and prompts that are being read.",
    "waiting": "Texts that wait.",
    "cached_prefixes": "States in the prefix cache.",
    "cached_bytes": "Memory of the prefix cache.",
    "named_states": "States that clients keep by name.",
    "named_states_bytes": "Memory or disk of these states.",
}


Loads = Callable[[], dict[str, dict[str, int]]]
"""Gives a number for each name in LOADS, for each model."""


class Metrics:
    """Counts requests and tokens, and prints them in Prometheus' format.

    Args:
        loads: says how busy the models are, whenever the figures are printed.
    """

    def __init__(self, loads: Loads):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "liquidlm_requests", "Answered requests.", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "liquidlm_request_seconds",
            "Time of a request, to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "liquidlm_tokens",
            "Tokens: of prompts that were read, of prompts that were stored, and written.",
            ["model", "kind"],
            registry=registry,
        )
        self._first = Histogram(
            "liquidlm_first_token_seconds",
            "Time from the request to the end of its prompt, the wait included.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        registry.register(_LoadCollector(loads))
        ProcessCollector(registry=registry)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is that of its route."""
        self._requests.labels(method if method in METHODS else "other", path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def of_model(self, name: str) -> "ModelMetrics":
        """Counts what one model does."""
        read, cached, written = (self._tokens.labels(name, kind) for kind in ("read", "cached", "written"))
        return ModelMetrics(read, cached, written, self._first.labels(name))

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)


class ModelMetrics:
    """Counts what one model does."""

    def __init__(self, read: Counter, cached: Counter, written: Counter, first: Histogram):
        self._read, self._cached, self._written, self._first = read, cached, written, first

    def count(self, events: Iterable[tuple[Job, JobUpdate]]) -> None:
        """Count what the engine reports."""
        written = 0
        for job, update in events:
            if isinstance(update, Token):
                written += 1
            elif isinstance(update, PromptRead):
                self._cached.inc(update.cached_tokens)
                self._read.inc(job.prompt.length - update.cached_tokens)
                self._first.observe(time.monotonic() - job.submitted)
        self._written.inc(written)


class _LoadCollector(Collector):
    """How busy the models are."""

    def __init__(self, loads: Loads):
        self._loads = loads

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A figure of each model for each name in LOADS."""
        loads = self._loads()
        for key, text in LOADS.items():
            family = GaugeMetricFamily(f"liquidlm_{key}", text, labels=["model"])
            for name, load in loads.items():
                family.add_metric([name], load[key])
            yield family

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the models are not asked before they are loaded."""
        return iter(())
