import gc
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.registry import Collector

from app.web.telemetry import PrometheusTelemetry


class CollectsGarbage(Collector):
    """The registry asks for the names of a new collector while it holds its lock."""

    def describe(self) -> Iterable[Metric]:
        gc.collect()
        return []

    def collect(self) -> Iterable[Metric]:
        return []


def test_a_collection_of_garbage_inside_the_registrys_lock_blocks_nothing() -> None:
    telemetry = PrometheusTelemetry(version="1")
    stop = telemetry.start_timing_collections()
    try:
        telemetry.registry.register(CollectsGarbage())
    finally:
        stop()
    assert b"quartet_gc_pause_seconds" in telemetry.exposition()
