"""An outage is two lines in the log, whatever happens between its beginning and its end."""

import pytest

from app.db.outage import QUIET_SECONDS, Outage


def test_an_outage_is_told_of_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage = Outage("the database", clock=lambda: now)
    outage.answered()
    for _ in range(50):
        outage.failed("ConnectionRefusedError")
        outage.failed("TimeoutError")
        now += QUIET_SECONDS / 2
        outage.answered()
    now += QUIET_SECONDS
    outage.answered()
    outage.answered()
    assert caplog.messages == [
        "the database is unavailable: ConnectionRefusedError",
        "the database is unavailable: TimeoutError",
        "the database answers again",
    ]
    outage.failed("TimeoutError")
    assert len(caplog.messages) == 4
