"""What the queue accepts and in which order it gives; priorities, delays, unique keys, dead letters, fencing."""

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.claims import Claim, Claimer, Kind, Report
from app.kit.tasks.context import TaskContext
from app.kit.tasks.info import Call, TaskInfo
from app.kit.tasks.queue import Queue
from app.kit.tasks.registry import task
from tests.kit.task_worker import Counted, double, ended, forever, in_state, working
from tests.waiting import eventually


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


def claimer(queue: Queue, name: str = "worker", *, lease_seconds: float = 60, fair_every: int = 0) -> Claimer:
    """A worker without a loop. With a lease of 0 its claims have expired at once."""
    return Claimer(queue, name, lease_seconds=lease_seconds, max_deaths=3, fair_every=fair_every, idle_seconds=2)


async def claim(worker: Claimer, limit: int = 1) -> list[Claim]:
    return (await worker.step([], limit=limit)).claims


def report(claim: Claim, kind: Kind, *, ms: int = 60_000, text: str = "null") -> Report:
    return Report(claim.id, claim.token, kind, ms, text)


async def info_of(queue: Queue, task_id: str) -> TaskInfo:
    info = await queue.get(task_id)
    assert info is not None
    return info


async def test_a_repeated_enqueue_with_the_same_id_changes_nothing(queue: Queue) -> None:
    for number in (1, 2):
        assert await queue.enqueue(double, number, task_id="same") == "same"
    worker = claimer(queue)
    [held] = await claim(worker, 10)
    assert held.payload == b"1"
    assert await queue.enqueue(double, 3, task_id="same") == "same"
    await worker.step([report(held, "done", text="2")], limit=0)
    assert await queue.enqueue(double, 4, task_id="same") == "same"
    assert await claim(worker, 10) == []
    assert (await info_of(queue, "same")).result == 2


@pytest.mark.parametrize("task_id", ["", "a b", "a\n", "{a}", "ü", "x" * 129, ":a"])
async def test_an_id_that_is_none_is_refused_and_never_asked_for(queue: Queue, task_id: str) -> None:
    with pytest.raises(ValueError, match="task id"):
        await queue.enqueue(double, 1, task_id=task_id)
    assert await queue.get(task_id) is None
    assert not await queue.abort(task_id)
    assert await queue.requeue(task_id) == 0


async def test_tasks_are_claimed_by_priority_and_then_in_order(queue: Queue) -> None:
    for priority in ("low", "normal", "high"):
        for number in (1, 2):
            await queue.enqueue(double, number, task_id=f"{priority}{number}", priority=priority)
    order = [held.id for held in await claim(claimer(queue), 5)]
    assert order == ["high1", "high2", "normal1", "normal2", "low1"]


async def test_a_share_for_low_priorities_keeps_them_from_starving(queue: Queue) -> None:
    await queue.submit([Call(name="double", id=f"high{number}", priority="high") for number in range(20)])
    await queue.submit([Call(name="double", id=f"low{number}", priority="low") for number in range(20)])
    order = [held.id for held in await claim(claimer(queue, fair_every=5), 20)]
    assert sum(name.startswith("low") for name in order) == 4


async def test_enqueue_tells_how_many_wait_before(queue: Queue) -> None:
    positions = {}
    for name, priority in (("a", "normal"), ("b", "low"), ("c", "normal"), ("d", "high"), ("e", "low")):
        [receipt] = await queue.submit([double.call(1, id=name, priority=priority)])
        positions[name] = receipt.position
    assert positions == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 4}
    [later] = await queue.submit([double.call(1, id="f", delay_seconds=60)])
    assert later.position is None


async def test_many_are_enqueued_at_once(queue: Queue) -> None:
    receipts = await queue.submit([double.call(number) for number in range(1200)])
    assert [receipt.position for receipt in receipts] == list(range(1200))
    assert (await queue.depth())["normal"] == 1200


async def test_depth_counts_each_place_and_the_oldest_age(queue: Queue) -> None:
    assert (await queue.depth())["oldest_seconds"] == 0
    await queue.submit([double.call(1, priority=priority) for priority in ("high", "high", "high", "normal", "low")])
    await queue.enqueue(double, 1, delay_seconds=60)
    worker = claimer(queue)
    running, dying = await claim(worker, 2)
    await worker.step([report(dying, "dead", text="why")], limit=0)
    depth = await queue.depth()
    assert 0 <= depth.pop("oldest_seconds") < 5  # type: ignore[misc]
    assert depth == {"high": 1, "normal": 1, "low": 1, "scheduled": 1, "running": 1, "dead": 1}


