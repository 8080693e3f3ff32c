"""Whatever a task raises, returns or is called is its own failure: its worker, and the tasks beside it, go on."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.kit.keys import Keys
from app.kit.scripts import Argument
from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Call
from app.kit.tasks.outcome import Fail, Retry
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker
from tests.kit.tasks.task_worker import Counted, claim, double, ended, forever, in_state, info_of, stepper, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@task(process=True, max_attempts=1)
def hostile_child(text: str) -> None:
    raise ValueError("caf\udce9" if text == "surrogate" else text * 2500)


ERRORS = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    TimeoutError("mine"),
    StopIteration(),
    ValueError("caf\udce9"),
    ValueError("x" * 100_000),
    Unprintable(),
    Fail("caf\udce9"),
    Retry("caf\udce9"),
    BaseExceptionGroup("several", [ValueError("caf\udce9")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("in_thread", [False, True], ids=["loop", "thread"])
async def test_nothing_that_a_task_raises_ends_the_worker(queue: Queue, error: BaseException, in_thread: bool) -> None:
    heard: list[str] = []

    async def publish_event(task_id: str, kind: str, data: dict[str, Any]) -> None:
        heard.append(kind)
        str(data).encode()

    async def in_loop(context: TaskContext) -> None:
        raise error

    def threaded(context: TaskContext) -> None:
        raise error

    hostile = task(max_attempts=1, events=True, name="hostile")(threaded if in_thread else in_loop)
    async with working(queue, hostile, double, publish_event=publish_event):
        bad, good = await queue.enqueue(hostile), await queue.enqueue(double, 1)
        info = await ended(queue, bad)
        assert info.state == "failed"
        assert len(info.error or "") <= 2000
        assert (await ended(queue, good)).attempts == 1
        await eventually(lambda: "failed" in heard)


@pytest.mark.parametrize("text", ["surrogate", "long"])
async def test_nothing_that_a_child_raises_ends_the_worker(queue: Queue, text: str) -> None:
    async with working(queue, hostile_child, double):
        info = await ended(queue, await queue.enqueue(hostile_child, text))
        assert info.state == "failed"
        assert str(info.error).startswith("ValueError: caf\\udce9" if text == "surrogate" else "ValueError: long")
        assert "raise ValueError" in str(info.traceback)
        assert (await ended(queue, await queue.enqueue(double, 1))).result == 2


@pytest.mark.parametrize("value", ["caf\udce9", {"a": "\udce9"}, float("nan"), 10**400, b"\xff", {1, 2}, object()])
async def test_no_result_ends_the_worker(queue: Queue, value: object) -> None:
    @task()
    async def odd(context: TaskContext) -> object:
        return value

    async with working(queue, odd, double):
        info = await ended(queue, await queue.enqueue(odd))
        assert info.state in {"done", "failed"}
        assert info.attempts == 1
        assert (await ended(queue, await queue.enqueue(double, 1))).result == 2


@pytest.mark.parametrize("name", ["", "caf\udce9", "a b", "x" * 101, "{a}"])
async def test_a_name_that_is_none_is_refused_at_enqueue_and_at_declaration(queue: Queue, name: str) -> None:
    with pytest.raises(ValueError, match="task name"):
        Call(name=name)
    with pytest.raises(ValueError, match="task name"):
        task(name=name or " ")(double.function)


async def test_what_another_program_has_put_into_the_queue_is_kept_dead(redis: Redis, keys: Keys, queue: Queue) -> None:
    ready = keys.task_places(queue.name)[1]
    odd: dict[Any, Any] = {b"name": b"\xff\xfe", b"payload": b"\xff", b"priority": "normal", b"state": "queued"}
    await redis.hset(keys.task_record(queue.name, "odd"), mapping={**odd, b"options": b"\xff", b"created": 1})
    await redis.lpush(ready, "odd", "has-no-record")
    async with working(queue, double):
        info = await ended(queue, "odd")
        assert (info.state, info.error) == ("failed", "unknown task: \\xff\\xfe")
        assert (await ended(queue, await queue.enqueue(double, 1))).result == 2


async def test_a_report_that_the_server_refuses_is_that_tasks_failure(
    redis: Redis, keys: Keys, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a defect in a script would be: the others that are reported beside it are done."""
    go_on = asyncio.Event()

    @task(keep_seconds=200)
    async def refused(context: TaskContext) -> None:
        await go_on.wait()

    @task(keep_seconds=100)
    async def beside(context: TaskContext) -> int:
        await go_on.wait()
        return 3

    # Redis refuses an expiry beyond 64 bits; milliseconds() never makes one.
    monkeypatch.setattr("app.kit.tasks.executor.milliseconds", lambda seconds: 10**30 if seconds == 200 else 100_000)
    async with working(queue, refused, beside, double):
        bad, good = await queue.enqueue(refused), await queue.enqueue(beside)
        await in_state(queue, bad, "running")
        await in_state(queue, good, "running")
        go_on.set()
        assert (await ended(queue, good)).result == 3
        # The script stopped in the middle of the refused report: its lease or the next report ends the task.
        assert (await ended(queue, await queue.enqueue(double, 1))).result == 2


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, 1e300])
def test_a_time_that_is_none_is_refused_when_the_task_is_declared(seconds: float) -> None:
    declare: list[Callable[[], object]] = [
        lambda: task(keep_seconds=seconds)(double.function),
        lambda: task(timeout_seconds=seconds)(double.function),
        lambda: task(heartbeat_seconds=seconds)(double.function),
        lambda: task(backoff_seconds=seconds)(double.function),
        lambda: task(retry_delay=seconds)(double.function),
        lambda: task(retry_delay=[1, seconds])(double.function),
        lambda: Retry(after=seconds),
    ]
    for attempt in declare:
        with pytest.raises(ValueError, match="number of seconds"):
            attempt()


