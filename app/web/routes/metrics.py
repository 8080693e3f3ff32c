"""Telemetry collected by prometheus_client, and the /metrics route."""

import gc
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from quart import Blueprint, Response, current_app, request

from app.errors import Forbidden
from app.kit.client.connect import client_stats
from app.web.client_address import is_loopback
from app.web.context import resources
from app.web.limits.declare import exempt

PREFIX = "quartet_"
TELEMETRY_EXTENSION = "quartet_telemetry"
METRICS_TOKEN = "METRICS_TOKEN"  # noqa: S105  the name of the setting
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

blueprint = Blueprint("metrics", __name__)


class Family(Generic[Metric]):
    """The metrics of one kind, each made at its first use; a name must always come with the same labels."""

    def __init__(self, make: Callable[[str, list[str]], Metric]) -> None:
        self._make: Callable[[str, list[str]], Metric] = make
        self._metrics: dict[str, Metric] = {}

    def get(self, name: str, labels: Mapping[str, str]) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = self._make(PREFIX + name, list(labels))
        return metric.labels(**labels) if labels else metric


class PrometheusTelemetry:
    """app.kit.telemetry.Telemetry over prometheus_client."""

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        self._collection_began = 0.0
        self._collecting_seconds = 0.0
        self._counters = Family(lambda name, labels: Counter(name, name, labels, registry=self.registry))
        self._gauges = Family(lambda name, labels: Gauge(name, name, labels, registry=self.registry))
        self._histograms = Family(
            lambda name, labels: Histogram(name, name, labels, registry=self.registry, buckets=SECONDS_BUCKETS)
        )
        for collector in (GCCollector, PlatformCollector, ProcessCollector):
            collector(registry=self.registry)
        Info(f"{PREFIX}app", "The application.", registry=self.registry).info({"version": version})

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self._counters.get(name, labels).inc(amount)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        self._histograms.get(name, labels).observe(value)

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self._gauges.get(name, labels).set(value)

    def start_timing_collections(self) -> Callable[[], None]:
        """Time the garbage collector, during which the loop stands still. Returns what stops it."""
        gc.callbacks.append(self._time_collection)
        return lambda: gc.callbacks.remove(self._time_collection)

    def _time_collection(self, phase: str, _info: dict[str, int]) -> None:
        """It may run at any allocation, within a metric's own lock too: so it only adds up."""
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._collecting_seconds += time.perf_counter() - self._collection_began

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        self.gauge("gc_pause_seconds", self._collecting_seconds)
        return generate_latest(self.registry)


@blueprint.get("/metrics")
@exempt("read by a monitor from loopback, or with its token")
async def metrics() -> Response:
    _check_reader(current_app.config[METRICS_TOKEN])
    telemetry: PrometheusTelemetry = current_app.extensions[TELEMETRY_EXTENSION]
    _gauge_redis(telemetry)
    return Response(telemetry.exposition(), content_type=CONTENT_TYPE_LATEST)


def _gauge_redis(telemetry: PrometheusTelemetry) -> None:
    """The pipelines count for themselves, for a count each command would cost as much as the command."""
    found = resources()
    servers = client_stats(found.redis)
    if found.cache_redis is not found.redis:
        servers |= {f"cache:{name}": stats for name, stats in client_stats(found.cache_redis).items()}
    for server, stats in servers.items():
        telemetry.gauge("redis_breaker_open", float(stats["breaker"] == "open"), server=server)
        for name, value in stats.items():
            if isinstance(value, int):
                telemetry.gauge(f"redis_{name}", float(value), server=server)


def _check_reader(token: str) -> None:
    """With METRICS_TOKEN set, `Authorization: Bearer TOKEN`; without, a peer on the loopback interface.

    The peer is the socket's: a proxy on the same machine would pass for loopback, hence the token.
    """
    if token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Forbidden("The metrics need their token.")
        return
    peer = request.remote_addr or ""
    # A forwarded request has come through a proxy, even where the peer is a loopback address. Quart's test client is
    # "<local>".
    if (
        not (is_loopback(peer) or peer == "<local>")
        or "X-Forwarded-For" in request.headers
        or "Forwarded" in request.headers
    ):
        raise Forbidden("The metrics are read from loopback, or with METRICS_TOKEN.")
