"""PostgreSQL restarted under load: each error is a 503 that says when to try again, and nothing committed is lost."""

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from app.db.outbox import OutboxRow
from app.domain.articles.models import Article
from app.kit.keys import Keys
from app.migrations import upgrade
from app.resources import Resources
from app.web.context import EXTENSION
from tests.application import create_test_app
from tests.domain.client import Client
from tests.services import PostgresServer
from tests.waiting import eventually

pytestmark = pytest.mark.postgres
CALLERS = 12
SIGNALS = (signal.SIGINT, signal.SIGQUIT)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    started = PostgresServer().start().create_database()
    upgrade(started.url)
    yield started
    started.close()


class Callers:
    """They publish articles and read, without a pause, until they are told to stop."""

    def __init__(self, client: Client) -> None:
        self.published: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.without_retry_after = 0
        self._client = client
        self._stopped = False

    async def run(self) -> None:
        await asyncio.gather(*(self._call(number) for number in range(CALLERS)))

    def stop(self) -> None:
        self._stopped = True

    async def answered(self, status: int, more: int) -> None:
        """Until so many more POSTs were answered with this status."""
        known = self.answers["POST", status]
        await eventually(lambda: self.answers["POST", status] >= known + more, seconds=60)

    async def _call(self, number: int) -> None:
        for turn in itertools.count():
            if self._stopped:
                return
            title = f"Caller {number}, turn {turn}"
            created = await self._client.post("/articles", {"title": title, "content": "Text."})
            if created.status_code == 201:
                self.published.append(title)
            # No cache keeps one's messages.
            for method, response in (("POST", created), ("GET", await self._client.get("/messages"))):
                self.answers[method, response.status_code] += 1
                self.without_retry_after += response.status_code == 503 and "Retry-After" not in response.headers


@pytest.mark.parametrize("restarts", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_a_restart_under_load(
    server: PostgresServer, keys: Keys, restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.factory.DEFAULT_LIMIT", "1000000/minute")
    app = create_test_app({"NAMESPACE": keys.namespace, "CONSUMER": "0", "DATABASE_URL": server.url})
    async with app.test_app():
        resources: Resources = app.extensions[EXTENSION]
        ada = await Client(app).registered()
        callers = Callers(ada)
        calling = asyncio.create_task(callers.run())

        async def is_ready() -> bool:
            return (await app.test_client().get("/health/ready")).status_code == 200

        assert await is_ready()
        for with_signal in itertools.islice(itertools.cycle(SIGNALS), restarts):
            await callers.answered(201, 20)
            await asyncio.to_thread(server.stop, with_signal=with_signal)
            await callers.answered(503, 1)
            assert not await is_ready()
            await asyncio.to_thread(server.start)
            await eventually(is_ready)
        await callers.answered(201, 20)
        callers.stop()
        await calling
        assert {status for method, status in callers.answers if method == "POST"} == {201, 503}
        assert {status for method, status in callers.answers if method == "GET"} == {200, 503}
        assert callers.without_retry_after == 0
        # Of the pool no connection is lost: as many as it has are there at once, and each works.
        answers = await asyncio.gather(*(ada.get("/messages") for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
        titles = await titles_of(resources)
        assert set(callers.published) <= set(titles)
        assert len(titles) == len(set(titles))
        await eventually(lambda: is_sent(resources), seconds=30)
        # Each article has its task, once.
        depth = await resources.queue.depth()
        assert depth["high"] + depth["normal"] + depth["low"] == len(titles)


async def titles_of(resources: Resources) -> list[Any]:
    async with resources.database.read() as session:
        return list(await session.scalars(select(Article.title)))


async def is_sent(resources: Resources) -> bool:
    async with resources.database.read() as session:
        return await session.scalar(select(func.count()).select_from(OutboxRow)) == 0
