"""The curves of the growth's benchmark: what grows, and the operation whose cost is measured.

Every call goes the way that the application's own calls go. `prepare` of a curve gets the URL of an empty Redis.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from app.kit.aio import end_tasks
from app.kit.cache.cache import Cache
from app.kit.cache.entry import MISS
from app.kit.client.connect import connect
from app.kit.events.event import Cursor
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.limits.limit import Charge, Limit
from app.kit.limits.limiter import RateLimiter
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker

CALLERS = 32
BATCH = 1000
CHARGES_A_CHECK = 50
CHECKS, INVALIDATIONS, TASKS, EVENTS, REPLAYED = 4000, 200, 3000, 2000, 2000
TTL_SECONDS = 3600
TOPICS_A_STREAM = 32
KEYS = Keys("growth")


@dataclass(frozen=True)
class Grown:
    """`grow(before, size)` adds what is missing; `measure(size)` is the cost of one operation, in µs."""

    grow: Callable[[int, int], Awaitable[object]]
    measure: Callable[[int], Awaitable[float]]


@dataclass(frozen=True)
class Curve:
    """`most`: the largest size, of 1, 10, 100 and so on."""

    prepare: Callable[[str], AbstractAsyncContextManager[Grown]]
    most: int


async def repeat(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """The µs that one of `count` calls takes, by CALLERS at once, with the numbers from 0."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.perf_counter() - began) / count * 1e6


def spread(number: int, size: int) -> int:
    """One of `size`; successive numbers lie far apart."""
    return number * 7_919_317 % size


def batches(before: int, size: int) -> Iterable[range]:
    return (range(start, min(start + BATCH, size)) for start in range(before, size, BATCH))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    redis = connect(url, name="growth", timeout_seconds=30)
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def limiter_keys(url: str) -> AsyncIterator[Grown]:
    """A check, for one of so many addresses that have been counted."""
    limit = Limit.parse("10000/day", name="growth")
    async with connected(url) as redis:
        limiter = RateLimiter(redis, KEYS)

        async def grow(before: int, size: int) -> None:
            for batch in batches(before, size):
                charges = [Charge(limit, f"address:{number}", 1) for number in batch]
                parts = range(0, len(charges), CHARGES_A_CHECK)
                await asyncio.gather(*(limiter.check(charges[part : part + CHARGES_A_CHECK]) for part in parts))

        async def measure(size: int) -> float:
            return await repeat(lambda n: limiter.check([(limit, f"address:{spread(n, size)}")]), CHECKS)

        yield Grown(grow, measure)


@asynccontextmanager
async def tag_entries(url: str) -> AsyncIterator[Grown]:
    """The invalidation of a tag that so many entries have, all of them valid before and none after."""
    async with connected(url) as redis:
        cache = Cache(redis, KEYS)

        async def grow(before: int, size: int) -> None:
            for batch in batches(before, size):
                entries = {f"entry:{number}": number for number in batch}
                await cache.set_many(entries, ttl_seconds=TTL_SECONDS, tags="all")

        async def is_valid(size: int) -> bool:
            return await cache.get(f"entry:{size - 1}", tags="all") is not MISS

        async def measure(size: int) -> float:
            [tag] = await redis.keys(KEYS.cache_tag("*"))
            version = await redis.get(tag)
            if version is None:
                raise RuntimeError("the tag has no version")
            took = []
            for _ in range(INVALIDATIONS):
                if not await is_valid(size):
                    raise RuntimeError("an entry is missing")
                began = time.perf_counter()
                await cache.invalidate_tags("all")
                took.append(time.perf_counter() - began)
                if await is_valid(size):
                    raise RuntimeError("an entry is still valid")
                # The version of before makes them valid again.
                await redis.set(tag, version)
            return sum(took) / len(took) * 1e6

        yield Grown(grow, measure)


@task()
async def noop(context: TaskContext, number: int) -> None:
    context.resources(number)


