"""Reports while Redis does not answer: none is ordered, and those that are made are still sent."""

import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from quart import Quart

from app.kit.keys import Keys
from app.resources import Resources
from tests.application import create_test_app
from tests.domain.client import Client
from tests.domain.reports.making import RANGE, downloaded, make
from tests.domain.reports.test_tasks import ORDER
from tests.services import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
async def app(keys: Keys, tmp_path: Path, own_server: RedisServer, sqlite_template: Path) -> AsyncIterator[Quart]:
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    created = create_test_app(
        {
            "NAMESPACE": keys.namespace,
            "CONSUMER": "0",
            "REDIS_URL": own_server.url,
            "REDIS_BUDGET_MS": "50",
            "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
        }
    )
    async with created.test_app():
        yield created


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