async def test_a_unique_key_lets_one_task_wait_or_run(queue: Queue) -> None:
    first = await queue.enqueue(double, 1, unique="user 1")
    assert await queue.enqueue(double, 2, unique="user 1") == first
    other = await queue.enqueue(double, 3, unique="user 2")
    assert other != first
    worker = claimer(queue)
    held = await claim(worker, 10)
    assert [one.id for one in held] == [first, other]
    assert await queue.enqueue(double, 4, unique="user 1") == first
    await worker.step([report(held[0], "done")], limit=0)
    assert await queue.enqueue(double, 5, unique="user 1") != first


@pytest.mark.parametrize("kind", ["dead", "abort"])
async def test_every_end_frees_the_unique_key(queue: Queue, kind: Kind) -> None:
    first = await queue.enqueue(double, 1, unique="key")
    worker = claimer(queue)
    [held] = await claim(worker)
    await worker.step([report(held, kind)], limit=0)
    second = await queue.enqueue(double, 1, unique="key")
    assert second != first
    assert await queue.abort(second)
    assert await queue.enqueue(double, 1, unique="key") != second


async def test_a_dead_letter_is_requeued_with_all_its_attempts(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    worker = claimer(queue)
    [held] = await claim(worker)
    await worker.step([report(held, "dead", text="why")], limit=0)
    assert [(letter.id, letter.error) for letter in await queue.dead()] == [("a", "why")]
    assert await queue.requeue("a") == 1
    assert await queue.requeue("a") == 0
    [again] = await claim(worker)
    assert (again.id, again.attempt, again.payload) == ("a", 1, b"1")
    assert await queue.dead() == []


async def test_dead_letters_are_listed_requeued_and_purged_together(queue: Queue) -> None:
    await queue.submit([double.call(number, id=f"t{number}") for number in range(5)])
    worker = claimer(queue)
    for held in await claim(worker, 5):
        await worker.step([report(held, "dead", text="why")], limit=0)
    assert len(await queue.dead(limit=2)) == 2
    assert len(await queue.dead(offset=3)) == 2
    assert await queue.purge("t0") == 1
    assert await queue.get("t0") is None
    assert await queue.requeue() == 4
    for held in await claim(worker, 5):
        await worker.step([report(held, "dead", text="why")], limit=0)
    assert await queue.purge() == 4
    assert await queue.purge() == 0


async def test_a_dead_letter_whose_unique_key_is_taken_stays_dead(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a", unique="key")
    worker = claimer(queue)
    [held] = await claim(worker)
    await worker.step([report(held, "dead")], limit=0)
    await queue.enqueue(double, 1, task_id="b", unique="key")
    assert await queue.requeue() == 0
    assert await queue.abort("b")
    assert await queue.requeue() == 1
    assert await queue.enqueue(double, 1, unique="key") == "a"


async def test_what_waits_is_aborted_at_once(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="now")
    await queue.enqueue(double, 1, task_id="later", delay_seconds=60)
    for task_id in ("now", "later"):
        assert await queue.abort(task_id)
        assert (await info_of(queue, task_id)).state == "aborted"
    assert await claim(claimer(queue), 5) == []
    assert not await queue.abort("unknown")


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_what_was_asked_to_end_does_not_run_again(queue: Queue, kind: Kind) -> None:
    await queue.enqueue(double, 1, task_id="a")
    worker = claimer(queue)
    [held] = await claim(worker)
    assert await queue.abort("a")
    answer = await worker.step([], limit=0)
    assert answer.aborts == ["a"]
    answer = await worker.step([report(held, kind, ms=0)], limit=1)
    assert answer.claims == []
    assert (await info_of(queue, "a")).state == "aborted"
    assert (await worker.step([], limit=0)).aborts == []


async def test_an_aborted_task_whose_worker_died_does_not_run_again(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    await claim(claimer(queue, "dying", lease_seconds=0))
    assert await queue.abort("a")
    assert await claim(claimer(queue)) == []
    assert (await info_of(queue, "a")).state == "aborted"


@pytest.mark.parametrize("kind", ["done", "retry", "dead", "abort", "release", "progress"])
async def test_a_stale_report_is_refused(queue: Queue, kind: Kind) -> None:
    await queue.enqueue(double, 1, task_id="a")
    stale = claimer(queue, "stale", lease_seconds=0)
    [old] = await claim(stale)
    [new] = await claim(claimer(queue, "other"))
    assert new.token > old.token
    answer = await stale.step([report(old, kind, text="7")], limit=0)
    assert answer.fenced == ["a"]
    info = await info_of(queue, "a")
    assert (info.state, info.progress, info.deaths) == ("running", 0, 1)


async def test_a_late_report_counts_while_nobody_took_the_lease(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    slow = claimer(queue, lease_seconds=0)
    [held] = await claim(slow)
    answer = await slow.step([report(held, "done", text="2")], limit=0)
    assert answer.fenced == []
    assert (await info_of(queue, "a")).state == "done"


async def test_a_report_that_is_sent_twice_is_applied_once(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    worker = claimer(queue)
    [held] = await claim(worker)
    for _ in range(2):
        answer = await worker.step([report(held, "retry", ms=60_000, text="why")], limit=1)
        assert answer.claims == []
    assert (await queue.totals())["retried"] == 1
    assert (await queue.depth())["scheduled"] == 1


async def test_claims_in_a_lost_reply_are_given_back(queue: Queue) -> None:
    await queue.submit([double.call(1, id=name) for name in ("a", "b", "c")])
    worker = claimer(queue)
    [known] = await claim(worker)
    token = worker.last_token
    await claim(worker)
    # As if the reply to the last step had never come.
    worker.last_token, worker.missed_reply = token, True
    assert [held.id for held in await claim(worker, 5)] == ["b", "c"]
    info = await info_of(queue, "b")
    assert (info.attempts, info.deaths) == (1, 0)
    assert (await worker.step([report(known, "done")], limit=0)).fenced == []


async def test_a_task_whose_worker_dies_three_times_is_dead(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="poison")
    for death in (1, 2, 3):
        [held] = await claim(claimer(queue, f"dying{death}", lease_seconds=0))
        assert held.attempt == 1
    answer = await claimer(queue).step([], limit=5)
    assert (answer.claims, answer.died, answer.buried) == ([], 1, 1)
    info = await info_of(queue, "poison")
    assert (info.state, info.attempts, info.deaths) == ("failed", 0, 3)
    assert info.error == "the worker died while running it, 3 times"


async def test_a_lease_that_is_renewed_is_not_taken(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    [held] = await claim(claimer(queue, "slow", lease_seconds=0))
    assert await queue.run("task_renew", 60_000, held.id, held.token) == []
    assert await claim(claimer(queue, "other")) == []


async def test_a_lease_that_was_taken_is_not_renewed(queue: Queue) -> None:
    await queue.enqueue(double, 1, task_id="a")
    [old] = await claim(claimer(queue, "slow", lease_seconds=0))
    [new] = await claim(claimer(queue, "other"))
    assert await queue.run("task_renew", 60_000, old.id, old.token, new.id, new.token) == [b"%d" % old.token]


@pytest.mark.parametrize("how", ["delay", "at"])
async def test_a_delayed_task_starts_when_it_is_due_and_not_before(queue: Queue, how: str) -> None:
    async with working(queue, double, idle_seconds=2):
        await ended(queue, await queue.enqueue(double, 1))  # the worker now waits for the next token
        if how == "delay":
            task_id = await queue.enqueue(double, 1, delay_seconds=0.15)
        else:
            task_id = await queue.enqueue(double, 1, at=time.time() + 0.15)
        info = await ended(queue, task_id)
    assert info.started_at is not None
    assert 0.14 < info.started_at - info.created_at < 0.25


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
        task_id = await queue.enqueue(double, 1)
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
        later = await queue.enqueue(forever, None, delay_seconds=0.2)
        await in_state(queue, await queue.enqueue(forever, None, priority="high"), "running")
        info = await in_state(queue, later, "running")
    assert info.started_at is not None
    assert info.started_at - info.created_at < 0.5


async def test_a_task_that_outruns_its_lease_many_times_runs_once(queue: Queue) -> None:
    runs: list[int] = []

    @task()
    async def long(context: TaskContext) -> None:
        runs.append(context.attempt)
        await asyncio.sleep(0.5)

    options: dict[str, Any] = {"lease_seconds": 0.06, "idle_seconds": 0.02}
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
        task_id = await queue.enqueue(long, None)
        await in_state(queue, task_id, "running")
        # As if this worker had been cut off, and another had taken the task over.
        await redis.hset(keys.task_record("default", task_id), "token", "999999999999999")
        await cancelled.wait()
        await eventually(lambda: telemetry.counters["task_ends:long:lost"] == 1)
