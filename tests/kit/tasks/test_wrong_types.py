"""Whatever another program writes under the queue's prefix, the queue goes on: at most one task fails by it."""

from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys, digest
from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Report
from app.kit.tasks.queue import Queue
from app.kit.tasks.schedule import Every
from app.kit.tasks.scheduler import Schedules
from app.kit.tasks.task import task
from tests.kit.tasks.task_worker import claim, double, ended, forever, in_state, info_of, report, stepper, working

PLACES = ["ready:high", "ready:normal", "ready:low", "sched", "lease", "dead", "wake", "aborts", "stat", "workers"]
OTHERS = ["limited", "schedules", "parked:once", "run:once", "rate:once"]
NUMBERS = ["created", "due", "attempts", "deaths", "expires", "progress", "started", "finished", "delay", "at", "token"]


@task(max_running=1, rate="1000/second")
async def once(context: TaskContext, number: int) -> int:
    return number


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


async def write_wrongly(redis: Redis, key: str, kind: str) -> None:
    """Replace the key by one of a type that it never has."""
    await redis.delete(key)
    if kind == "string":
        await redis.set(key, "junk")
    elif kind == "stream":
        await redis.xadd(key, {"a": "b"})
    else:
        await redis.hset(key, "a", "b")


async def read_everything(queue: Queue) -> None:
    await queue.depth()
    await queue.totals()
    await queue.workers()
    await Schedules(queue).entries()
    for place in ("waiting", "scheduled", "running", "dead"):
        await queue.tasks(place)


@pytest.mark.parametrize("kind", ["string", "stream"])
@pytest.mark.parametrize("place", [*PLACES, *OTHERS])
async def test_a_place_of_a_wrong_type_is_moved_aside(
    redis: Redis, keys: Keys, queue: Queue, place: str, kind: str
) -> None:
    key = keys.task_prefix(queue.name) + place
    # Reading comes first: it finds nothing there, and is no error.
    await write_wrongly(redis, key, kind)
    await read_everything(queue)
    async with working(queue, double, once, forever, idle_seconds=0.1, lease_seconds=0.3):
        await in_state(queue, await queue.enqueue(forever), "running")
        await write_wrongly(redis, key, kind)
        for number in range(2):
            assert (await ended(queue, await queue.enqueue(once, number))).result == number
            assert (await ended(queue, await queue.enqueue(double, 1, delay=0.01))).result == 2
        await Schedules(queue).add(Every(double, seconds=3600, payload=1))
        await queue.abort((await queue.enqueue(double, 1, delay=60)).id)
    assert await redis.type(keys.task_prefix(queue.name) + f"wrong:{place}") == kind.encode()


@pytest.mark.parametrize("place", ["ready:normal", "sched", "dead", "lease", "stat"])
async def test_each_script_goes_on_where_a_place_is_of_a_wrong_type(
    redis: Redis, keys: Keys, queue: Queue, place: str
) -> None:
    key = keys.task_prefix(queue.name) + place
    await queue.enqueue(double, 1, id="a")
    [held] = await claim(stepper(queue))
    scripts: dict[str, tuple[Any, ...]] = {
        "tasks/abort": ("a", 1000),
        "tasks/depth": (),
        "tasks/purge": (1000, "a"),
        "tasks/renew": (1000, "a", held.token),
        "tasks/requeue": ("a",),
        "tasks/schedule": ("name", ""),
    }
    for script, arguments in scripts.items():
        await write_wrongly(redis, key, "string")
        await queue.run(script, *arguments)
    await write_wrongly(redis, key, "string")
    assert (await queue.enqueue(double, 1, id="b")).status == "new"
    await write_wrongly(redis, key, "string")
    await stepper(queue).step([report(held, "done")], limit=5)


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "failed", "held", "parked", "ended", "new"])
async def test_a_record_of_a_wrong_type_is_that_tasks_failure(
    redis: Redis, keys: Keys, queue: Queue, state: str
) -> None:
    await put(queue, state)
    await write_wrongly(redis, keys.task_record(queue.name, "a"), "string")
    assert await queue.get("a") is None
    async with working(queue, double, once, idle_seconds=0.1, lease_seconds=0.3):
        assert (await ended(queue, await queue.enqueue(double, 21))).result == 42
        assert (await ended(queue, await queue.enqueue(once, 3))).result == 3
        if state not in {"failed", "ended", "new"}:
            info = await ended(queue, "a")
            assert (info.state, info.error) == (
                "failed",
                "its record was of a wrong type, and is now in wrong:t:a",
            )
            assert [dead.id for dead in await queue.dead()] == ["a"]
            assert await queue.requeue("a") == 1
            assert (await ended(queue, "a")).error == "unknown task: unknown"
    assert await queue.purge() <= 1
    await read_everything(queue)


