"""Telemetry collected by prometheus_client."""

import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from app.kit.metrics import SECONDS_BUCKETS
from app.kit.metrics import Metric as Declaration
from app.web.metrics import METRICS

PREFIX = "quartet_"

# Where the workers of one supervisor keep what they count: prometheus_client's own variable.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class MetricFamily(Generic[Metric]):
    """The metrics of one kind. KeyError: a name that is not declared as one of this kind.

    All are made at once: a counter that begins with its first event shows Prometheus no increase.
    """

    def __init__(self, declarations: Iterable[Declaration], make: Callable[[Declaration], Metric]) -> None:
        self._metrics: dict[str, Metric] = {each.name: make(each) for each in declarations}
        # Each series that was asked for: prometheus_client looks for one anew under a lock.
        self._series: dict[tuple[str, ...], Metric] = {}

    def get(self, name: str, labels: Mapping[str, str]) -> Metric:
        key = (name, *labels, *labels.values())
        series = self._series.get(key)
        if series is None:
            metric = self._metrics[name]
            series = self._series[key] = metric.labels(**labels) if labels else metric
        return series

    def items(self) -> Iterable[tuple[str, Metric]]:
        return self._metrics.items()


class PrometheusTelemetry:
    """app.kit.telemetry.Telemetry over prometheus_client. `metrics`: the declarations of the slices."""

    def __init__(self, *, version: str, metrics: Sequence[Declaration] = ()) -> None:
        self.registry = CollectorRegistry()
        self._collection_began = 0.0
        self._collecting_seconds = 0.0
        declared = [*METRICS, *metrics]
        self._counters = MetricFamily((each for each in declared if each.kind == "counter"), self._make_counter)
        self._gauges = MetricFamily((each for each in declared if each.kind == "gauge"), self._make_gauge)
        self._histograms = MetricFamily((each for each in declared if each.kind == "histogram"), self._make_histogram)
        self.gauge("app_info", 1.0, version=version)
        if FOLDER not in os.environ:
            # Those of one process would come from another at each scrape.
            for collector in (GCCollector, PlatformCollector, ProcessCollector):
                collector(registry=self.registry)

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self._counters.get(name, labels).inc(amount)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        self._histograms.get(name, labels).observe(value)

    def totals(self, prefix: str, *, by: str | None = None) -> dict[str, float]:
        """The sums of the counters whose names begin with `prefix`: by name, or by the value of the label `by`."""
        found: dict[str, float] = {}
        for name, counter in self._counters.items():
            for sample in next(iter(counter.collect())).samples if name.startswith(prefix) else ():
                if sample.name.endswith("_total"):
                    key = name if by is None else sample.labels[by]
                    found[key] = found.get(key, 0) + sample.value
        return found

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self._gauges.get(name, labels).set(value)

    def start_timing_collections(self) -> Callable[[], None]:
        """Time the garbage collector, which blocks the event loop. Returns a function that stops the timing."""
        gc.callbacks.append(self._time_collection)
        return lambda: gc.callbacks.remove(self._time_collection)

    def _time_collection(self, phase: str, _info: dict[str, int]) -> None:
        """Takes no lock: a collection may begin at any allocation, also while a metric holds its own."""
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._collecting_seconds += time.perf_counter() - self._collection_began

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format; those of all workers, where several share a folder."""
        self.gauge("gc_pause_seconds", self._collecting_seconds)
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _make_counter(self, each: Declaration) -> Counter:
        return Counter(PREFIX + each.name, each.help, each.labels, registry=self.registry)

    def _make_gauge(self, each: Declaration) -> Gauge:
        # What is read from Redis is the same whichever worker has read it; the rest is each worker's own (`pid`).
        mode: Literal["mostrecent", "all"] = "mostrecent" if each.is_shared else "all"
        return Gauge(PREFIX + each.name, each.help, each.labels, registry=self.registry, multiprocess_mode=mode)

    def _make_histogram(self, each: Declaration) -> Histogram:
        return Histogram(PREFIX + each.name, each.help, each.labels, registry=self.registry, buckets=SECONDS_BUCKETS)


def count_as(name: str) -> None:
    """Count under `name` in the folder, instead of the process id: a successor goes on where `name` stopped.

    Before the first metric is made.
    """
    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
