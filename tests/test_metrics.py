"""Each metric is declared once and used, and what deploy/ asks for is exposed."""

import ast
import asyncio
from collections.abc import Iterator

import pytest

from app.domain.slices import SLICES
from app.factory import metrics_of
from app.kit.loop_lag import LoopLag
from app.kit.metrics import KIT_METRICS
from app.web.metrics import METRICS
from app.web.telemetry import PrometheusTelemetry
from tests.commands import ROOT
from tests.waiting import eventually

DECLARED = {each.name: each for each in (*METRICS, *metrics_of())}
KINDS = {"count": "counter", "observe": "histogram", "gauge": "gauge"}
# Names that the code puts together, or takes from a table: where they come from is asserted below.
COMPUTED = {"cache_": {"hits", "misses", "corrupt", "stored_bytes", "bypassed"}}
FROM_TABLES = {"task_reports_refused", "task_worker_deaths", "task_poisoned", "task_expired"}


def uses() -> Iterator[tuple[str, str, str, set[str] | None]]:
    """Place, kind, name and labels of every call of telemetry in the application. None: labels that are unpacked."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in KINDS):
                continue
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                text = ast.unparse(node.func.value)
                if not text.endswith("telemetry") and path.name != "telemetry.py":
                    continue
                labels = {each.arg for each in node.keywords if each.arg}
                unpacked = any(each.arg is None for each in node.keywords)
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield where, KINDS[node.func.attr], node.args[0].value, None if unpacked else labels


def test_every_use_is_declared_and_every_declaration_used() -> None:
    used = set()
    wrong = []
    for where, kind, name, labels in uses():
        used.add(name)
        declared = DECLARED.get(name)
        if declared is None or declared.kind != kind or (labels is not None and labels != set(declared.labels)):
            wrong.append(f"{where} {kind} {name} {labels}: {declared}")
    assert not wrong
    used |= {prefix + name for prefix, names in COMPUTED.items() for name in names} | FROM_TABLES
    used |= {name for name in DECLARED if name.startswith("redis_")}
    assert used == DECLARED.keys()


def test_declarations_are_distinct_and_say_what_they_count() -> None:
    every = [*METRICS, *(metric for each in SLICES for metric in each.metrics)]
    assert len({each.name for each in every}) == len(every)
    assert set(KIT_METRICS) <= set(METRICS)
    for each in every:
        assert each.help.endswith("."), each
        assert each.kind != "histogram" or each.name.endswith("_seconds"), each
        assert not each.name.endswith("_total"), each
        # Of the target: Prometheus would rename it.
        assert not {"job", "instance"} & {*each.labels}, each


def test_a_name_that_is_not_declared_is_refused() -> None:
    telemetry = PrometheusTelemetry(version="1")
    for record in (telemetry.count, telemetry.observe, telemetry.gauge):
        with pytest.raises(KeyError):
            record("no_such_metric", 1)
    with pytest.raises(ValueError, match="label"):
        telemetry.count("cache_hits", wrong="x")


async def test_a_loop_that_is_blocked_shows_in_its_lag() -> None:
    telemetry = PrometheusTelemetry(version="1")
    lag = LoopLag(telemetry, every_seconds=0.01)
    running = asyncio.create_task(lag.run())

    def measured() -> float:
        text = telemetry.exposition().decode()
        counts = [line for line in text.splitlines() if line.startswith("quartet_loop_lag_seconds_count")]
        return float(counts[0].split()[1]) if counts else 0.0

    await eventually(lambda: measured() >= 2)
    lag.stop()
    await running
