"""What a running task says of itself: how often it may, what that costs, and what is heard of it."""

import asyncio
import threading
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.kit.tasks.task_worker import double, ended, working
from tests.waiting import eventually

CALLS = 10_000


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(redis, keys)


async def test_what_a_thread_says_in_a_tight_loop_is_one_callback_in_the_loop(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, go_on, has_spoken, may_end = (threading.Event() for _ in range(4))

    @task()
    def talk(context: TaskContext) -> None:
        has_begun.set()
        go_on.wait(60)
        for number in range(CALLS):
            context.report_progress(number * 100 // CALLS)
            context.heartbeat()
        has_spoken.set()
        may_end.wait(60)

    loop, calls = asyncio.get_running_loop(), 0
    call_soon_threadsafe = loop.call_soon_threadsafe

    def count(*args: Any, **options: Any) -> asyncio.Handle:
        nonlocal calls
        calls += threading.current_thread().name == "task"
        return call_soon_threadsafe(*args, **options)

    async with working(queue, talk):
        handle = await queue.enqueue(talk)
        # Not by its state: the server knows that before the loop has begun the thread.
        await eventually(has_begun.is_set)
        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        go_on.set()
        # The loop is blocked: nothing takes what the thread says.
        assert has_spoken.wait(60)
        assert calls == 1
        may_end.set()
        assert (await ended(queue, handle)).progress == 99


async def test_progress_is_told_ten_times_a_second_at_most_and_the_last_one_always(queue: Queue) -> None:
    """Also where a busy worker steps for other tasks much more often."""
    told: list[tuple[str, dict[str, object]]] = []

    async def publish_event(task_id: str, type: str, data: dict[str, object]) -> None:
        told.append((type, data))

    @task(events=True)
    async def talk(context: TaskContext) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(50):
            context.report_progress(number)
            await queue.enqueue(double, number)
            await asyncio.sleep(0.005)
        return loop.time() - began

    async with working(queue, talk, double, publish_event=publish_event):
        info = await ended(queue, await queue.enqueue(talk))
    assert [type for type, _ in told[:3]] == ["queued", "started", "progress"]
    assert told[-2:] == [("progress", {"progress": 49}), ("done", {})]
    assert len(told) - 3 <= 10 * info.result + 2


async def test_what_is_said_after_the_end_is_not_heard(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[TaskContext] = []

    @task()
    async def end(context: TaskContext) -> None:
        contexts.append(context)

    async with working(queue, end):
        handle = await queue.enqueue(end)
        await ended(queue, handle)

        def fail(*args: Any, **options: Any) -> asyncio.Handle:
            raise AssertionError("called")

        monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", fail)
        contexts[0].report_progress(50)
        contexts[0].heartbeat()
        monkeypatch.undo()
    assert (await ended(queue, handle)).progress != 50
