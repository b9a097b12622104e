"""What is counted, in a Prometheus registry of this process's own (P5).

Names end in their unit; labels have few values, never an id. Gauges that the rooms know themselves (backlog, active
runs, streams) are asked for when somebody reads the metrics, so they cost nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from contracts.events import Frame

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Frames(Collector):
    """Plain numbers that become a counter when they are read: frames are counted more often than anything else."""

    def __init__(self) -> None:
        self.many: dict[str, int] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter as it stands."""
        said = "Frames committed by this process, by type: start, node_complete, complete, failed and so on."
        family = CounterMetricFamily("flex_frames", said, labels=["type"])
        for kind, number in sorted(self.many.items()):
            family.add_metric([kind], number)
        yield family


class ServiceMetrics:
    """Counters and gauges of one process; fills in the port ``Metrics`` of the doors."""

    def __init__(self) -> None:
        """Register everything at zero."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "flex_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "flex_http_first_byte_seconds",
            "Time to the first byte of an answer.",
            ["method", "route"],
            buckets=_FAST,
            registry=self.registry,
        )
        self._frames = _Frames()
        self.registry.register(self._frames)
        self._sealed = Counter(
            "flex_audit_records_sealed", "Audit records that this process sealed.", registry=self.registry
        )
        self._pruned = Counter(
            "flex_rows_pruned", "Rows that retention deleted in this process.", ["table"], registry=self.registry
        )
        self._children: dict[tuple[str, str, int], Counter] = {}
        self._latencies: dict[tuple[str, str], Histogram] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request by its route's pattern."""
        key = (method, route, status)
        if (counter := self._children.get(key)) is None:
            counter = self._children[key] = self._requests.labels(method, route, str(status))
        counter.inc()
        pair = (method, route)
        if (histogram := self._latencies.get(pair)) is None:
            histogram = self._latencies[pair] = self._latency.labels(method, route)
        histogram.observe(seconds)

    def frames(self, frames: Sequence[Frame]) -> None:
        """Count what a transition reported: runs accepted and ended, attempts, prompts, by type of frame."""
        many = self._frames.many
        for frame in frames:
            many[frame.type] = many.get(frame.type, 0) + 1

    def sealed(self, many: int) -> None:
        """Count audit records that were sealed."""
        self._sealed.inc(many)

    def pruned(self, table: str, many: int) -> None:
        """Count rows that retention deleted."""
        self._pruned.labels(table).inc(many)

    def watch(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge ``flex_<name>`` whose value is asked for whenever the metrics are read."""
        Gauge(f"flex_{name}", description, registry=self.registry).set_function(read)

    def render(self) -> tuple[bytes, str]:
        """Return the text format and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
