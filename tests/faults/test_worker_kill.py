"""Workers and servers are killed, stopped and cut off: every task that was accepted still ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task, task
from tests.faults.worker_process import (
    kill,
    read_arguments,
    sleep_in_child,
    sleep_in_thread,
    stay,
    swallow,
    use_streams,
    work,
)
from tests.kit.tasks.task_worker import Counted, double, ended, in_state, info_of, working
from tests.services import RedisServer, end
from tests.waiting import eventually

pytestmark = pytest.mark.server

TASKS = 200


@contextmanager
def worker_process(
    server: RedisServer, keys: Keys, *, max_deaths: int = 3, lease_seconds: float = 0.3, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [server.url, keys.namespace, str(max_deaths), str(lease_seconds)]
    process = subprocess.Popen([sys.executable, "-m", "tests.faults.worker_process", *arguments], **options)
    try:
        yield process
    finally:
        end(process, with_signal=signal.SIGKILL)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill; it writes every change to its append-only file before it answers."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
async def test_every_task_ends_although_workers_are_killed(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, kills: int
) -> None:
    queue = Queue(real_redis, keys)
    receipts = await queue.submit([work.call(number) for number in range(TASKS)])

    async def done(amount: int) -> bool:
        return (await queue.totals())["done"] >= amount

    milestones = [15 * number + 10 for number in range(kills)]
    for milestone in [*milestones, TASKS]:
        with worker_process(redis_server, keys, max_deaths=kills + 1):
            await eventually(partial(done, milestone))
    found = [await info_of(queue, receipt.id) for receipt in receipts]
    assert [(info.state, info.result) for info in found] == [("done", number) for number in range(TASKS)]
    assert (await queue.totals())["lost"] >= kills
    depth = await queue.depth()
    assert depth["running"] == depth["normal"] == depth["scheduled"] == depth["dead"] == 0


async def test_a_task_that_kills_its_worker_is_dead_after_three(
    redis_server: RedisServer, real_redis: Redis, keys: Keys
) -> None:
    queue = Queue(real_redis, keys)
    task_id = (await queue.enqueue(kill, None)).id
    for _ in range(3):
        with worker_process(redis_server, keys) as process:
            assert await asyncio.to_thread(process.wait, 10) == -signal.SIGKILL
    with worker_process(redis_server, keys):
        info = await ended(queue, task_id)
        assert (info.state, info.deaths, info.attempts) == ("failed", 3, 0)


async def test_sigterm_gives_back_what_runs(redis_server: RedisServer, real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    task_id = (await queue.enqueue(stay, None)).id
    with worker_process(redis_server, keys) as process:
        await in_state(queue, task_id, "running")
        process.terminate()
        assert await asyncio.to_thread(process.wait, 5) == 0
    info = await info_of(queue, task_id)
    assert (info.state, info.attempts, info.deaths) == ("queued", 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", [stay, sleep_in_thread, sleep_in_child], ids=["loop", "thread", "child"])
async def test_a_signal_to_the_whole_group_gives_back_what_runs(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, number: signal.Signals, mode: Task[None]
) -> None:
    """As Ctrl-C in a terminal, or a service manager, sends it."""
    queue = Queue(real_redis, keys)
    handle = await queue.enqueue(mode)
    # A long lease: what is back in the queue was given back, and not taken back.
    with worker_process(redis_server, keys, start_new_session=True, lease_seconds=60) as process:
        await in_state(queue, handle, "running")
        if mode is sleep_in_child:
            await eventually(lambda: children_of(process.pid))
        children = children_of(process.pid)
        for pid in (process.pid, *children):
            os.kill(pid, number)
        assert await asyncio.to_thread(process.wait, 10) == 0
    info = await info_of(queue, handle)
    assert (info.state, info.attempts, info.deaths) == ("queued", 0, 0)
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def children_of(pid: int) -> list[int]:
    """The child processes of a process that is alive."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_children_end_when_their_worker_is_killed(
    redis_server: RedisServer, real_redis: Redis, keys: Keys
) -> None:
    queue = Queue(real_redis, keys)
    await queue.enqueue(sleep_in_child)
    with worker_process(redis_server, keys) as process:
        [child] = await eventually(lambda: children_of(process.pid))
        process.kill()
        await asyncio.to_thread(process.wait, 10)
        await eventually(lambda: not alive(child))


