"""What the queue accepts and in which order it gives: priorities, unique keys, dead letters, aborts."""

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.model import Call, Priority, ReportKind
from app.kit.tasks.queue import Queue
from tests.kit.tasks.task_worker import claim, double, info_of, report, stepper


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


async def test_a_repeated_enqueue_with_the_same_id_changes_nothing(queue: Queue) -> None:
    for number in (1, 2):
        assert (await queue.enqueue(double, number, id="same")).id == "same"
    worker = stepper(queue)
    [held] = await claim(worker, 10)
    assert held.payload == b"1"
    assert (await queue.enqueue(double, 3, id="same")).id == "same"
    await worker.step([report(held, "done", text="2")], limit=0)
    assert (await queue.enqueue(double, 4, id="same")).id == "same"
    assert await claim(worker, 10) == []
    assert (await info_of(queue, "same")).result == 2


@pytest.mark.parametrize("task_id", ["", "a b", "a\n", "{a}", "ü", "x" * 60, ":a", "Report-1", "report.1", "a\udce9"])
async def test_an_id_that_is_none_is_refused_and_never_asked_for(queue: Queue, task_id: str) -> None:
    with pytest.raises(ValueError, match="task id"):
        await queue.enqueue(double, 1, id=task_id)
    assert await queue.get(task_id) is None
    assert not await queue.abort(task_id)
    assert await queue.requeue(task_id) == 0


async def test_tasks_are_claimed_by_priority_and_then_in_order(queue: Queue) -> None:
    for priority in ("low", "normal", "high"):
        for number in (1, 2):
            await queue.enqueue(double, number, id=f"{priority}{number}", priority=priority)
    order = [held.id for held in await claim(stepper(queue), 5)]
    assert order == ["high1", "high2", "normal1", "normal2", "low1"]


async def test_a_share_for_low_priorities_keeps_them_from_starving(queue: Queue) -> None:
    await queue.submit([Call(name="double", id=f"high{number}", priority="high") for number in range(20)])
    await queue.submit([Call(name="double", id=f"low{number}", priority="low") for number in range(20)])
    order = [held.id for held in await claim(stepper(queue, fair_every=5), 20)]
    assert sum(name.startswith("low") for name in order) == 4


async def test_enqueue_tells_how_many_wait_before(queue: Queue) -> None:
    positions = {}
    given: list[tuple[str, Priority]] = [("a", "normal"), ("b", "low"), ("c", "normal"), ("d", "high"), ("e", "low")]
    for name, priority in given:
        [receipt] = await queue.submit([double.call(1, id=name, priority=priority)])
        positions[name] = receipt.position
    assert positions == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 4}
    [later] = await queue.submit([double.call(1, id="f", delay=60)])
    assert later.position is None


async def test_many_are_enqueued_at_once(queue: Queue) -> None:
    receipts = await queue.submit([double.call(number) for number in range(1200)])
    assert [receipt.position for receipt in receipts] == list(range(1200))
    assert (await queue.depth())["normal"] == 1200


async def test_depth_counts_each_place_and_the_oldest_age(queue: Queue) -> None:
    assert (await queue.depth())["oldest_seconds"] == 0
    await queue.submit([double.call(1, priority=priority) for priority in ("high", "high", "high", "normal", "low")])
    await queue.enqueue(double, 1, delay=60)
    worker = stepper(queue)
    running, dying = await claim(worker, 2)
    await worker.step([report(dying, "dead", text="why")], limit=0)
    depth = await queue.depth()
    assert 0 <= depth.pop("oldest_seconds") < 5  # type: ignore[misc]
    assert depth == {"high": 1, "normal": 1, "low": 1, "scheduled": 1, "running": 1, "dead": 1, "limited": 0}


async def test_a_unique_key_lets_one_task_wait_or_run(queue: Queue) -> None:
    first = (await queue.enqueue(double, 1, unique="user 1")).id
    assert (await queue.enqueue(double, 2, unique="user 1")).id == first
    other = (await queue.enqueue(double, 3, unique="user 2")).id
    assert other != first
    worker = stepper(queue)
    held = await claim(worker, 10)
    assert [one.id for one in held] == [first, other]
    assert (await queue.enqueue(double, 4, unique="user 1")).id == first
    await worker.step([report(held[0], "done")], limit=0)
    assert (await queue.enqueue(double, 5, unique="user 1")).id != first


@pytest.mark.parametrize("kind", ["dead", "abort"])
async def test_every_end_frees_the_unique_key(queue: Queue, kind: ReportKind) -> None:
    first = (await queue.enqueue(double, 1, unique="key")).id
    worker = stepper(queue)
    [held] = await claim(worker)
    await worker.step([report(held, kind)], limit=0)
    second = (await queue.enqueue(double, 1, unique="key")).id
    assert second != first
    assert await queue.abort(second)
    assert (await queue.enqueue(double, 1, unique="key")).id != second


async def test_a_dead_letter_is_requeued_with_all_its_attempts(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    worker = stepper(queue)
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
    worker = stepper(queue)
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
    await queue.enqueue(double, 1, id="a", unique="key")
    worker = stepper(queue)
    [held] = await claim(worker)
    await worker.step([report(held, "dead")], limit=0)
    await queue.enqueue(double, 1, id="b", unique="key")
    assert await queue.requeue() == 0
    assert await queue.abort("b")
    assert await queue.requeue() == 1
    assert (await queue.enqueue(double, 1, unique="key")).id == "a"


async def test_what_waits_is_aborted_at_once(queue: Queue) -> None:
    await queue.enqueue(double, 1, id="now")
    await queue.enqueue(double, 1, id="later", delay=60)
    for task_id in ("now", "later"):
        assert await queue.abort(task_id)
        assert (await info_of(queue, task_id)).state == "aborted"
    assert await claim(stepper(queue), 5) == []
    assert not await queue.abort("unknown")
