"""What a task may ask for: other delays, its own bounds, heartbeats, limits, middleware, schedules at run time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext, running_task
from app.kit.tasks.outcome import Fail, Retry
from app.kit.tasks.queue import Queue
from app.kit.tasks.schedule import Cron, Every
from app.kit.tasks.scheduler import Schedules
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker
from tests.kit.tasks.task_worker import claim, double, ended, in_state, info_of, report, stepper, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


def raise_in_child(kind: str) -> None:
    raise Fail("for good") if kind == "fail" else Retry("again", after=3600)


@task(process=True)
def fail_in_child(kind: str) -> None:
    raise_in_child(kind)


@task(process=True)
def log_in_child() -> None:
    logging.getLogger("library").warning("from a child")


def square(number: int) -> int:
    time.sleep(0.1)
    if number < 0:
        raise ValueError("negative")
    return number * number


async def test_a_handler_asks_for_another_attempt_at_its_own_time(queue: Queue) -> None:
    @task()
    async def asks(context: TaskContext) -> None:
        raise Retry("not yet", after=timedelta(hours=1))

    async with working(queue, asks, fail_in_child):
        for handle in (await queue.enqueue(asks), await queue.enqueue(fail_in_child, "retry")):
            info = await in_state(queue, handle, "scheduled")
            assert info.attempts == 1
            assert 3590 < info.due_at - time.time() < 3610
            assert str(info.error).startswith("Retry: ")


async def test_a_handler_says_that_another_attempt_would_fail_too(queue: Queue) -> None:
    @task(max_attempts=5)
    async def hopeless(context: TaskContext) -> None:
        raise Fail("no such account")

    async with working(queue, hopeless, fail_in_child):
        info = await ended(queue, await queue.enqueue(hopeless))
        assert (info.state, info.attempts, info.error) == ("failed", 1, "Fail: no such account")
        info = await ended(queue, await queue.enqueue(fail_in_child, "fail"))
        assert (info.state, info.attempts, info.error) == ("failed", 1, "Fail: for good")


@pytest.mark.parametrize(
    ("retry_delay", "expected"),
    [(5, [5, 5, 5]), ([1, 10], [1, 10, 10]), (lambda attempt: attempt * 7, [7, 14, 21])],
)
def test_delays_are_fixed_by_attempt_or_computed(retry_delay: Any, expected: list[float]) -> None:
    declared = task(retry_delay=retry_delay)(double.function)
    assert [declared.retry_delay_seconds(attempt) for attempt in (1, 2, 3)] == expected


@pytest.mark.parametrize("delay", [lambda attempt: float("nan"), lambda attempt: 1 / 0])
async def test_a_delay_that_cannot_be_computed_is_the_tasks_failure(
    queue: Queue, delay: Callable[[int], float]
) -> None:
    @task(retry_delay=delay)
    async def broken(context: TaskContext) -> None:
        raise ValueError("reason")

    async with working(queue, broken, double):
        info = await ended(queue, await queue.enqueue(broken))
        assert info.state == "failed"
        assert "ValueError: reason; its retry_delay failed" in str(info.error)


async def test_a_call_has_its_own_timeout_and_attempts(queue: Queue) -> None:
    @task(backoff_seconds=0.001)
    async def slow(context: TaskContext) -> None:
        await asyncio.Event().wait()

    async with working(queue, slow):
        info = await ended(queue, await queue.enqueue(slow, timeout=0.02, max_attempts=2))
    assert (info.state, info.attempts, info.error) == ("failed", 2, "TimedOut: after 0.02 s")


async def test_a_call_that_expires_before_it_starts_never_starts(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="late", expires=0)
    await queue.enqueue(double, 1, id="child", expires=3600)
    late, child = await queue.chain([double.call(1, id="first", expires=0), double.call(1, id="second")])
    [held] = await claim(stepper(queue), 5)
    assert held.id == "child"
    for task_id in ("late", late.id):
        info = await info_of(queue, task_id)
        assert (info.state, info.error) == ("aborted", "expired before it could start")
    assert (await info_of(queue, child)).state == "aborted"


async def test_a_silent_attempt_fails_and_one_that_beats_does_not(queue: Queue) -> None:
    @task(heartbeat_seconds=0.3, max_attempts=1)
    async def beats(context: TaskContext, silent: bool) -> str:
        for _ in range(8):
            if not silent:
                context.heartbeat()
            await asyncio.sleep(0.1)
        return "alive"

    async with working(queue, beats):
        dead, alive = await queue.enqueue(beats, True), await queue.enqueue(beats, False)
        assert (await ended(queue, dead)).error == "TimedOut: no heartbeat for 0.3 s"
        assert await alive.wait(10) == "alive"


async def test_a_part_of_a_task_runs_in_a_process_and_its_wait_is_not_its_time(queue: Queue) -> None:
    @task(timeout_seconds=3, max_attempts=1)
    async def squares(context: TaskContext, number: int) -> int:
        return await context.run_in_process(square, number)

    async with working(queue, squares, processes=1, concurrency=40):
        # One process for all: together they wait for its start and for each other longer than one may take.
        assert await queue.map(squares, range(40), wait_seconds=60) == [n * n for n in range(40)]
        assert (await ended(queue, await queue.enqueue(squares, -1))).error == "ValueError: negative"


@pytest.mark.parametrize("formatter", [None, logging.Formatter("%(task_id)s %(request_id)s %(message)s")])
async def test_what_a_child_logs_has_the_tasks_id(
    queue: Queue, capfd: pytest.CaptureFixture[str], formatter: logging.Formatter | None
) -> None:
    async with working(queue, log_in_child, child_formatter=formatter):
        handle = await queue.enqueue(log_in_child, correlation_id="cause")
        await handle.wait(30)
    expected = f"{handle.id} cause from a child" if formatter else f"WARNING library [task:{handle.id}] from a child"
    assert expected in capfd.readouterr().err


async def test_a_burst_ends_when_nothing_is_left(queue: Queue) -> None:
    await queue.submit([double.call(number, id=f"t{number}") for number in range(50)])
    await queue.enqueue(double, 1, delay=60)
    async with asyncio.timeout(20):
        await Worker(queue, [double], concurrency=3, burst=True).run()
        await Worker(queue, [double], burst=True).run()
    assert (await queue.totals())["done"] == 50
    assert (await queue.depth())["scheduled"] == 1


async def test_middleware_runs_around_each_attempt(queue: Queue) -> None:
    seen: list[str] = []

    def layer(name: str) -> Any:
        async def around(context: TaskContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
            seen.append(f"{name} before {context.name}")
            try:
                return await call_next() + 1
            finally:
                seen.append(f"{name} after")

        return around

    async with working(queue, double, middleware=[layer("outer"), layer("inner")]):
        assert await (await queue.enqueue(double, 1)).wait(10) == 4
    assert seen == ["outer before double", "inner before double", "inner after", "outer after"]


async def test_metadata_and_the_cause_travel_with_a_call(redis: Redis, keys: Keys) -> None:
    queue = Queue(redis, keys, correlation=lambda: "request-1")
    seen: list[Any] = []

    @task()
    async def inner(context: TaskContext) -> None:
        seen.append((context.correlation_id, dict(context.metadata)))

    @task()
    async def outer(context: TaskContext) -> str:
        running = running_task()
        assert running is context
        return (await queue.enqueue(inner, metadata={"tenant": "b"})).id

    async with working(queue, inner, outer):
        handle = await queue.enqueue(outer, metadata={"tenant": "a"})
        inner_id = await handle.wait(10)
        await ended(queue, inner_id)
        own = await queue.enqueue(inner, correlation_id="mine")
        await ended(queue, own)
    assert seen == [("request-1", {"tenant": "b"}), ("mine", {})]
    info = await info_of(queue, handle)
    assert (info.metadata, info.correlation_id, info.payload) == ({"tenant": "a"}, "request-1", None)


async def test_at_most_so_many_of_a_task_run_at_once_over_all_workers(queue: Queue) -> None:
    running, most, others = 0, 0, 0

    @task(max_running=2)
    async def bounded(context: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async with working(queue, bounded, double), working(queue, bounded, double):
        handles = await queue.submit([bounded.call() for _ in range(30)])
        # The others are not held up by those that wait for their limit.
        others = await (await queue.enqueue(double, 1, priority="low")).wait(10)
        for handle in handles:
            await handle.wait(10)
    assert (most, others) == (2, 2)
    assert (await queue.depth())["limited"] == 0


async def test_at_most_so_many_of_a_task_start_in_a_span(redis: Redis, keys: Keys, queue: Queue) -> None:
    limits = ("double", 0, 3, 60_000)
    worker = stepper(queue)
    worker.limits = limits
    await queue.submit([double.call(number, id=f"t{number}") for number in range(5)])
    assert [held.id for held in await claim(worker, 10)] == ["t0", "t1", "t2"]
    answer = await worker.step([], limit=10)
    assert answer.claims == []
    assert 0 < (answer.next_seconds or 0) <= 60
    assert (await queue.depth())["limited"] == 2
    assert [info.id for info in await queue.tasks("waiting")] == ["t3", "t4"]
    assert await queue.abort("t3")
    # As if the span had passed.
    await redis.delete(f"{keys.task_prefix(queue.name)}rate:double")
    assert [held.id for held in await claim(worker, 10)] == ["t4"]
    assert (await queue.depth())["limited"] == 0


async def test_a_limit_is_freed_when_the_worker_dies(queue: Queue) -> None:
    limits = ("double", 1, 0, 0)
    await queue.submit([double.call(number, id=f"t{number}") for number in range(3)])
    dying = stepper(queue, "dying", lease_seconds=0)
    dying.limits = limits
    assert [held.id for held in await claim(dying, 3)] == ["t0"]
    worker = stepper(queue)
    worker.limits = limits
    [held] = await claim(worker, 3)
    answer = await worker.step([report(held, "done")], limit=3)
    assert len(answer.claims) == 1


@pytest.mark.parametrize("rate", ["", "0/minute", "5/week", "5 / minute", "-1/second", "1.5/second"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="a rate is such as"):
        task(rate=rate)(double.function)


async def test_a_schedule_is_added_and_removed_at_run_time(queue: Queue) -> None:
    schedules = Schedules(queue)
    async with working(queue, double):
        await (await queue.enqueue(double, 1)).wait(10)
        await schedules.add(Every(double, seconds=3600, payload=4, name="hourly", priority="high"))
        await schedules.add(Cron(double, "0 4 * * *", payload=5, name="daily", time_zone="Europe/Berlin"))
        await schedules.add(Every(task(name="not-here")(double.function), seconds=3600, payload=1))

        async def scheduled() -> bool:
            return {info.payload for info in await queue.tasks("scheduled")} == {4, 5}

        await eventually(scheduled)
        stored = await schedules.entries()
        assert set(stored) == {"hourly", "daily", "not-here"}
        assert (stored["daily"].line, stored["daily"].time_zone) == ("0 4 * * *", "Europe/Berlin")
    assert await schedules.remove("hourly")
    assert not await schedules.remove("hourly")
    assert set(await schedules.entries()) == {"daily", "not-here"}


async def test_an_entry_runs_at_the_start_once_for_all_workers_that_start_together(queue: Queue) -> None:
    go_on = asyncio.Event()
    runs: list[str] = []

    @task()
    async def warm(context: TaskContext) -> None:
        runs.append(context.id)
        await go_on.wait()

    options: dict[str, Any] = {"schedule": [Every(warm, seconds=3600, at_start=True)]}
    async with working(queue, warm, **options), working(queue, warm, **options), working(queue, warm, **options):

        async def all_have_started() -> bool:
            return len(await queue.workers()) == 3

        await eventually(all_have_started)
        await eventually(lambda: runs)
        go_on.set()
    assert len(runs) == 1


def test_a_schedule_whose_ids_or_results_do_not_last_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_seconds"):
        Every(task(keep_seconds=0)(double.function), payload=1, seconds=60)
    with pytest.raises(ValueError, match="name of an entry"):
        Every(task(name="Report")(double.function), payload=1, seconds=60)
    with pytest.raises(ValueError, match="name of an entry"):
        Every(double, payload=1, seconds=60, name="x" * 50)
    assert Every(task(keep_seconds=None)(double.function), payload=1, seconds=60).label == "double"


class FastCron(Cron):
    """A minute of the line takes a tenth of a second. It begins ten minutes before an hour that Vienna skips."""

    began = float(int(time.time()))
    since = datetime(2026, 3, 29, 0, 50, tzinfo=UTC).timestamp()

    def next_after(self, now: float) -> float:
        minute = Cron.next_after(self, self.since + round(max(0, now - self.began) * 600, 3))
        return self.began + (minute - self.since) / 600


@pytest.mark.parametrize("ticks", [10, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["interval", "cron"])
async def test_four_nodes_run_each_tick_once(queue: Queue, kind: str, ticks: int) -> None:
    ran: list[int] = []

    @task()
    async def tick(context: TaskContext) -> None:
        ran.append(int(context.id.partition(":")[2]))
        if len(ran) == 5:
            # The loop of all is held up for some ticks, as by a task that blocks.
            time.sleep(0.45)  # noqa: ASYNC251

    every, cron = Every(tick, seconds=0.1), FastCron(tick, "* * * * *", time_zone="Europe/Vienna")
    nodes = [working(queue, tick, schedule=[every if kind == "interval" else cron]) for _ in range(4)]
    async with nodes[0], nodes[1], nodes[2], nodes[3]:
        # None is left out, as long as a node runs; one that was written late may run after later ones.
        await eventually(lambda: ran and {min(ran) + 100 * number for number in range(ticks)} <= set(ran), seconds=60)
    assert len(set(ran)) == len(ran)
    assert all(tick % 100 == 0 for tick in ran)
