"""Who holds a task: leases, fencing, lost replies, deaths of workers."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.keys import Keys
from app.kit.tasks.model import ReportKind
from app.kit.tasks.queue import Queue
from tests.kit.tasks.task_worker import UnreliableQueue, claim, double, info_of, report, stepper


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_what_was_asked_to_end_does_not_run_again(queue: Queue, kind: ReportKind) -> None:
    await queue.enqueue(double, 1, id="a")
    worker = stepper(queue)
    [held] = await claim(worker)
    assert await queue.abort("a")
    answer = await worker.step([], limit=0)
    assert answer.aborts == ["a"]
    answer = await worker.step([report(held, kind, ms=0)], limit=1)
    assert answer.claims == []
    assert (await info_of(queue, "a")).state == "aborted"
    assert (await worker.step([], limit=0)).aborts == []


async def test_an_aborted_task_whose_worker_died_does_not_run_again(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    await claim(stepper(queue, "dying", lease_seconds=0))
    assert await queue.abort("a")
    assert await claim(stepper(queue)) == []
    assert (await info_of(queue, "a")).state == "aborted"


@pytest.mark.parametrize("kind", ["done", "retry", "dead", "abort", "release", "progress"])
async def test_a_stale_report_is_refused(queue: Queue, kind: ReportKind) -> None:
    await queue.enqueue(double, 1, id="a")
    stale = stepper(queue, "stale", lease_seconds=0)
    [old] = await claim(stale)
    [new] = await claim(stepper(queue, "other"))
    assert new.token > old.token
    answer = await stale.step([report(old, kind, text="7")], limit=0)
    assert answer.refused == ["a"]
    info = await info_of(queue, "a")
    assert (info.state, info.progress, info.deaths) == ("running", 0, 1)


async def test_a_late_report_counts_while_nobody_took_the_lease(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    slow = stepper(queue, lease_seconds=0)
    [held] = await claim(slow)
    answer = await slow.step([report(held, "done", text="2")], limit=0)
    assert answer.refused == []
    assert (await info_of(queue, "a")).state == "done"


async def test_a_report_that_is_sent_twice_is_applied_once(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    worker = stepper(queue)
    [held] = await claim(worker)
    for _ in range(2):
        answer = await worker.step([report(held, "retry", ms=60_000, text="why")], limit=1)
        assert answer.claims == []
    assert (await queue.totals())["retried"] == 1
    assert (await queue.depth())["scheduled"] == 1


async def test_claims_in_a_lost_reply_are_given_back(redis: Redis, keys: Keys) -> None:
    queue = UnreliableQueue(redis, keys)
    await queue.submit([double.call(1, id=name) for name in ("a", "b", "c")])
    worker = stepper(queue)
    [known] = await claim(worker)
    queue.loses_replies = True
    with pytest.raises(RedisConnectionError):
        await claim(worker)
    queue.loses_replies = False
    assert (await info_of(queue, "b")).state == "running"
    assert [held.id for held in await claim(worker, 5)] == ["b", "c"]
    info = await info_of(queue, "b")
    assert (info.attempts, info.deaths) == (1, 0)
    assert (await worker.step([report(known, "done")], limit=0)).refused == []


async def test_a_task_whose_worker_dies_three_times_is_dead(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="poison")
    for death in (1, 2, 3):
        [held] = await claim(stepper(queue, f"dying{death}", lease_seconds=0))
        assert held.attempt == 1
    answer = await stepper(queue).step([], limit=5)
    assert (answer.claims, answer.expired, answer.poisoned) == ([], 1, [("poison", "double")])
    info = await info_of(queue, "poison")
    assert (info.state, info.attempts, info.deaths) == ("failed", 0, 3)
    assert info.error == "the worker died while running it, 3 times"


async def test_a_lease_that_is_renewed_is_not_taken(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    [held] = await claim(stepper(queue, "slow", lease_seconds=0))
    assert await queue.run("tasks/renew", 60_000, held.id, held.token) == []
    assert await claim(stepper(queue, "other")) == []


async def test_a_lease_that_was_taken_is_not_renewed(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    [old] = await claim(stepper(queue, "slow", lease_seconds=0))
    [new] = await claim(stepper(queue, "other"))
    assert await queue.run("tasks/renew", 60_000, old.id, old.token, new.id, new.token) == [b"%d" % old.token]
