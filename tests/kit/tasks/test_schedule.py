"""Recurring tasks: when they are due, and that each tick is run once."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.schedule import Cron, Every, Scheduler
from app.kit.tasks.task import task
from app.kit.telemetry import NoTelemetry
from tests.kit.tasks.task_worker import double, ended, in_state, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("now", "expected"), [(0, 60), (59.9, 60), (60, 120), (1_000_000_001, 1_000_000_020)])
def test_every_is_counted_from_the_epoch(now: float, expected: float) -> None:
    assert Every(double, seconds=60).next_after(now) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("* * * * *", "2030-01-15T10:31"),
        ("30 10 * * *", "2030-01-16T10:30"),
        ("31 10 * * *", "2030-01-15T10:31"),
        ("*/20 * * * *", "2030-01-15T10:40"),
        ("5-10/5,50 * * * *", "2030-01-15T10:50"),
        ("0 0 1 * *", "2030-02-01T00:00"),
        ("0 9 * * 1-5", "2030-01-16T09:00"),
        ("0 9 * * 0", "2030-01-20T09:00"),
        ("0 9 * * 7", "2030-01-20T09:00"),
        ("0 0 31 * *", "2030-01-31T00:00"),
        ("0 0 20 * 5", "2030-01-18T00:00"),
        ("0 0 29 2 *", "2032-02-29T00:00"),
    ],
)
def test_cron_names_the_next_minute_that_matches(line: str, expected: str) -> None:
    assert Cron(double, line).next_after(epoch("2030-01-15T10:30:20")) == epoch(expected)


@pytest.mark.parametrize("line", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_what_is_no_cron_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Cron(double, line)


def test_a_day_that_never_comes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no day"):
        Cron(double, "0 0 31 2 *").next_after(0)


async def test_each_tick_runs_once_however_many_nodes_there_are(queue: Queue) -> None:
    ticks: list[int] = []

    @task()
    async def tick(context: TaskContext) -> None:
        ticks.append(int(context.id.partition(":")[2]))

    schedule = [Every(tick, seconds=0.1)]
    nodes = [working(queue, tick, schedule=schedule) for _ in range(3)]
    async with nodes[0], nodes[1], nodes[2]:
        await eventually(lambda: len(ticks) >= 5)
    assert all(tick % 100 == 0 for tick in ticks)
    assert len(set(ticks)) == len(ticks)


async def test_the_next_tick_waits_in_the_queue_with_its_payload(queue: Queue) -> None:
    entry = Every(double, seconds=3600, payload=21, name="hourly", priority="high")
    scheduler = asyncio.create_task(Scheduler(queue, [entry], telemetry=NoTelemetry()).run())
    task_id = f"hourly:{round(entry.next_after(time.time()) * 1000)}"
    info = await in_state(queue, task_id, "scheduled")
    scheduler.cancel()
    assert (info.name, (await queue.depth())["scheduled"]) == ("double", 1)


async def test_a_late_node_does_not_repeat_a_tick_that_has_run(queue: Queue) -> None:
    entry = Every(double, seconds=60, payload=1)
    tick = entry.next_after(time.time() - 120)
    async with working(queue, double):
        for _ in range(2):
            await queue.submit([entry.call(tick)])
            await ended(queue, entry.call(tick).id)
    assert (await queue.totals())["done"] == 1


def test_two_entries_of_one_name_are_refused(queue: Queue) -> None:
    with pytest.raises(ValueError, match="one name"):
        Scheduler(queue, [Every(double, seconds=1), Every(double, seconds=2)], telemetry=NoTelemetry())
