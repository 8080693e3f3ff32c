"""Every setting of the server reaches what it is for."""

import resource
from dataclasses import fields

import pytest

from app.serving.engine import configuration, limits_of
from app.serving.limits import RESERVED_DESCRIPTORS, Limits, affordable_connections
from app.settings import load_settings
from tests.application import create_test_app


def test_each_limit_is_a_setting() -> None:
    settings = load_settings(
        {
            "MAX_CONNECTIONS": "11",
            "MAX_CONNECTIONS_PER_ADDRESS": "7",
            "TRUSTED_PROXIES": "10.0.0.0/8",
            "MAX_REQUEST_LINE_BYTES": "300",
            "MAX_HEADER_BYTES": "2000",
            "MAX_HEADER_COUNT": "13",
            "HEADER_TIMEOUT_SECONDS": "1.5",
            "MIN_BODY_BYTES_PER_SECOND": "17",
            "SEND_TIMEOUT_SECONDS": "2.5",
        }
    )
    config = configuration(settings)
    config.keep_alive_timeout = 9
    expected = Limits(11, 7, ("10.0.0.0/8",), 300, 2000, 13, 1.5, 9, 17, 2.5)
    assert limits_of(settings, config) == expected
    defaults = Limits()
    assert [each.name for each in fields(Limits) if getattr(expected, each.name) == getattr(defaults, each.name)] == []


def test_the_defaults_are_those_of_the_limits() -> None:
    settings = load_settings({})
    assert limits_of(settings, configuration(settings)) == Limits()


def test_no_more_connections_are_admitted_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert affordable_connections(100) == 100
    assert changed == []
    assert affordable_connections(10_000) == 4096 - RESERVED_DESCRIPTORS
    assert changed == [(4096, 4096)]


@pytest.mark.parametrize(
    ("given", "sent"), [({}, "max-age=31536000"), ({"HSTS_SECONDS": "60"}, "max-age=60"), ({"HSTS_SECONDS": "0"}, "")]
)
async def test_hsts_has_its_age_in_production(given: dict[str, str], sent: str) -> None:
    production = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "x" * 32,
        "METRICS_TOKEN": "m" * 16,
        "PUBLIC_URL": "https://localhost",
        "ALLOW_EMBEDDED_REDIS": "1",
    }
    answer = await create_test_app(production | given).test_client().get("/health/live", headers={"Host": "localhost"})
    assert answer.status_code == 200
    assert answer.headers.get("Strict-Transport-Security", "").startswith(sent)
    assert bool(sent) == ("Strict-Transport-Security" in answer.headers)
