"""The worker: what wakes it, how much it runs at once, how it stops, and how it keeps its leases."""

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.schedule import Every
from app.kit.tasks.task import Task, task
from app.kit.tasks.worker import Worker
from tests.kit.tasks.task_worker import Counted, double, ended, forever, in_state, working
from tests.services import RedisServer
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


async def test_a_running_coroutine_is_aborted(queue: Queue) -> None:
    async with working(queue, forever, idle_seconds=0.02):
        task_id = (await queue.enqueue(forever, None)).id
        await in_state(queue, task_id, "running")
        assert await queue.abort(task_id)
        assert (await ended(queue, task_id)).state == "aborted"
        # As asked: so a call whose answer was lost may be repeated.
        assert await queue.abort(task_id)


async def test_stop_lets_running_tasks_finish_within_the_grace(queue: Queue) -> None:
    go_on = asyncio.Event()

    @task()
    async def almost_done(context: TaskContext) -> None:
        await go_on.wait()

    async with working(queue, almost_done, grace_seconds=5) as worker:
        first = await queue.enqueue(almost_done, None)
        await in_state(queue, first, "running")
        worker.stop()
        second = await queue.enqueue(almost_done, None)
        go_on.set()
        await ended(queue, first)
    info = await second.info()
    assert info is not None
    assert info.state == "queued"


async def test_stop_gives_back_what_does_not_finish_and_spends_no_attempt(queue: Queue) -> None:
    async with working(queue, forever):
        task_id = (await queue.enqueue(forever, None)).id
        assert (await in_state(queue, task_id, "running")).attempts == 1
    info = await queue.get(task_id)
    assert info is not None
    assert (info.state, info.attempts, info.deaths) == ("queued", 0, 0)


async def test_a_cancelled_worker_gives_back_too(queue: Queue) -> None:
    running = asyncio.create_task(Worker(queue, [forever]).run())
    task_id = (await queue.enqueue(forever, None)).id
    await in_state(queue, task_id, "running")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    info = await queue.get(task_id)
    assert info is not None
    assert (info.state, info.attempts) == ("queued", 0)


