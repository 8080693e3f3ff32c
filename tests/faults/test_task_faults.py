"""Many tasks while workers are killed at random and Redis is restarted; long tasks; stops of a serving process."""

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.client.errors import UNAVAILABLE
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from tests.commands import serving
from tests.faults.tasks import endless, short
from tests.faults.worker_process import LEASE_SECONDS, work
from tests.kit.tasks.task_worker import Counted, ended, in_state, info_of, working
from tests.readme import ROOT
from tests.services import RedisServer, end
from tests.waiting import eventually

pytestmark = pytest.mark.server

WORKERS = 3
# A lease that has ended is taken back within so long: a dead worker's tasks go on within lease + 2 s.
OVERDUE_SECONDS = 2.0
GRACE_SECONDS = 2
# Beyond the grace: the last reports, the outbox, and the end of the process on a loaded machine.
STOP_SECONDS = 15


class Workers:
    """Worker processes, of which a random one is killed and another takes its place."""

    def __init__(self, server: RedisServer, keys: Keys, *, max_deaths: int, seed: int) -> None:
        self._command = [sys.executable, "-m", "tests.faults.worker_process", server.url, keys.namespace]
        self._command.append(str(max_deaths))
        self._random = random.Random(seed)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._processes.append(subprocess.Popen(self._command, cwd=ROOT))

    def kill_one(self) -> None:
        victim = self._processes.pop(self._random.randrange(len(self._processes)))
        victim.kill()
        victim.wait()
        self.start()

    def end(self) -> None:
        for process in self._processes:
            end(process, with_signal=signal.SIGKILL)


@contextmanager
def at_work(server: RedisServer, keys: Keys, *, max_deaths: int, seed: int) -> Iterator[Workers]:
    workers = Workers(server, keys, max_deaths=max_deaths, seed=seed)
    try:
        for _ in range(WORKERS):
            workers.start()
        yield workers
    finally:
        workers.end()


@asynccontextmanager
async def watching_leases(redis: Redis, keys: Keys) -> AsyncIterator[list[float]]:
    """By how many seconds leases were overdue: the largest value of each look."""
    overdue: list[float] = []
    key = keys.task_places("default")[4]

    async def watch() -> None:
        while True:
            try:
                seconds, micros = await redis.time()
                found: Any = await redis.zrange(key, 0, 0, withscores=True)
                overdue.extend(seconds + micros / 1e6 - score / 1000 for _, score in found)
            except UNAVAILABLE:
                # No lease is taken back while Redis is down.
                overdue.clear()
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    try:
        yield overdue
    finally:
        watcher.cancel()


async def done_tasks(queue: Queue) -> int:
    try:
        return (await queue.totals())["done"]
    except UNAVAILABLE:
        return -1


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that writes every change to its append-only file before it answers."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