async def test_a_result_is_kept_for_ever_where_asked_for(redis: Redis, keys: Keys, queue: Queue) -> None:
    @task(keep_seconds=None)
    async def lasting(context: TaskContext) -> int:
        return 7

    async with working(queue, lasting):
        handle = await queue.enqueue(lasting)
        info = await ended(queue, handle)
    assert (info.state, info.result, info.attempts) == ("done", 7, 1)
    assert await redis.ttl(keys.task_record(queue.name, handle.id)) == -1


async def test_an_abandoned_thread_keeps_its_slot(queue: Queue) -> None:
    running, most, lock = 0, 0, threading.Lock()
    go_on = threading.Event()

    @task(timeout_seconds=0.02, max_attempts=1)
    def stubborn(context: TaskContext) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(20)
        with lock:
            running -= 1

    async with working(queue, stubborn, threads=2, concurrency=16):
        handles = await queue.submit([stubborn.call() for _ in range(20)])
        await ended(queue, handles[0])
        await ended(queue, handles[1])
        # The others wait for a slot, which is not their attempts' time.
        assert [info.state for info in await queue.tasks("running")] == ["running"] * 16
        go_on.set()
        for handle in handles[2:]:
            await ended(queue, handle)
    assert most == 2


async def test_each_death_is_an_error_and_each_end_an_info_with_the_id(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @task(max_attempts=1)
    async def broken(context: TaskContext) -> None:
        raise ValueError("reason")

    async with working(queue, broken, double):
        await queue.submit([Call(name="nobody-knows", id="unknown"), Call(name="double", payload=b"{", id="odd")])
        await queue.enqueue(broken, id="broken")
        await queue.enqueue(double, 1, id="good")
        for task_id in ("unknown", "odd", "broken", "good"):
            await ended(queue, task_id)
    errors = {vars(record)["task_id"]: record.getMessage() for record in caplog.records if record.levelname == "ERROR"}
    assert set(errors) == {"unknown", "odd", "broken"}
    assert "unknown task: nobody-knows" in errors["unknown"]
    assert "undecodable payload" in errors["odd"]
    assert "ValueError: reason" in errors["broken"]
    [done] = [vars(record) for record in caplog.records if "task double done" in record.getMessage()]
    assert (done["levelname"], done["task_id"], done["attempt"]) == ("INFO", "good", 1)


class DefectiveQueue(Queue):
    """The server refuses the next `refusals` steps, as a defect in the script; the step after them may wait."""

    refusals = 0
    gate: asyncio.Event | None = None
    is_waiting = False

    async def run(self, script: str, *args: Argument, repeatable: bool = False) -> Any:
        if script == "tasks/step" and self.refusals:
            self.refusals -= 1
            raise ResponseError("a defect")
        if script == "tasks/step" and self.gate is not None:
            gate, self.gate, self.is_waiting = self.gate, None, True
            await gate.wait()
        return await super().run(script, *args, repeatable=repeatable)


async def test_a_worker_that_is_cancelled_while_it_reports_one_by_one_loses_no_report(redis: Redis, keys: Keys) -> None:
    queue, go_on = DefectiveQueue(redis, keys), asyncio.Event()

    @task()
    async def work(context: TaskContext) -> int:
        await go_on.wait()
        return 3

    running = asyncio.create_task(Worker(queue, [work], idle_seconds=60, telemetry=Counted()).run())
    handle = await queue.enqueue(work)
    await in_state(queue, handle, "running")
    queue.refusals, queue.gate = 1, asyncio.Event()
    go_on.set()
    await eventually(lambda: queue.is_waiting)
    running.cancel()
    await asyncio.wait([running])
    info = await info_of(queue, handle)
    assert (info.state, info.result, info.attempts) == ("done", 3, 1)


@pytest.mark.parametrize("refusals", [0, 1])
async def test_a_poisoned_task_is_an_error_and_a_failed_event(
    redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture, refusals: int
) -> None:
    """Also where the server refused the worker's step, and the next one, without reports, took the lease back."""
    queue = DefectiveQueue(redis, keys)
    heard: list[tuple[str, str]] = []

    async def publish_event(task_id: str, kind: str, data: dict[str, Any]) -> None:
        heard.append((task_id, kind))

    @task(events=True)
    async def fatal(context: TaskContext) -> None: ...

    await queue.enqueue(fatal, id="poison")

    for death in (1, 2, 3):
        assert await claim(stepper(queue, f"dying{death}", lease_seconds=0))
    queue.refusals = refusals
    async with working(queue, fatal, publish_event=publish_event, telemetry=Counted()):
        assert (await ended(queue, "poison")).deaths == 3
        await eventually(lambda: heard == [("poison", "failed")])
    assert "poison" in [vars(record).get("task_id") for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("gone", ["unknown", "undecodable"])
async def test_a_dead_letter_is_done_once_its_handler_is_back(queue: Queue, gone: str) -> None:
    @task(name="double")
    async def other(context: TaskContext, payload: list[str]) -> None: ...

    handle = await queue.enqueue(double, 21)
    async with working(queue, *([] if gone == "unknown" else [other])):
        assert (await ended(queue, handle)).state == "failed"
    assert await queue.requeue(handle.id) == 1
    async with working(queue, double):
        assert await handle.wait(10) == 42
    assert (await info_of(queue, handle)).error is None
    assert await queue.dead() == []


async def test_a_forever_running_task_is_aborted_although_the_worker_is_full(queue: Queue) -> None:
    """Its worker is woken; without that it would look again after its idle wait."""
    async with working(queue, forever, concurrency=1, idle_seconds=60):
        handle = await queue.enqueue(forever)
        await in_state(queue, handle, "running")
        assert await handle.abort()
        assert (await ended(queue, handle)).state == "aborted"