async def put(queue: Queue, state: str) -> None:
    """Task `a` in that state."""
    worker = stepper(queue, lease_seconds=0 if state == "running" else 60)
    if state == "held":
        await queue.chain([double.call(1, id="parent"), double.call(id="a")])
    elif state == "parked":
        limited = stepper(queue, "limiting")
        limited.limits = ("once", 1, 0, 0)
        limited.lease_seconds = 0
        await queue.submit([once.call(1, id="first"), once.call(2, id="a")])
        assert [held.id for held in (await limited.step([], limit=2)).claims] == ["first"]
    elif state != "new":
        await queue.enqueue(double, 1, id="a", delay=0.2 if state == "scheduled" else 0)
    if state in {"running", "failed", "ended"}:
        [held] = await claim(worker)
        if state != "running":
            await worker.step([report(held, "dead" if state == "failed" else "done")], limit=0)


async def test_an_id_whose_record_is_of_a_wrong_type_is_accepted_anew(redis: Redis, keys: Keys, queue: Queue) -> None:
    await queue.enqueue(double, 1, id="a")
    record = keys.task_record(queue.name, "a")
    await write_wrongly(redis, record, "string")
    assert (await queue.enqueue(double, 2, id="a")).status == "new"
    async with working(queue, double):
        # The id stands in the list twice, and runs once.
        assert (await ended(queue, "a")).result == 4
        assert (await ended(queue, await queue.enqueue(double, 3))).result == 6
    assert (await queue.totals())["done"] == 2


async def test_a_unique_key_of_a_wrong_type_holds_nothing(redis: Redis, keys: Keys, queue: Queue) -> None:
    await write_wrongly(redis, f"{keys.task_prefix(queue.name)}u:{digest('double:once')}", "hash")
    assert [(await queue.enqueue(double, 2, unique="once")).status for _ in range(2)] == ["new", "known"]


@pytest.mark.parametrize("junk", ["x", "", "nan", "inf", "-1", "1" * 400, b"\xff"])
async def test_fields_that_are_no_numbers_stop_nothing(redis: Any, keys: Keys, queue: Queue, junk: str | bytes) -> None:
    prefix = keys.task_prefix(queue.name)
    await queue.submit(
        [double.call(1, id="a"), double.call(1, id="b", delay=60), *(once.call(1, id=f"c{n}") for n in range(2))]
    )
    await queue.chain([double.call(1, id="d"), double.call(id="e")])
    worker = stepper(queue, "dying", lease_seconds=0)
    await worker.step([Report("a", 1, "progress", 0, 5)], limit=2)
    for task_id in "abde":
        await redis.hset(prefix + f"t:{task_id}", mapping=dict.fromkeys(NUMBERS, junk))
        await redis.hset(prefix + f"t:{task_id}", "priority", junk)
    for name in ("token", "schedules", "done", "aborted", "moved"):
        await redis.hset(prefix + "stat", name, junk)
    await redis.hset(prefix + "workers", junk, junk)
    await redis.hset(prefix + "schedules", junk, junk)
    await redis.lpush(prefix + "rate:once", junk)
    await redis.sadd(prefix + "limited", junk)
    for place in ("ready:normal", "parked:once"):
        await redis.lpush(prefix + place, junk)
    for place in ("sched", "lease", "dead"):
        await redis.zadd(prefix + place, {junk: 1})
    await read_everything(queue)
    async with working(queue, double, once, idle_seconds=0.1, lease_seconds=0.3):
        assert (await ended(queue, await queue.enqueue(double, 21))).result == 42
        assert (await ended(queue, await queue.enqueue(double, 21, delay=0.01, priority="low"))).result == 42
        await read_everything(queue)
    for task_id in "abde":
        await info_of(queue, task_id)
        await queue.abort(task_id)
    assert await queue.requeue() >= 0
    await queue.purge()
