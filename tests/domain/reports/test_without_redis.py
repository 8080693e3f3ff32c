"""Reports while Redis does not answer: none is ordered, and those that are made are still sent."""

import signal

import pytest
from quart import Quart

from app.resources import Resources
from tests.domain.client import Client
from tests.domain.reports.making import RANGE, downloaded, make
from tests.domain.reports.test_tasks import ORDER
from tests.services import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
def app(app_on_own_server: Quart) -> Quart:
    return app_on_own_server


async def test_what_is_made_is_sent_and_nothing_is_ordered(
    client: Client, resources: Resources, own_server: RedisServer
) -> None:
    ada = await client.registered()
    by_key = await ada.by_api_key()
    await make(resources, ORDER, owner=ada.user_id)
    own_server.signal(signal.SIGSTOP)
    try:
        assert await downloaded(by_key, "t1") == []
        refused = [
            await by_key.get("/reports/t2"),
            await by_key.post("/reports", {"type": "own_activity", "date_range": RANGE}),
        ]
    finally:
        own_server.signal(signal.SIGCONT)
    assert [answer.status_code for answer in refused] == [503, 503]
    assert all("Retry-After" in answer.headers for answer in refused)
