"""The figures of the console: each is a sample of the metrics, or a sum or a share of some."""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from app.web.telemetry import PREFIX

WAITING = ("high", "normal", "low")


@dataclass(frozen=True, slots=True)
class Sample:
    """`name` without the service's prefix."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Figure:
    """`metric`: the sample that it shows, or the first of those that it sums up. `unit` follows the number."""

    text: str
    value: float
    metric: str
    unit: str = ""


def parse_metrics(exposition: bytes) -> list[Sample]:
    """The samples of the service's own metrics, in Prometheus' text format."""
    families = text_string_to_metric_families(exposition.decode())
    found = (sample for family in families for sample in family.samples if sample.name.startswith(PREFIX))
    return [Sample(each.name.removeprefix(PREFIX), dict(each.labels), each.value) for each in found]


def total(samples: Sequence[Sample], name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels; 0 where there is none."""
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def queue_figures(samples: Sequence[Sample], queue: str) -> list[Figure]:
    def depth(place: str) -> float:
        return total(samples, "task_queue_depth", queue=queue, place=place)

    oldest = total(samples, "task_queue_oldest_seconds", queue=queue)
    return [
        Figure("Waiting", sum(map(depth, WAITING)), "task_queue_depth"),
        Figure("Oldest waits", round(oldest, 1), "task_queue_oldest_seconds", "s"),
        Figure("Running", depth("running"), "task_queue_depth"),
        Figure("Scheduled", depth("scheduled"), "task_queue_depth"),
        Figure("Held by a limit", depth("limited"), "task_queue_depth"),
        Figure("Dead", depth("dead"), "task_queue_depth"),
        *(
            Figure(
                outcome.capitalize(),
                total(samples, "task_queue_totals", queue=queue, outcome=outcome),
                "task_queue_totals",
            )
            for outcome in ("done", "failed", "retried", "aborted", "lost")
        ),
    ]


def service_figures(samples: Sequence[Sample]) -> list[Figure]:
    """Of this process since its start, or of all workers of its supervisor."""
    hits, misses = total(samples, "cache_hits_total"), total(samples, "cache_misses_total")
    outages, defects = total(samples, "redis_outages_total"), total(samples, "redis_defects_total")
    return [
        Figure("Open streams", total(samples, "events_streams"), "events_streams"),
        Figure("Events delivered", total(samples, "events_deliveries_total"), "events_deliveries_total"),
        Figure("Cache hits", round(100 * hits / max(1, hits + misses), 1), "cache_hits_total", "%"),
        Figure("Cache reads", hits + misses, "cache_misses_total"),
        Figure("Limits admitted", total(samples, "rate_limit_total", outcome="allowed"), "rate_limit_total"),
        Figure("Limits denied", total(samples, "rate_limit_total", outcome="denied"), "rate_limit_total"),
        Figure("Redis outages", outages, "redis_outages_total"),
        Figure("Redis defects", defects, "redis_defects_total"),
    ]
