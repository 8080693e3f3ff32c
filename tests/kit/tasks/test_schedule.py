"""Recurring tasks: when they are due, and that each tick is run once."""

import asyncio
import math
import time
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.schedule import Cron, Every
from app.kit.tasks.scheduler import Scheduler
from app.kit.tasks.task import task
from app.kit.telemetry import NoTelemetry
from tests.kit.tasks.cron_search import CronLine, cron_lines, field, next_in_utc, next_in_zone
from tests.kit.tasks.task_worker import double, ended, in_state, working
from tests.waiting import eventually


@task()
async def idle(context: TaskContext) -> None:
    """Takes no payload."""


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("now", "expected"), [(0, 60), (59.9, 60), (60, 120), (1_000_000_001, 1_000_000_020)])
def test_every_is_counted_from_the_epoch(now: float, expected: float) -> None:
    assert Every(idle, seconds=60).next_after(now) == expected


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.7, 1.1, 3, 86_400])
def test_every_tick_is_followed_by_the_next_one(seconds: float) -> None:
    """Most multiples of such an interval are no floats."""
    entry = Every(idle, seconds=seconds)
    ticks = [entry.next_after(1_795_655_000.05)]
    for _ in range(1000):
        ticks.append(entry.next_after(ticks[-1]))
    assert {round((later - tick) * 1000) for tick, later in pairwise(ticks)} == {round(seconds * 1000)}


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
    assert Cron(idle, line).next_after(epoch("2030-01-15T10:30:20")) == epoch(expected)


@pytest.mark.parametrize("line", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_what_is_no_cron_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Cron(idle, line)


@pytest.mark.parametrize(
    "line",
    ["1- * * * *", "1/ * * * *", "1_0 * * * *", "\uff11 * * * *", "* * * * \u017fun", "0 * * * * *", "5-5/2 * * * *"]
    + ["05-5/2 * * * *", "0 0 * * mon-MON/2", "@reboot", "@Daily", "1,, * * * *", "9" * 5000 + " * * * *"],
)
def test_what_is_almost_a_cron_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"crontab line|digits"):
        Cron(idle, line)


@pytest.mark.parametrize("line", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 */31 * MON#5"])
def test_an_entry_that_is_never_due_is_refused_when_it_is_declared(line: str) -> None:
    with pytest.raises(ValueError, match=r"crontab line|no moment"):
        Cron(idle, line)


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Atlantis", "../UTC", "/etc/localtime", "a\0b", "x" * 300])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Cron(idle, "@daily", time_zone=name)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_an_interval_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        Every(idle, seconds=seconds)


@pytest.mark.parametrize(
    ("line", "time_zone", "now", "expected"),
    [
        ("0 9 * * mon-FRI", "Europe/Berlin", "2030-01-19T00:00", "2030-01-21T08:00"),
        ("0 9 * jul *", "Europe/Berlin", "2030-01-15T00:00", "2030-07-01T07:00"),
        ("@daily", "America/New_York", "2030-01-15T00:00", "2030-01-15T05:00"),
        ("@hourly", "Asia/Kathmandu", "2030-01-15T00:00", "2030-01-15T00:15"),
        ("@weekly", "UTC", "2030-01-15T00:00", "2030-01-20T00:00"),
        ("@monthly", "UTC", "2030-01-15T00:00", "2030-02-01T00:00"),
        ("@yearly", "UTC", "2030-01-15T00:00", "2031-01-01T00:00"),
        # On 31 March 2030 Berlin goes from 02:00 to 03:00, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2030-03-31T00:59:59", "2030-03-31T01:00"),
        ("30 2 * * *", "Europe/Berlin", "2030-03-31T01:00", "2030-04-01T00:30"),
        ("30 * * * *", "Europe/Berlin", "2030-03-31T00:30", "2030-03-31T01:30"),
        # On 27 October 2030 it goes from 03:00 back to 02:00, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2030-10-27T00:00", "2030-10-27T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2030-10-27T01:10", "2030-10-28T01:30"),
        ("30 * * * *", "Europe/Berlin", "2030-10-27T00:30", "2030-10-27T01:30"),
    ],
)
def test_cron_keeps_its_time_zone(line: str, time_zone: str, now: str, expected: str) -> None:
    assert Cron(idle, line, time_zone=time_zone).next_after(epoch(now)) == epoch(expected)


@given(line=cron_lines(), now=st.integers(0, 4_000_000_000))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_cron_agrees_with_a_search_through_every_minute(line: CronLine, now: int) -> None:
    assert next_in_utc(line, now) == _next_or_none(line.text, now, "UTC")


@given(
    line=cron_lines(days=st.just(field("*", range(1, 32))), months=st.just(field("*", range(1, 13)))),
    time_zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kathmandu"]),
    # The days around a change of the clocks, here or there.
    day=st.sampled_from(["2030-03-31", "2030-10-27", "2030-03-10", "2030-11-03", "2030-04-07", "2030-10-06"]),
    minutes=st.integers(-1440, 1440) | st.integers(0, 180),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_cron_agrees_with_a_search_when_the_clocks_change(
    line: CronLine, time_zone: str, day: str, minutes: int
) -> None:
    now = epoch(day) + 60 * minutes
    assert next_in_zone(line, now, ZoneInfo(time_zone)) == _next_or_none(line.text, now, time_zone)


def _next_or_none(text: str, now: float, time_zone: str) -> float | None:
    try:
        return Cron(idle, text, time_zone=time_zone).next_after(now)
    except ValueError:
        return None


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
    scheduler = asyncio.create_task(Scheduler(queue, [entry], tasks={}, telemetry=NoTelemetry()).run())
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
        Scheduler(queue, [Every(idle, seconds=1), Every(idle, seconds=2)], tasks={}, telemetry=NoTelemetry())