@asynccontextmanager
async def task_backlog(url: str) -> AsyncIterator[Grown]:
    """A task enqueued and done, before so many of a lower priority."""
    async with connected(url) as redis:
        queue = Queue(redis, KEYS)

        async def grow(_before: int, size: int) -> None:
            # A worker that has done its tasks may have begun with the others.
            for batch in batches((await queue.depth())["low"], size):
                await queue.submit([noop.call(-1, priority="low") for _ in batch])

        async def measure(_size: int) -> float:
            done = 0

            def count(number: int) -> None:
                nonlocal done
                done += number >= 0
                if done == TASKS:
                    worker.stop()

            worker = Worker(queue, [noop], resources=count, concurrency=CALLERS)
            enqueue = await repeat(lambda number: queue.enqueue(noop, number), TASKS)
            began = time.perf_counter()
            await worker.run()
            return enqueue + (time.perf_counter() - began) / TASKS * 1e6

        yield Grown(grow, measure)


@asynccontextmanager
async def channels(url: str) -> AsyncIterator[Grown]:
    """An event published on one of so many channels and delivered to its stream, of one process that has them all."""
    async with connected(url) as redis:
        publisher = Publisher(redis, KEYS)
        hub = Hub(redis, KEYS, max_streams=100_000)
        # From here on a stream misses nothing, however long it takes to join.
        start = await publisher.publish("start", "tick", None)
        readers: list[asyncio.Task[None]] = []
        received = asyncio.Semaphore(0)

        async def read(stream: AsyncGenerator[bytes, None]) -> None:
            async for data in stream:
                for _ in range(data.count(b"event: tick")):
                    received.release()

        async def grow(before: int, size: int) -> None:
            for batch in batches(before, size):
                topics = [f"channel:{number}" for number in batch]
                parts = [topics[part : part + TOPICS_A_STREAM] for part in range(0, len(topics), TOPICS_A_STREAM)]
                for part in parts:
                    readers.append(asyncio.create_task(read(hub.subscribe(part, last_event_id=start))))
                # A stream has joined its channels when it gets an event of one.
                await asyncio.gather(*(deliver(part[-1]) for part in parts))

        async def deliver(topic: str) -> None:
            await publisher.publish(topic, "tick", None)
            await received.acquire()

        async def measure(size: int) -> float:
            return await repeat(lambda number: deliver(f"channel:{spread(number, size)}"), EVENTS)

        await hub.start()
        try:
            yield Grown(grow, measure)
        finally:
            await hub.close()
            await end_tasks(readers)


async def publish_some(publisher: Publisher, before: int, size: int) -> None:
    for batch in batches(before, size):
        await asyncio.gather(*(publisher.publish("history", "tick", {"number": number}) for number in batch))


@asynccontextmanager
async def replay(url: str) -> AsyncIterator[Grown]:
    """An event of a replay of so many, which is all of a channel's history."""
    async with connected(url) as redis:
        publisher = Publisher(redis, KEYS, history_length=200_000)
        hub = Hub(redis, KEYS)
        start = Cursor.parse(await publisher.publish("history", "tick", None))
        assert start is not None

        async def measure(size: int) -> float:
            times = max(1, REPLAYED // size // 10)
            began = time.perf_counter()
            for _ in range(times):
                messages, _end = await hub.replay("history", start)
                if len(messages) != size:
                    raise RuntimeError(f"{len(messages)} of {size} events")
            return (time.perf_counter() - began) / times / size * 1e6

        yield Grown(lambda before, size: publish_some(publisher, before, size), measure)


@asynccontextmanager
async def resume(url: str) -> AsyncIterator[Grown]:
    """The replay of the last event, of a channel whose history has so many."""
    async with connected(url) as redis:
        publisher = Publisher(redis, KEYS, history_length=200_000)
        hub = Hub(redis, KEYS)
        last = Cursor.parse(await publisher.publish("history", "tick", None))

        async def grow(before: int, size: int) -> None:
            nonlocal last
            await publish_some(publisher, before, size)
            last = Cursor.parse(await publisher.publish("history", "tick", None))
            await publisher.publish("history", "tick", None)

        async def measure(_size: int) -> float:
            assert last is not None
            cursor = last
            return await repeat(lambda _: hub.replay("history", cursor), REPLAYED)

        yield Grown(grow, measure)


CURVES = {
    "limiter: a check among keys": Curve(limiter_keys, 1_000_000),
    "cache: an invalidation of a tag's entries": Curve(tag_entries, 1_000_000),
    "tasks: one done before a backlog": Curve(task_backlog, 1_000_000),
    "events: one delivered among channels": Curve(channels, 100_000),
    "events: one of a replay of all": Curve(replay, 100_000),
    "events: the last one of a history": Curve(resume, 100_000),
}