async def test_concurrency_bounds_what_runs_at_once(queue: Queue) -> None:
    running, most = 0, 0

    @task()
    async def counted(context: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    async with working(queue, counted, concurrency=3):
        receipts = await queue.submit([counted.call(None) for _ in range(20)])
        for receipt in receipts:
            await ended(queue, receipt.id)
    assert most == 3


def test_two_tasks_of_one_name_are_refused(queue: Queue) -> None:
    other: Task[None] = task(name="double")(_nothing)
    with pytest.raises(ValueError, match="two tasks"):
        Worker(queue, [double, other])


async def _nothing(context: TaskContext) -> None: ...


@pytest.mark.parametrize("how", ["delay", "at"])
async def test_a_delayed_task_starts_when_it_is_due_and_not_before(queue: Queue, how: str) -> None:
    idle_seconds = 30
    async with working(queue, double, idle_seconds=idle_seconds):
        await ended(queue, await queue.enqueue(double, 1))  # the worker now waits for the next token
        due = time.time() + 0.15
        if how == "delay":
            info = await ended(queue, await queue.enqueue(double, 1, delay=0.15))
        else:
            info = await ended(queue, await queue.enqueue(double, 1, at=due))
    assert info.started_at is not None
    # Times in the queue are whole milliseconds; without the due time the worker would wait for `idle_seconds`.
    assert due - 0.002 <= info.started_at < due + idle_seconds / 2


@pytest.mark.server
@pytest.mark.parametrize(
    ("command", "counter"),
    [
        ("evalsha", "task_step_errors"),
        ("evalsha", "task_lease_renewals:failed"),
        ("evalsha", "task_schedule_errors"),
        ("blpop", "task_wake_errors"),
    ],
)
async def test_a_defect_of_redis_is_counted_apart_and_the_worker_goes_on(
    own_server: RedisServer, keys: Keys, command: str, counter: str
) -> None:
    """A permission that Redis' user lacks is one."""
    redis = connect(own_server.url, name="test", timeout_seconds=5)
    queue, telemetry = Queue(redis, keys), Counted()
    options: dict[str, Any] = {"schedule": [Every(double, seconds=0.1, payload=1)], "lease_seconds": 0.3}
    async with working(queue, double, forever, telemetry=telemetry, idle_seconds=0.05, **options):
        await in_state(queue, await queue.enqueue(forever, None), "running")
        await redis.execute_command("ACL", "SETUSER", "default", f"-{command}")
        await eventually(lambda: telemetry.counters[counter] and telemetry.counters["redis_defects:tasks"])
        assert telemetry.counters["redis_outages:tasks"] == 0
        await redis.execute_command("ACL", "SETUSER", "default", f"+{command}")
        await ended(queue, await queue.enqueue(double, 1))
    await redis.aclose()


@pytest.mark.server
async def test_a_lost_wake_token_delays_a_task_by_the_idle_wait_at_most(real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)

    async def steal() -> Any:
        return await real_redis.blpop([keys.task_wake(queue.name)], timeout=5)

    async def blocked(clients: int) -> bool:
        return bool((await real_redis.info("clients"))["blocked_clients"] == clients)

    # Redis serves the client that has waited longest: the thief gets the token.
    thief = asyncio.create_task(steal())
    await eventually(lambda: blocked(1))
    async with working(queue, double, idle_seconds=0.3):
        await eventually(lambda: blocked(2))
        began = time.monotonic()
        task_id = (await queue.enqueue(double, 1)).id
        assert await thief
        await ended(queue, task_id)
    assert time.monotonic() - began < 0.6


async def test_an_idle_worker_is_woken_while_another_is_too_busy(queue: Queue) -> None:
    """One claims what it can; the token it leaves wakes the other."""
    async with working(queue, forever, concurrency=1, idle_seconds=5):
        await in_state(queue, await queue.enqueue(forever, None), "running")
        async with working(queue, forever, double, concurrency=1, idle_seconds=5):
            await ended(queue, await queue.enqueue(double, 1))
            began = time.monotonic()
            receipts = await queue.submit([forever.call(None), forever.call(None)])
            await in_state(queue, receipts[0].id, "running")
            assert time.monotonic() - began < 1
            assert (await queue.depth())["normal"] == 1


async def test_a_busy_worker_hands_the_watch_for_due_tasks_to_an_idle_one(queue: Queue) -> None:
    options: dict[str, Any] = {"concurrency": 1, "idle_seconds": 3}
    async with working(queue, forever, double, **options), working(queue, forever, double, **options):
        await ended(queue, await queue.enqueue(double, 1))
        later = await queue.enqueue(forever, None, delay=0.2)
        await in_state(queue, await queue.enqueue(forever, None, priority="high"), "running")
        info = await in_state(queue, later, "running")
    assert info.started_at is not None
    assert info.started_at - info.created_at < 0.5


async def test_a_task_that_outruns_its_lease_many_times_runs_once(queue: Queue) -> None:
    runs: list[int] = []

    @task()
    async def long(context: TaskContext) -> None:
        runs.append(context.attempt)
        await asyncio.sleep(3.5)

    # A loaded machine may not keep a shorter lease.
    options: dict[str, Any] = {"lease_seconds": 1, "idle_seconds": 0.02}
    async with working(queue, long, **options), working(queue, long, **options):
        info = await ended(queue, await queue.enqueue(long, None))
    assert (info.deaths, runs) == (0, [1])


async def test_a_lease_that_was_lost_cancels_the_copy_that_runs_here(redis: Redis, keys: Keys, queue: Queue) -> None:
    cancelled = asyncio.Event()

    @task()
    async def long(context: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    telemetry = Counted()
    async with working(queue, long, lease_seconds=0.06, telemetry=telemetry):
        task_id = (await queue.enqueue(long, None)).id
        await in_state(queue, task_id, "running")
        # As if this worker had been cut off, and another had taken the task over.
        await redis.hset(keys.task_record("default", task_id), "token", "999999999999999")
        await cancelled.wait()
        await eventually(lambda: telemetry.counters["task_ends:long:lost"] == 1)
