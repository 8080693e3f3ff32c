"""A handle: waiting for results, following, aborting; the receipt; map and chains; eager mode."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.eager import EagerQueue
from app.kit.tasks.model import ReportKind
from app.kit.tasks.outcome import Fail, TaskAborted, TaskFailed, TaskUnknown
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.kit.tasks.task_worker import claim, double, ended, forever, in_state, info_of, report, stepper, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


@task(max_attempts=1)
async def broken(context: TaskContext) -> None:
    raise KeyError("gone")


@task()
async def add_one(context: TaskContext, number: int) -> int:
    return number + 1


async def test_a_result_is_waited_for(queue: Queue) -> None:
    async with working(queue, double, broken):
        assert await (await queue.enqueue(double, 21)).wait(5) == 42
        handle = await queue.enqueue(broken)
        with pytest.raises(TaskFailed, match="KeyError: 'gone'") as failed:
            await handle.wait(5)
        assert 'raise KeyError("gone")' in str(failed.value.traceback)
        info = await info_of(queue, handle)
        assert info.traceback == failed.value.traceback


async def test_a_wait_ends_by_an_abort_an_unknown_id_and_its_own_time(queue: Queue) -> None:
    handle = await queue.enqueue(double, 1, delay=60)
    with pytest.raises(TimeoutError):
        await handle.wait(0.02)
    assert await handle.abort()
    with pytest.raises(TaskAborted):
        await handle.wait(5)
    with pytest.raises(TaskUnknown):
        await queue.handle("unknown").wait(5)
    with pytest.raises(ValueError, match="no task id"):
        queue.handle("Report 1")


async def test_a_task_is_followed_from_state_to_state(queue: Queue) -> None:
    go_on = asyncio.Event()

    @task()
    async def steps(context: TaskContext) -> int:
        context.report_progress(50)
        await go_on.wait()
        return 7

    handle = await queue.enqueue(steps)
    seen = []
    async with working(queue, steps):
        async for info in handle.events():
            seen.append((info.state, info.progress))
            if info.progress == 50:
                go_on.set()
    assert seen[-1] == ("done", 50)
    assert ("running", 50) in seen


async def test_map_gives_the_results_in_order(queue: Queue) -> None:
    async with working(queue, double):
        assert await queue.map(double, range(40), wait_seconds=10) == [2 * number for number in range(40)]


async def test_a_receipt_says_what_became_of_the_call(queue: Queue) -> None:
    first = await queue.enqueue(double, 1, id="a")
    assert (first.status, first.state, first.position) == ("new", "queued", 0)
    again = await queue.enqueue(double, 1, id="a")
    assert (again.status, again.state, again.position) == ("known", "queued", None)
    assert await again.abort()
    known = await queue.enqueue(double, 1, id="a")
    assert (known.status, known.state) == ("known", "aborted")
    restarted = await queue.enqueue(double, 5, id="a", restart=True)
    assert (restarted.status, restarted.state, restarted.position) == ("restarted", "queued", 0)
    [held] = await claim(stepper(queue))
    assert (held.id, held.payload, held.attempt) == ("a", b"5", 1)
    running = await queue.enqueue(double, 1, id="a", restart=True)
    assert (running.status, running.state) == ("known", "running")


@pytest.mark.parametrize("kind", ["done", "dead", "abort"])
async def test_every_end_can_be_started_again_where_asked_for(queue: Queue, kind: ReportKind) -> None:
    worker = stepper(queue)
    await queue.enqueue(double, 1, id="a", unique="key")
    [held] = await claim(worker)
    await worker.step([report(held, kind)], limit=0)
    assert (await queue.enqueue(double, 2, id="a", unique="key", restart=True)).status == "restarted"
    assert await queue.dead() == []
    [again] = await claim(worker)
    assert (again.payload, again.attempt) == (b"2", 1)


async def test_what_one_tick_enqueues_shares_a_script_and_each_gets_its_own_handle(queue: Queue) -> None:
    handles = await asyncio.gather(*(queue.enqueue(double, number, id=f"t{number}") for number in range(100)))
    assert [handle.id for handle in handles] == [f"t{number}" for number in range(100)]
    assert [handle.position for handle in handles] == list(range(100))


async def test_a_cancelled_caller_takes_nothing_from_the_others(queue: Queue) -> None:
    first = asyncio.create_task(queue.enqueue(double, 1))
    second = asyncio.create_task(queue.enqueue(double, 2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).status == "new"


async def test_a_chain_runs_in_order_and_hands_results_on(queue: Queue) -> None:
    async with working(queue, double, add_one):
        calls = [double.call(5), *(add_one.call(None) for _ in range(3)), double.call(1)]  # type: ignore[arg-type]
        handles = await queue.chain(calls)
        assert [handle.state for handle in handles] == ["queued", *["held"] * 4]
        assert await handles[-1].wait(10) == 2
    assert [(await info_of(queue, handle)).result for handle in handles] == [10, 11, 12, 13, 2]


async def test_what_follows_a_failure_waits_for_its_requeue(queue: Queue) -> None:
    worker = stepper(queue)
    first, second = await queue.chain([double.call(5, id="first"), add_one.call(1, id="second")])
    [held] = await claim(worker, 5)
    await worker.step([report(held, "dead", text="why")], limit=5)
    assert (await info_of(queue, second)).state == "held"
    assert (await info_of(queue, first)).children == ("second",)
    assert await queue.requeue("first") == 1
    [held] = await claim(worker, 5)
    answer = await worker.step([report(held, "done", text="10")], limit=5)
    assert [one.id for one in answer.claims] == ["second"]


@pytest.mark.parametrize("how", ["abort", "purge", "abort running"])
async def test_what_follows_a_task_that_will_not_be_done_is_aborted(queue: Queue, how: str) -> None:
    worker = stepper(queue)
    await queue.chain([double.call(5, id=name) for name in ("a", "b", "c")])
    if how != "abort":
        [held] = await claim(worker, 5)
        await worker.step([report(held, "dead" if how == "purge" else "abort")], limit=0)
    assert await (queue.purge("a") if how == "purge" else queue.abort("a"))
    reasons = {"b": "its parent was purged" if how == "purge" else "its parent was aborted"}
    for name in ("b", "c"):
        info = await info_of(queue, name)
        assert info.state == "aborted"
        assert info.error == reasons.get(name, info.error)


async def test_a_repeated_chain_changes_nothing(queue: Queue) -> None:
    calls = [double.call(5), add_one.call(1)]
    await queue.chain(calls)
    assert [handle.status for handle in await queue.chain(calls)] == ["known", "known"]
    worker = stepper(queue)
    [held] = await claim(worker, 5)
    await worker.step([report(held, "done")], limit=0)
    assert [handle.state for handle in await queue.chain(calls)] == ["done", "queued"]


async def test_moments_and_durations_are_datetimes_or_seconds(queue: Queue) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    at = await info_of(queue, await queue.enqueue(double, 1, at=tomorrow, expires=tomorrow))
    assert at.due_at == pytest.approx(tomorrow.timestamp(), abs=0.01)
    assert at.expires_at == pytest.approx(tomorrow.timestamp(), abs=0.01)
    later = await info_of(queue, await queue.enqueue(double, 1, delay=timedelta(hours=1), timeout=timedelta(minutes=2)))
    assert later.due_at - later.created_at == pytest.approx(3600)
    assert later.timeout_seconds == 120
    with pytest.raises(ValueError, match="time zone"):
        await queue.enqueue(double, 1, at=datetime(2030, 1, 1))
    assert (await queue.depth())["scheduled"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"delay": -1},
        {"at": float("nan")},
        {"at": 1e300},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"expires": -1},
        {"max_attempts": 0},
        {"priority": "urgent"},
        {"metadata": {"a": "x" * 5000}},
        {"metadata": {"a": "\udce9"}},
        {"correlation_id": "\udce9"},
        {"unique": "\udce9"},
    ],
)
async def test_an_option_that_is_none_is_refused_and_its_neighbour_accepted(
    queue: Queue, options: dict[str, object]
) -> None:
    good, bad = await asyncio.gather(
        queue.enqueue(double, 1),
        queue.enqueue(double, 2, **options),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    assert isinstance(bad, ValueError)
    assert not isinstance(good, BaseException)
    assert (await queue.depth())["normal"] == 1


async def test_payloads_and_results_are_bounded(queue: Queue) -> None:
    @task()
    async def large(context: TaskContext) -> str:
        return "x" * 2_000_000

    @task()
    async def taking(context: TaskContext, text: str) -> None: ...

    with pytest.raises(ValueError, match="payload of"):
        await queue.enqueue(taking, "x" * 2_000_000)
    async with working(queue, large):
        info = await ended(queue, await queue.enqueue(large))
    assert (info.state, info.attempts) == ("failed", 1)
    assert "result: 2000002 bytes" in str(info.error)


async def test_tasks_are_listed_by_place(queue: Queue) -> None:
    await queue.submit([double.call(number, id=f"n{number}") for number in range(4)])
    await queue.enqueue(double, 9, id="h", priority="high")
    await queue.enqueue(double, 9, id="later", delay=60)
    assert [info.id for info in await queue.tasks("waiting")] == ["h", "n0", "n1", "n2", "n3"]
    assert [info.id for info in await queue.tasks("waiting", offset=1, limit=2)] == ["n0", "n1"]
    assert [info.id for info in await queue.tasks("waiting", offset=4)] == ["n3"]
    [info] = await queue.tasks("scheduled")
    assert (info.id, info.payload, info.priority) == ("later", 9, "normal")
    await claim(stepper(queue, "me"), 2)
    assert {(info.id, info.worker) for info in await queue.tasks("running")} == {("h", "me"), ("n0", "me")}


async def test_workers_tell_their_health_and_when_they_go(queue: Queue) -> None:
    async with working(queue, forever, concurrency=3):
        [worker] = await eventually(queue.workers)
        assert (worker.health.concurrency, worker.health.running, worker.health.stopping) == (3, 0, False)
        assert worker.health.pid > 0
        handle = await queue.enqueue(forever)
        assert (await in_state(queue, handle, "running")).worker == worker.id
    assert await queue.workers() == []


async def test_an_eager_queue_has_run_what_it_accepts(redis: Redis, keys: Keys) -> None:
    attempts: list[int] = []

    @task(retry_delay=3600)
    async def third_time(context: TaskContext) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise RuntimeError("not yet")
        await context.resources.enqueue(double, 4, id="inner")
        return "at last"

    @task()
    async def fails(context: TaskContext) -> None:
        raise Fail("for good")

    inner = Queue(redis, keys)
    queue = EagerQueue(redis, keys, [third_time, double, fails], resources=inner)
    info = await (await queue.enqueue(third_time)).info()
    assert info is not None
    assert (info.state, info.result, attempts) == ("done", "at last", [1, 2, 3])
    assert (await info_of(queue, "inner")).result == 8
    assert (await info_of(queue, await queue.enqueue(fails))).error == "Fail: for good"
    later = await queue.enqueue(double, 1, delay=60)
    assert (await info_of(queue, later)).state == "scheduled"
