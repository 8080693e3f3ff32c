"""docs/tasks.md: its examples do what it says."""

from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.outcome import TaskFailed
from app.kit.tasks.queue import Queue
from tests.guides import names_of_examples, tasks_of
from tests.kit.tasks.task_worker import working


@pytest.fixture
def guide() -> dict[str, Any]:
    return names_of_examples("tasks.md")


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


async def test_enqueue(guide: dict[str, Any], queue: Queue) -> None:
    async with working(queue, *tasks_of(guide)):
        assert await guide["welcome"](queue) == "Welcome"
        assert len(await guide["tell_all"](queue, ["a@example.com", "b@example.com"])) == 2
        assert await guide["remind"](queue, 7)
        assert not await guide["remind"](queue, 7)
    assert (await queue.depth())["scheduled"] == 1


async def test_a_part_in_a_child_process_and_progress(guide: dict[str, Any], queue: Queue) -> None:
    async with working(queue, *tasks_of(guide)):
        handle = await queue.enqueue(guide["count_hands"], 2)
        assert await handle.wait(30) == 2 * 2_598_960
    info = await handle.info()
    assert info is not None
    assert info.progress == 50


async def test_schedules(guide: dict[str, Any], queue: Queue) -> None:
    assert await guide["add_digest"](queue) == ["digest"]
    assert [entry.next_after(0) for entry in guide["SCHEDULE"]] == [3600.0, 12_600.0]


async def test_retry(guide: dict[str, Any], queue: Queue) -> None:
    async with working(queue, *tasks_of(guide)):
        handle = await queue.enqueue(guide["charge"], 5)
        assert await handle.wait(30) == "charged"
    info = await handle.info()
    assert info is not None
    assert info.attempts == 2


async def test_fail(guide: dict[str, Any], queue: Queue) -> None:
    async with working(queue, *tasks_of(guide)):
        handle = await queue.enqueue(guide["charge"], 0)
        with pytest.raises(TaskFailed, match="nothing to charge"):
            await handle.wait(30)
    [dead] = await queue.dead()
    assert (dead.id, dead.attempts) == (handle.id, 1)


async def test_a_chain(guide: dict[str, Any], queue: Queue) -> None:
    async with working(queue, *tasks_of(guide)):
        assert await guide["fetch_and_double"](queue) == 2 * len("https://example.com")


async def test_an_eager_queue(guide: dict[str, Any], redis: Redis, keys: Keys) -> None:
    assert await guide["send_at_once"](redis, keys) == "Welcome"