async def test_an_abort_ends_the_child_process(redis_server: RedisServer, real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    handle = await queue.enqueue(sleep_in_child)
    with worker_process(redis_server, keys) as process:
        [child] = await eventually(lambda: children_of(process.pid))
        await in_state(queue, handle, "running")
        assert await handle.abort()
        assert (await ended(queue, handle)).state == "aborted"
        await eventually(lambda: not alive(child))
        assert alive(process.pid)


def alive(pid: int) -> bool:
    """False for a zombie too, which its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_worker_ends_at_the_grace_although_a_coroutine_does_not(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    queue = Queue(real_redis, keys)
    handle, good = await queue.enqueue(swallow), await queue.enqueue(stay)
    log = tmp_path / "log"
    with log.open("wb") as stream, worker_process(redis_server, keys, lease_seconds=60, stderr=stream) as process:
        await in_state(queue, handle, "running")
        await in_state(queue, good, "running")
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert "task swallow does not end when cancelled" in log.read_text()
    assert (await info_of(queue, handle)).state == "running"
    assert (await info_of(queue, good)).state == "queued"


async def test_a_child_may_use_its_standard_streams(redis_server: RedisServer, real_redis: Redis, keys: Keys) -> None:
    queue = Queue(real_redis, keys)
    handle = await queue.enqueue(use_streams)
    with worker_process(redis_server, keys, stdout=subprocess.DEVNULL):
        assert (await ended(queue, handle)).result == ""


async def test_a_child_sees_the_arguments_of_its_worker(
    redis_server: RedisServer, real_redis: Redis, keys: Keys
) -> None:
    """It loads the worker's main module, which may read them."""
    queue = Queue(real_redis, keys)
    handle = await queue.enqueue(read_arguments)
    with worker_process(redis_server, keys):
        assert (await ended(queue, handle)).result[:2] == [redis_server.url, keys.namespace]


@pytest.mark.parametrize("mode", [stay, sleep_in_child], ids=["coroutine", "child"])
async def test_an_abort_reaches_a_worker_at_once(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, mode: Task[None]
) -> None:
    """Its worker is woken: it would otherwise look after its idle wait, of a minute here."""
    queue = Queue(real_redis, keys)
    async with working(queue, mode, idle_seconds=60, concurrency=1):
        handle = await queue.enqueue(mode)
        await in_state(queue, handle, "running")
        assert await handle.abort()
        assert (await ended(queue, handle)).state == "aborted"


async def test_what_ends_while_redis_is_down_is_reported_when_it_is_back(own_server: RedisServer, keys: Keys) -> None:
    runs: list[int] = []
    go_on = asyncio.Event()

    @task()
    async def outlast(context: TaskContext, number: int) -> int:
        runs.append(number)
        await go_on.wait()
        return number

    redis = connect(own_server.url, name="worker", timeout_seconds=0.2)
    other = connect(own_server.url, name="test", timeout_seconds=10)
    queue, telemetry = Queue(other, keys), Counted()
    async with working(Queue(redis, keys), outlast, idle_seconds=0.05, telemetry=telemetry):
        receipts = await queue.submit([outlast.call(number) for number in range(5)])
        await eventually(lambda: len(runs) == 5)
        own_server.kill()
        go_on.set()
        await eventually(lambda: telemetry.counters["task_step_errors"] > 1)
        own_server.start()
        results = [(await ended(queue, receipt.id)).result for receipt in receipts]
    await redis.aclose()
    await other.aclose()
    assert results == sorted(runs) == list(range(5))


async def test_a_redis_that_hangs_loses_nothing(own_server: RedisServer, keys: Keys) -> None:
    """It executes what was sent before it hung when it goes on, also the steps whose replies nothing waits for."""
    redis = connect(own_server.url, name="test", timeout_seconds=0.1)
    other = connect(own_server.url, name="other", timeout_seconds=10)
    queue, telemetry = Queue(redis, keys), Counted()
    async with working(queue, double, idle_seconds=0.02, lease_seconds=0.5, telemetry=telemetry):
        # Its client is patient: the worker's own may give up on a loaded machine.
        await ended(Queue(other, keys), await Queue(other, keys).enqueue(double, 1))
        own_server.signal(signal.SIGSTOP)
        submitted = asyncio.create_task(Queue(other, keys).submit([double.call(number) for number in range(50)]))
        await eventually(lambda: telemetry.counters["task_step_errors"] > 1)
        own_server.signal(signal.SIGCONT)
        watched = Queue(other, keys)
        results = [(await ended(watched, receipt.id)).result for receipt in await submitted]
    await redis.aclose()
    await other.aclose()
    assert results == [2 * number for number in range(50)]
