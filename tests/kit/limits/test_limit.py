"""What a Limit may be: texts, bounds, and what is too weak for a login."""

from typing import Any

import pytest

from app.kit.limits.limit import Limit


@pytest.mark.parametrize(
    ("text", "amount", "seconds", "period"),
    [
        ("100/minute", 100, 60, "minute"),
        ("100 / Minute", 100, 60, "minute"),
        ("1 per second", 1, 1, "second"),
        ("5 per 10 seconds", 5, 10, "10s"),
        ("7/2hours", 7, 7200, "7200s"),
        (" 1000/day ", 1000, 86_400, "day"),
        ("20 per 1 week", 20, 604_800, "week"),
    ],
)
def test_texts(text: str, amount: int, seconds: int, period: str) -> None:
    limit = Limit.parse(text, name="any")
    assert (limit.amount, limit.window_seconds, limit.period) == (amount, seconds, period)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "/minute",
        "100/",
        "100/month",
        "1.5/minute",
        "-1/minute",
        "100/minute/hour",
        "٣/minute",
        "1 perminute",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="reads like"):
        Limit.parse(text, name="any")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("0/minute", {}),
        ("10001/minute", {}),
        ("1000001/minute", {"algorithm": "counter"}),
        ("1/0 minutes", {}),
        ("1/53 weeks", {}),
        ("10/minute", {"burst": 5}),
        ("10/minute", {"algorithm": "gcra", "burst": 0}),
        ("10/minute", {"algorithm": "gcra", "burst": 11}),
    ],
)
def test_bounds(text: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="any"):
        Limit.parse(text, name="any", **options)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a/b", "{a}", "ä", "-a", "a\n"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Limit.parse("1/minute", name=name)


@pytest.mark.parametrize(
    "weak",
    [
        {"on_error": "open"},
        {},
        {"on_error": "local", "algorithm": "counter"},
        {"on_error": "local", "algorithm": "gcra"},
        {"on_error": "closed", "shadow": True},
        {"on_error": "closed", "counts": "failures"},
    ],
)
def test_a_sensitive_limit_is_never_weak(weak: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sensitive"):
        Limit.parse("5/minute", name="login", sensitive=True, **weak)


def test_a_sensitive_limit_is_closed_or_local() -> None:
    for on_error in ("closed", "local"):
        options: dict[str, Any] = {"on_error": on_error, "counts": "reserved", "sensitive": True}
        assert Limit.parse("5/minute", name="login", **options).on_error == on_error
