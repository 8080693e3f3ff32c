"""What one operation of each block costs Redis: its CPU time, on which of three shards, and the memory that stays."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.client.connect import connect
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.limits.limit import Limit
from app.kit.limits.limiter import RateLimiter
from app.kit.sessions.store import SessionStore
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker
from bench.rounds import Figures, report
from tests.deployments import RedisCluster
from tests.services import RedisServer

OPERATIONS = 20_000
CALLERS = 64
SHARDS = 3
Operation = Callable[[int], Awaitable[Any]]


@task()
async def nothing(context: TaskContext) -> None:
    return None


def main(rounds: int) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cluster = RedisCluster(Path(folder)).start()
            try:
                measured = asyncio.run(_measure(cluster))
            finally:
                cluster.stop()
        for block, figures in measured.items():
            for figure, value in figures.items():
                found.setdefault(block, {}).setdefault(figure, []).append(value)
    report("capacity", found)


async def _measure(cluster: RedisCluster) -> dict[str, Figures]:
    redis, keys = connect(cluster.url, name="bench", timeout_seconds=30), Keys("bench")
    operations = await _operations(redis, keys)
    found = {}
    for block, operation in operations.items():
        # What loads its script, and connects.
        await operation(-1)
        found[block] = await _cost(cluster.nodes, operation)
    queue = Queue(redis, keys)
    found["task, enqueued and run"] = await _cost(cluster.nodes, lambda number: queue.enqueue(nothing), runs=queue)
    await redis.aclose()
    return found


async def _operations(redis: Redis, keys: Keys) -> dict[str, Operation]:
    sessions = SessionStore(redis, keys, idle_seconds=86_400, absolute_seconds=86_400, max_per_user=20)
    ids = [(await sessions.create({"cart": {}}, channel="cookie", user_id=number)).id for number in range(1000)]
    limiter, publisher, cache = RateLimiter(redis, keys), Publisher(redis, keys), Cache(redis, keys)
    limit = Limit.parse("1200/minute", name="default", algorithm="counter")

    async def read_cached(number: int) -> Any:
        async def compute() -> dict[str, str]:
            return {"text": "x" * 1000}

        return await cache.get_or_compute(f"entry{number % 1000}", compute, ttl_seconds=3600)

    return {
        "limit check": lambda number: limiter.check([(limit, f"subject{number % 5000}")]),
        "session read": lambda number: sessions.get(ids[number % len(ids)], channel="cookie"),
        "session made": lambda number: sessions.create({"cart": {}}, channel="cookie", user_id=10_000 + number),
        "cache hit, 1 KB": read_cached,
        "event published": lambda number: publisher.publish(f"user:{number % 1000}", "told", {"text": "x" * 100}),
    }


async def _cost(nodes: list[RedisServer], operation: Operation, *, runs: Queue | None = None) -> Figures:
    """CPU µs an operation of all shards, the part of the busiest one, and bytes that stay of each operation."""
    clients = [Redis.from_url(node.url) for node in nodes]
    before = [await _used(client) for client in clients]
    numbers = iter(range(OPERATIONS))

    async def call() -> None:
        for number in numbers:
            await operation(number)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    if runs is not None:
        await Worker(runs, [nothing], burst=True, concurrency=100).run()
    after = [await _used(client) for client in clients]
    for client in clients:
        await client.aclose()
    spent = [end[0] - begin[0] for begin, end in zip(before, after, strict=True)]
    kept = sum(end[1] - begin[1] for begin, end in zip(before, after, strict=True))
    return {
        "Redis CPU, µs an operation": sum(spent) / OPERATIONS * 1e6,
        "part of the busiest of 3 shards, %": max(spent) / sum(spent) * 100,
        "bytes that stay of each": max(0.0, kept / OPERATIONS),
    }


async def _used(client: Redis) -> tuple[float, int]:
    """CPU seconds and bytes since the start."""
    found: Any = await client.info("everything")
    return found["used_cpu_user"] + found["used_cpu_sys"], found["used_memory"]
