"""What is in deploy/ asks for what there is: metrics, settings, commands, files."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from app.cli.main import main
from app.factory import metrics_of
from app.settings import Settings, load_settings
from app.web.metrics import METRICS
from tests.commands import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "quartet.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
# Of prometheus_client and of Prometheus itself.
OTHERS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "up"}
SECRETS = {
    "SECRET_KEY": "s" * 32,
    "METRICS_TOKEN": "t" * 16,
    "POSTGRES_PASSWORD": "pw",
    "PUBLIC_URL": "https://a.example",
}


def exposed() -> dict[str, set[str]]:
    """The labels of each series that /metrics can have."""
    series: dict[str, set[str]] = {}
    for each in (*METRICS, *metrics_of()):
        name, labels = f"quartet_{each.name}", set(each.labels)
        if each.kind == "counter":
            series[f"{name}_total"] = labels
        elif each.kind == "gauge":
            series[name] = labels
        else:
            series |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    return series


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_no_panel_and_no_alert_asks_for_what_is_not_there() -> None:
    series = exposed()
    asked: set[str] = set()
    for expression in expressions():
        names = set(re.findall(r"\b(?:quartet|process)_\w+|\bup\b", expression))
        assert names, expression
        assert names - OTHERS <= series.keys(), expression
        asked |= names
        labels = set.union(set(), *(series.get(name, set()) for name in names))
        for grouped in re.findall(r"\bby \(([\w, ]+)\)", expression):
            assert set(grouped.split(", ")) <= labels | {"instance", "job"}, expression
        for matched in re.findall(r"[{,]\s*(\w+)=~?\"", expression):
            assert matched in labels | {"job"}, expression
    assert len(asked) > 30


def test_each_alert_is_explained() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in guide, rule["alert"]
            assert rule["labels"]["severity"] in {"page", "ticket"}


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (the package prometheus) is not installed")
    for command in (["check", "rules", "alerts.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run(["promtool", *command], cwd=ALERTS.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# An alert, a series at intervals of a minute until it fires, and one with which it does not.
FIRES = {
    "NodeDown": ('up{job="quartet"}', "0x30", "1x30"),
    "RedisRefuses": ('quartet_redis_defects_total{block="cache"}', "_x20 1x10", "1x30"),
    "RedisBreakerOpen": ('quartet_redis_breaker_open{server="server"}', "1x30", "0x30"),
    "OutboxRefused": ("quartet_outbox_refused_total", "0x20 1x10", "0x30"),
    "OutboxDelayed": ("quartet_outbox_delayed_total", "0+1x30", "5x30"),
    "JobRestarts": ('quartet_job_restarts_total{instance="a", name="relay"}', "_x20 1x10", "1x30"),
    "DatabasePoolExhausted": ('quartet_database_connections{state="in_use"}', "30x30", "29x30"),
    "DeadTasks": ('quartet_task_queue_depth{place="dead"}', "1x30", "0x30"),
    "QueueWaits": ("quartet_task_queue_oldest_seconds", "301x30", "299x30"),
    "WorkersDie": ("quartet_task_worker_deaths_total", "0x20 9x10", "0x20 1x10"),
}


@pytest.mark.parametrize("fires", [True, False])
def test_alerts_fire_by_their_first_event_and_only_then(tmp_path: Path, fires: bool) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (the package prometheus) is not installed")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    # Its name alone is compared: the texts are of no interest here.
    rules = [{**rule, "annotations": {}, "labels": {}} for rule in rules if rule["alert"] in FIRES]
    for rule in rules:
        rule["expr"] = f"count({rule['expr']})"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "quartet", "rules": rules}]}))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values[0] if fires else values[1]}],
            "alert_rule_test": [{"eval_time": "26m", "alertname": name, "exp_alerts": [{}] if fires else []}],
        }
        for name, (series, *values) in FIRES.items()
    ]
    assert len(rules) == len(tests)
    file = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(file))
    done = subprocess.run(["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_compose_mounts_is_there_and_its_services_know_each_other() -> None:
    file = compose()
    services = file["services"]
    made_by_the_operator = {"./certs/quartet.pem", "./certs/quartet.key"}
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert source in made_by_the_operator or (DEPLOY / source).exists(), source
            else:
                assert source in file["volumes"], source
        assert set(service.get("depends_on", ())) <= services.keys(), name
    upstream = (DEPLOY / "nginx" / "upstream.compose.conf").read_text()
    nodes = re.findall(r"server (\w+):8000", upstream)
    assert nodes == ["node1", "node2", "node3"]
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in scraped for each in job["static_configs"] for target in each["targets"]]
    assert {target.partition(":")[0] for target in targets} == {*nodes, "worker1", "worker2"}
    assert {*nodes, "worker1", "worker2", "redis", "postgres", "replica"} <= services.keys()


@pytest.mark.parametrize("service", ["migrate", "node1", "worker1"])
def test_the_settings_of_compose_are_valid_and_its_commands_exist(service: str) -> None:
    found = compose()["services"][service]
    known = {name.upper() for name in Settings.model_fields}
    assert found["environment"].keys() <= known
    values = {
        name: re.sub(r"\$\{(\w+):\?\}", lambda match: SECRETS[match[1]], str(value))
        for name, value in found["environment"].items()
    }
    settings = load_settings(values)
    assert settings.is_production
    assert settings.database_replica_url
    command = found.get("command", ["quartet", "serve"])
    assert command[0] == "quartet"
    options = [word for word in command[1:] if word.startswith("--")]
    words = [word for word in command[1:] if word.isidentifier()]
    shown = CliRunner().invoke(main, [*words, "--help"])
    assert shown.exit_code == 0, shown.output
    assert all(option in shown.output for option in options)