@pytest.mark.parametrize("restarts", [0, 2])
@pytest.mark.parametrize(("amount", "kills"), [(1_000, 3), pytest.param(10_000, 20, marks=pytest.mark.long)])
async def test_every_task_ends_done_once(
    durable_server: RedisServer, keys: Keys, amount: int, kills: int, restarts: int
) -> None:
    redis = connect(durable_server.url, name="test", timeout_seconds=10)
    queue = Queue(redis, keys)
    chance = random.Random(amount + restarts)
    # The last tenth is left for what the killed workers held.
    moments = chance.sample(range(amount // 20, amount * 9 // 10), kills + restarts)
    restarting = set(chance.sample(moments, restarts))
    receipts = await queue.submit([work.call(number) for number in range(amount)])
    async with watching_leases(redis, keys) as overdue:
        with at_work(durable_server, keys, max_deaths=kills + restarts + 1, seed=amount) as workers:
            for moment in sorted(moments):
                await eventually(partial(reached, queue, moment), seconds=120)
                if moment in restarting:
                    durable_server.kill()
                    durable_server.start()
                else:
                    workers.kill_one()
            await eventually(lambda: reached(queue, amount), seconds=120)
    assert max(overdue, default=0) < OVERDUE_SECONDS
    found = [await info_of(queue, receipt.id) for receipt in receipts]
    assert [(info.state, info.result) for info in found] == [("done", number) for number in range(amount)]
    totals, depth = await queue.totals(), await queue.depth()
    assert (totals["done"], totals["failed"], totals["aborted"]) == (amount, 0, 0)
    # Otherwise no killed worker held a task, and nothing was shown.
    assert totals["lost"] > 0
    assert [depth["high"], depth["normal"], depth["low"], depth["scheduled"], depth["running"], depth["dead"]] == [
        0
    ] * 6
    await redis.aclose()


async def reached(queue: Queue, amount: int) -> bool:
    return await done_tasks(queue) >= amount


async def test_a_task_of_five_leases_length_runs_once(redis_server: RedisServer, real_redis: Redis, keys: Keys) -> None:
    runs: list[str] = []

    @task(timeout_seconds=None)
    async def outlast(context: TaskContext, seconds: float) -> None:
        runs.append(context.id)
        await asyncio.sleep(seconds)

    queue, telemetry = Queue(real_redis, keys), Counted()
    options: dict[str, Any] = {
        "lease_seconds": LEASE_SECONDS,
        "idle_seconds": 0.05,
        "telemetry": telemetry,
        "connect_leases": lambda: connect(redis_server.url, name="leases", timeout_seconds=5),
    }
    async with working(queue, outlast, **options), working(queue, outlast, **options):
        [receipt] = await queue.submit([outlast.call(5 * LEASE_SECONDS)])
        info = await ended(queue, receipt.id)
    assert (info.state, info.attempts, info.deaths, runs) == ("done", 1, 0, [receipt.id])
    assert telemetry.counters["task_lease_renewals:renewed"] >= 5
    assert (await queue.totals())["lost"] == 0


HYPERCORN = ("-m", "hypercorn", "-c", str(ROOT / "hypercorn.toml"), "-b", "127.0.0.1:{port}")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("-m", "tests.faults.served_tasks"), id="serve"),
        pytest.param((*HYPERCORN, "tests.faults.served_tasks:app"), id="hypercorn"),
    ],
)
async def test_sigterm_lets_short_tasks_finish_and_gives_long_ones_back(
    redis_server: RedisServer,
    real_redis: Redis,
    keys: Keys,
    sqlite_template: Path,
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "TASK_GRACE_SECONDS": str(GRACE_SECONDS),
    }
    queue = Queue(real_redis, keys)
    with serving(environ, tmp_path, *command) as (process, _):
        [stays] = await queue.submit([endless.call(None)])
        await in_state(queue, stays.id, "running")
        [ends] = await queue.submit([short.call(None)])
        await in_state(queue, ends.id, "running")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, STOP_SECONDS) == 0
        assert time.monotonic() - began >= GRACE_SECONDS
    done, given_back = await info_of(queue, ends.id), await info_of(queue, stays.id)
    assert (done.state, done.result, done.attempts) == ("done", "finished", 1)
    assert (given_back.state, given_back.attempts, given_back.deaths) == ("queued", 0, 0)


@pytest.mark.parametrize("amount", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_finished_tasks_give_their_memory_back(own_server: RedisServer, keys: Keys, amount: int) -> None:
    @task(keep_seconds=1)
    async def noop(context: TaskContext, number: int) -> int:
        return number

    redis = connect(own_server.url, name="test", timeout_seconds=10)
    queue = Queue(redis, keys)

    async def used() -> int:
        memory: int = (await redis.info("memory"))["used_memory"]
        return memory

    async def records() -> int:
        return int(await redis.dbsize())

    # What the scripts and the connections take stays.
    async with working(queue, noop, concurrency=64):
        [first] = await queue.submit([noop.call(0)])
        await ended(queue, first.id)
        before = await used()
        for start in range(0, amount, 10_000):
            await queue.submit([noop.call(number) for number in range(start, start + 10_000)])
            await eventually(partial(reached, queue, start), seconds=120)
        await eventually(lambda: reached(queue, amount + 1), seconds=120)
        assert await used() < before + 500 * amount
        await eventually(lambda: has_few(records), seconds=120)
        assert await used() - before < 2_000_000
    await redis.aclose()


async def has_few(records: Any) -> bool:
    """The totals are left, and the wake list perhaps."""
    return bool(await records() <= 5)
