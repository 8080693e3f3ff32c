"""What a worker asks of Redis, counted by the server's own INFO commandstats."""

import asyncio
from collections import Counter

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.model import Report
from app.kit.tasks.queue import Queue
from tests.kit.tasks.task_worker import double, ended, report, stepper, working
from tests.waiting import eventually

pytestmark = pytest.mark.server

TASKS = 2000
BACKLOG = 20_000


async def commands(redis: Redis) -> Counter[str]:
    stats = await redis.info("commandstats")
    # Commands that a script calls are counted too; EVALSHA and BLPOP are what a worker sends.
    return Counter({name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()})


async def test_an_idle_worker_sends_one_blpop_and_one_step_in_each_idle_wait(real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    async with working(queue, double, idle_seconds=0.5):
        await ended(queue, await queue.enqueue(double, 1))
        before = await commands(real_redis)

        async def waited() -> bool:
            return (await commands(real_redis) - before)["blpop"] >= 6

        await eventually(waited, seconds=30)
        sent = await commands(real_redis) - before
    assert sent["blpop"] == 6
    # Of the two that follow each other one may be under way.
    assert 5 <= sent["evalsha"] <= 7


async def test_a_backlog_costs_few_round_trips_a_task(real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    await queue.submit([double.call(number) for number in range(TASKS)])
    before = await commands(real_redis)
    async with working(queue, double, concurrency=32):

        async def done() -> bool:
            return (await queue.totals())["done"] == TASKS

        await eventually(done, seconds=60)
        sent = await commands(real_redis) - before
    assert (sent["evalsha"] + sent["eval"] + sent["blpop"]) / TASKS <= 0.2


async def test_what_is_enqueued_in_one_tick_is_one_round_trip(real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    await queue.enqueue(double, 1)
    before = await commands(real_redis)
    await asyncio.gather(*(queue.enqueue(double, number) for number in range(100)))
    assert (await commands(real_redis) - before)["evalsha"] == 1
    assert (await queue.depth())["normal"] == 101


async def test_a_backlog_of_any_length_costs_the_server_the_same_commands(real_redis: Redis, keys: Keys) -> None:
    """Each of them takes constant time, or the logarithm of a place's size."""

    async def work_off(queue: Queue, waiting: int) -> Counter[str]:
        await queue.submit([double.call(number, priority="low") for number in range(waiting)])
        before = await commands(real_redis)
        await queue.submit([double.call(number) for number in range(TASKS)])
        worker = stepper(queue)
        reports: list[Report] = []
        for _ in range(TASKS // 20):
            claims = (await worker.step(reports, limit=20)).claims
            reports = [report(each, "done") for each in claims]
        await worker.step(reports, limit=0)
        return await commands(real_redis) - before

    few = await work_off(Queue(real_redis, keys, name="few"), 10)
    many = await work_off(Queue(real_redis, keys, name="many"), BACKLOG)
    assert many == few
    assert (await Queue(real_redis, keys, name="many").depth())["low"] == BACKLOG
