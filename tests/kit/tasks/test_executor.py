"""Tasks run: in the loop, in threads and in child processes; their arguments, and their results."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import date

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.model import Call
from app.kit.tasks.outcome import Undecodable
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.kit.tasks.task_worker import Counted, double, ended, endless, in_child, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


@dataclass
class Trip:
    city: str
    day: date


async def test_a_coroutine_runs_with_its_payload_and_its_result_is_kept(queue: Queue) -> None:
    async with working(queue, double):
        task_id = (await queue.enqueue(double, 21, owner=7)).id
        info = await ended(queue, task_id)
    assert (info.state, info.result, info.error, info.owner, info.name) == ("done", 42, None, 7, "double")
    assert (info.attempts, info.deaths) == (1, 0)
    assert info.started_at is not None
    assert info.finished_at is not None
    assert info.created_at <= info.started_at <= info.finished_at


async def test_the_context_has_the_resources_the_attempt_and_a_logger(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[object, ...]] = []

    @task()
    async def look(context: TaskContext) -> None:
        context.logger.warning("here")
        seen.append((context.id, context.name, context.attempt, context.owner, context.resources))

    async with working(queue, look, resources="the resources"):
        await ended(queue, await queue.enqueue(look, None, id="one", owner=3))
    assert seen == [("one", "look", 1, 3, "the resources")]
    record = next(record for record in caplog.records if record.message == "here")
    assert vars(record)["task_id"] == "one"


async def test_a_payload_is_decoded_to_the_type_that_the_task_declares(queue: Queue) -> None:
    seen: list[Trip] = []

    @task()
    async def book(context: TaskContext, trip: Trip) -> None:
        seen.append(trip)

    async with working(queue, book):
        await ended(queue, await queue.enqueue(book, Trip("Zürich", date(2030, 1, 2))))
    assert seen == [Trip("Zürich", date(2030, 1, 2))]


async def test_a_plain_function_runs_in_a_thread(queue: Queue) -> None:
    @task()
    def where(context: TaskContext) -> bool:
        return threading.current_thread() is threading.main_thread()

    async with working(queue, where):
        info = await ended(queue, await queue.enqueue(where, None))
    assert info.result is False


async def test_a_task_for_a_process_runs_in_a_child(queue: Queue) -> None:
    async with working(queue, in_child):
        good, bad = await queue.enqueue(in_child, 1), await queue.enqueue(in_child, -1)
        assert (await ended(queue, good)).result == 2
        info = await ended(queue, bad)
    assert (info.state, info.error) == ("failed", "ValueError: negative")


async def test_a_child_that_takes_too_long_is_killed(queue: Queue) -> None:
    async with working(queue, endless):
        info = await ended(queue, await queue.enqueue(endless, None))
    assert (info.state, info.error) == ("failed", "TimedOut: after 0.3 s")


async def test_a_failure_is_repeated_until_it_succeeds(queue: Queue) -> None:
    attempts: list[int] = []

    @task(backoff_seconds=0.001)
    async def third_time(context: TaskContext) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise RuntimeError("not yet")
        return "at last"

    telemetry = Counted()
    async with working(queue, third_time, telemetry=telemetry):
        info = await ended(queue, await queue.enqueue(third_time, None))
    assert (info.state, info.result, info.attempts, info.error) == ("done", "at last", 3, None)
    assert attempts == [1, 2, 3]
    assert telemetry.counters["task_starts:third_time"] == 3
    assert telemetry.counters["task_ends:third_time:retry"] == 2
    assert telemetry.counters["task_ends:third_time:done"] == 1
    assert {"task_seconds", "task_queue_depth"} <= telemetry.seen


async def test_a_failure_is_repeated_max_attempts_times_and_then_kept_dead(queue: Queue) -> None:
    @task(max_attempts=2, backoff_seconds=0.001)
    async def broken(context: TaskContext) -> None:
        raise KeyError("gone")

    async with working(queue, broken):
        task_id = (await queue.enqueue(broken, None)).id
        info = await ended(queue, task_id)
    assert (info.state, info.attempts, info.error) == ("failed", 2, "KeyError: 'gone'")
    assert [letter.id for letter in await queue.dead()] == [task_id]


@pytest.mark.parametrize("attempt", [1, 3, 5, 200])
def test_the_wait_before_a_retry_has_full_jitter_within_bounds(attempt: int) -> None:
    @task(backoff_seconds=2, backoff_max_seconds=20)
    async def any_task(context: TaskContext) -> None: ...

    ceiling = min(20, 2 * 2 ** (attempt - 1))
    waits = [any_task.retry_delay_seconds(attempt) for _ in range(500)]
    assert all(0 <= wait <= ceiling for wait in waits)
    assert min(waits) < ceiling * 0.1
    assert max(waits) > ceiling * 0.9


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), TimeoutError("mine"), StopIteration()])
async def test_nothing_that_a_task_raises_ends_the_worker(queue: Queue, error: BaseException) -> None:
    @task(max_attempts=1)
    async def hostile(context: TaskContext) -> None:
        raise error

    async with working(queue, hostile, double):
        assert (await ended(queue, await queue.enqueue(hostile, None))).state == "failed"
        assert (await ended(queue, await queue.enqueue(double, 1))).result == 2


async def test_a_task_that_takes_too_long_is_cancelled_and_fails(queue: Queue) -> None:
    @task(timeout_seconds=0.02, max_attempts=1)
    async def slow(context: TaskContext) -> None:
        await asyncio.Event().wait()

    async with working(queue, slow):
        info = await ended(queue, await queue.enqueue(slow, None))
    assert (info.state, info.error) == ("failed", "TimedOut: after 0.02 s")


async def test_a_thread_sees_that_it_is_cancelled(queue: Queue) -> None:
    told = threading.Event()

    @task(timeout_seconds=0.02, max_attempts=1)
    def slow(context: TaskContext) -> None:
        while not context.cancelled:
            told.wait(0.001)
        told.set()

    async with working(queue, slow):
        assert (await ended(queue, await queue.enqueue(slow, None))).state == "failed"
        await eventually(told.is_set)


async def test_an_unknown_task_is_kept_dead_with_its_reason(queue: Queue) -> None:
    async with working(queue, double):
        await queue.submit([Call(name="nobody_knows", payload=b"1", id="odd")])
        info = await ended(queue, "odd")
    assert (info.state, info.error) == ("failed", "unknown task: nobody_knows")


@pytest.mark.parametrize("payload", [b'"text"', b"{", b"", b"\xff", b"1.5"])
async def test_an_undecodable_payload_is_kept_dead_with_its_reason(queue: Queue, payload: bytes) -> None:
    async with working(queue, double):
        await queue.submit([Call(name="double", payload=payload, id="odd")])
        info = await ended(queue, "odd")
    assert info.state == "failed"
    assert info.error is not None
    assert info.error.startswith("undecodable payload: ")


async def test_a_result_without_json_is_not_worked_for_twice(queue: Queue) -> None:
    @task()
    async def odd(context: TaskContext) -> object:
        return object()

    async with working(queue, odd):
        info = await ended(queue, await queue.enqueue(odd, None))
    assert (info.state, info.attempts) == ("failed", 1)
    assert info.error is not None
    assert info.error.startswith("result: no JSON")


async def test_a_payload_without_json_is_refused_before_redis_is_asked(queue: Queue) -> None:
    @task()
    async def anything(context: TaskContext, payload: object) -> None: ...

    with pytest.raises(Undecodable):
        await queue.enqueue(anything, object())
    assert (await queue.depth())["normal"] == 0


async def test_progress_is_readable_while_the_task_runs(queue: Queue) -> None:
    go_on = asyncio.Event()

    @task()
    async def steps(context: TaskContext) -> None:
        context.report_progress(30)
        context.report_progress(400)
        context.report_progress(60)
        await go_on.wait()

    async with working(queue, steps):
        task_id = (await queue.enqueue(steps, None)).id

        async def halfway() -> TaskInfo | None:
            info = await queue.get(task_id)
            return info if info is not None and info.progress == 60 else None

        assert (await eventually(halfway)) is not None
        go_on.set()
        await ended(queue, task_id)


async def test_progress_is_reported_from_a_thread_too(queue: Queue) -> None:
    go_on = threading.Event()

    @task()
    def steps(context: TaskContext) -> None:
        context.report_progress(10)
        go_on.wait(5)

    async with working(queue, steps):
        task_id = (await queue.enqueue(steps, None)).id

        async def begun() -> bool:
            info = await queue.get(task_id)
            return info is not None and info.progress == 10

        await eventually(begun)
        go_on.set()
        await ended(queue, task_id)


async def test_progress_and_end_of_a_task_with_events_are_published_in_order(queue: Queue) -> None:
    heard: list[tuple[str, str, dict[str, object]]] = []

    async def publish_event(task_id: str, kind: str, data: dict[str, object]) -> None:
        heard.append((task_id, kind, data))
        if kind == "done":
            assert (await ended(queue, task_id)).state == "done"

    @task(events=True, max_attempts=1)
    async def audible(context: TaskContext, succeeds: bool) -> None:
        context.report_progress(50)
        assert succeeds

    async with working(queue, audible, double, publish_event=publish_event, concurrency=1):
        await queue.enqueue(audible, True, id="good")
        await queue.enqueue(double, 1)
        await queue.enqueue(audible, False, id="bad")
        await eventually(lambda: len(heard) == 8)
    failed = {"error": "AssertionError: assert False"}
    assert heard == [
        ("good", "queued", {}),
        ("good", "started", {"attempt": 1}),
        ("good", "progress", {"progress": 50}),
        ("good", "done", {}),
        ("bad", "queued", {}),
        ("bad", "started", {"attempt": 1}),
        ("bad", "progress", {"progress": 50}),
        ("bad", "failed", failed),
    ]


@pytest.mark.parametrize(
    ("error", "counter"), [(RedisConnectionError("down"), "redis_outages"), (ResponseError("ERR odd"), "redis_defects")]
)
async def test_an_event_that_cannot_be_published_is_counted_and_its_task_ends(
    queue: Queue, error: RedisError, counter: str
) -> None:
    async def publish_event(task_id: str, kind: str, data: dict[str, object]) -> None:
        raise error

    @task(events=True)
    async def audible(context: TaskContext) -> None: ...

    telemetry = Counted()
    async with working(queue, audible, publish_event=publish_event, telemetry=telemetry):
        assert (await ended(queue, await queue.enqueue(audible, None))).state == "done"
        await eventually(lambda: telemetry.counters["task_events_dropped"] == 3)
    assert telemetry.counters[f"{counter}:tasks"] == 3


async def test_a_result_expires(queue: Queue) -> None:
    @task(keep_seconds=0.05)
    async def brief(context: TaskContext) -> None: ...

    async with working(queue, brief):
        task_id = (await queue.enqueue(brief, None)).id

        async def gone() -> bool:
            return await queue.get(task_id) is None

        await eventually(gone)
    assert {name: count for name, count in (await queue.totals()).items() if count} == {"done": 1}


def test_a_coroutine_cannot_be_a_task_for_a_process() -> None:
    async def wrong() -> None: ...

    with pytest.raises(TypeError):
        task(process=True)(wrong)
