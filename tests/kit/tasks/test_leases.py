"""Leases are renewed from a thread while the loop is busy, but not after it has been blocked for too long."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Claim
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.kit.tasks.task_worker import Counted, claim, ended, info_of, stepper, working
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server

LEASE_SECONDS = 0.15


@pytest.fixture
def client(redis_server: RedisServer) -> Callable[[], Redis]:
    return lambda: connect(redis_server.url, name="test", timeout_seconds=5)


class Blocked:
    """Lets a thread wait until the loop is blocked."""

    def __init__(self, client: Callable[[], Redis], keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.began = threading.Event()

    def claims_of_another(self, seconds: float) -> list[Claim]:
        """The tasks that a second worker, with another loop, can claim within `seconds`."""
        assert self.began.wait(5)
        return asyncio.run(self._watch(seconds))

    async def _watch(self, seconds: float) -> list[Claim]:
        redis = self.client()
        claims: list[Claim] = []
        deadline = time.monotonic() + seconds
        while not claims and time.monotonic() < deadline:
            claims = await claim(stepper(Queue(redis, self.keys), "other"))
        await redis.aclose()
        return claims


@task(max_attempts=1)
async def block(context: TaskContext, seconds: float) -> None:
    """Blocks the whole loop, as a task must not."""
    context.resources.began.set()
    time.sleep(seconds)  # noqa: ASYNC251


@pytest.fixture
def blocked(client: Callable[[], Redis], keys: Keys) -> Blocked:
    return Blocked(client, keys)


@pytest.mark.parametrize("seconds", [0.6, pytest.param(10, marks=pytest.mark.long)])
async def test_a_task_that_blocks_the_loop_keeps_its_lease_and_shows_in_the_lag(
    blocked: Blocked, real_redis: Redis, keys: Keys, seconds: float
) -> None:
    queue, telemetry = Queue(real_redis, keys), Counted()
    options: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "connect_leases": blocked.client, "resources": blocked}
    async with working(queue, block, telemetry=telemetry, **options):
        watching = asyncio.create_task(asyncio.to_thread(blocked.claims_of_another, seconds - 0.1))
        info = await ended(queue, await queue.enqueue(block, seconds))
        assert await watching == []
        await eventually(lambda: telemetry.largest["task_loop_lag_seconds"] > seconds - 0.3)
    assert (info.state, info.deaths) == ("done", 0)


async def test_a_loop_that_is_blocked_for_too_long_loses_its_leases(
    blocked: Blocked, real_redis: Redis, keys: Keys
) -> None:
    queue, telemetry = Queue(real_redis, keys), Counted()
    options: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "connect_leases": blocked.client, "resources": blocked}
    async with working(queue, block, stall_seconds=0.1, telemetry=telemetry, **options):
        watching = asyncio.create_task(asyncio.to_thread(blocked.claims_of_another, 5))
        task_id = (await queue.enqueue(block, 0.8)).id
        [taken] = await watching
        await eventually(lambda: telemetry.counters["task_lease_renewals:stalled"])
        await eventually(lambda: telemetry.counters["task_reports_refused"])
    info = await info_of(queue, task_id)
    assert (taken.id, info.state, info.deaths) == (task_id, "running", 1)
