"""An outage is counted; a defect is counted apart, and logged with its traceback once."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from app.kit.client.errors import record_failure
from app.kit.telemetry import NoTelemetry


class Counts(NoTelemetry):
    def __init__(self) -> None:
        self.found: dict[tuple[str, str], float] = {}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        key = (name, labels["block"])
        self.found[key] = self.found.get(key, 0) + amount


@pytest.mark.parametrize(
    ("error", "name", "lines"),
    [
        (RedisConnectionError("down"), "redis_outages", 0),
        (ResponseError("ERR wrong type"), "redis_defects", 1),
        (NoPermissionError("NOPERM this user has no permissions"), "redis_defects", 1),
    ],
)
def test_each_failure_is_counted_and_a_defect_is_logged_once(
    caplog: pytest.LogCaptureFixture, error: RedisError, name: str, lines: int
) -> None:
    counts = Counts()
    for _ in range(3):
        record_failure(error, block=f"block of {error}", telemetry=counts)
    assert counts.found == {(name, f"block of {error}"): 3}
    assert len(caplog.records) == lines
    assert all(record.exc_info for record in caplog.records)
