"""What was computed before a tag was invalidated is never served to who comes after."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.cache.entry import MISS
from app.kit.keys import Keys
from tests.kit.cache.cache_support import Counts, Source
from tests.waiting import eventually

# Few enough at once that what they wait for are each other's steps, not their turn.
AT_ONCE = 5
EACH = 50


async def test_an_invalidation_during_the_compute_ends_what_is_being_computed(redis: Redis, keys: Keys) -> None:
    cache, source = Cache(redis, keys), Source("old", waits=True)
    call = asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60, tags=["t"]))
    await source.started.wait()
    await cache.invalidate_tags("t")
    source.gate.set()
    assert await call == "old"
    assert await cache.get("key") is MISS
    assert await cache.get_or_compute("key", Source("new"), ttl_seconds=60, tags=["t"]) == "new"


async def test_a_tag_from_the_result_that_is_younger_than_the_compute_stores_nothing(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    cache = Cache(redis, keys, telemetry=counts)
    old = Source("author-1", waits=True)

    async def ask(source: Source) -> Any:
        return await cache.get_or_compute("key", source, ttl_seconds=60, tags=lambda author: [author])

    await cache.set("other", 1, ttl_seconds=60, tags=["author-1"])
    call = asyncio.create_task(ask(old))
    await old.started.wait()
    await cache.invalidate_tags("author-1")
    await cache.set("other", 2, ttl_seconds=60, tags=["author-1"])
    old.gate.set()
    assert await call == "author-1"
    assert await cache.get("key") is MISS
    assert counts.total["cache_unstored"] == 1

    async def is_kept() -> bool:
        """As soon as the tag is older than a compute takes."""
        await ask(Source("author-1"))
        return await cache.get("key") is not MISS

    await eventually(is_kept)
    again = Source("author-1")
    await ask(again)
    assert again.runs == 0
    await cache.invalidate_tags("author-1")
    await ask(again)
    assert again.runs == 1


@dataclass
class Record:
    """A value in a database, and the least that a reader who comes now must see."""

    value: int = 0
    visible: int = 0


async def pause(chance: random.Random) -> None:
    """Lets the others run: for some turns of the event loop, up to as many as several round trips take."""
    for _ in range(chance.choice((0, 1, 3, 10, 30, 60))):
        await asyncio.sleep(0)


async def interleave(seed: int, redis: Redis, keys: Keys) -> None:
    """Readers and writers in two processes, at random times: no reader sees less than was visible when it came."""
    chance, record = random.Random(seed), Record()
    caches = [Cache(redis, keys).in_namespace(str(seed)) for _ in range(2)]
    known = [f"t{seed}"]
    tags: Any = chance.choice((known, lambda _: known))
    ttl_seconds, grace_seconds = chance.choice(((60, 0), (60, 60), (0.001, 60)))

    async def compute() -> int:
        await pause(chance)
        value = record.value
        await pause(chance)
        return value

    async def read(cache: Cache) -> None:
        await pause(chance)
        least = record.visible
        value = await cache.get_or_compute(
            "key", compute, ttl_seconds=ttl_seconds, grace_seconds=grace_seconds, tags=tags
        )
        assert value >= least, f"seed {seed}"

    async def write(cache: Cache) -> None:
        await pause(chance)
        record.value += 1
        value = record.value
        await cache.invalidate_tags(*known)
        record.visible = max(record.visible, value)

    actors = [chance.choice((read, read, write))(chance.choice(caches)) for _ in range(5)]
    await asyncio.gather(*actors, write(caches[0]))
    await read(caches[1])


async def interleave_all(seeds: range, redis: Redis, keys: Keys) -> None:
    for first in range(seeds.start, seeds.stop, AT_ONCE):
        await asyncio.gather(*(interleave(seed, redis, keys) for seed in range(first, first + AT_ONCE)))


@pytest.mark.parametrize("first", range(0, 10 * EACH, EACH))
async def test_no_reader_gets_what_was_invalidated_before_it_came(redis: Redis, keys: Keys, first: int) -> None:
    """500 interleavings on each deployment."""
    await interleave_all(range(first, first + EACH), redis, keys)


@pytest.mark.long
async def test_no_reader_ever_gets_what_was_invalidated_before_it_came(redis: Redis, keys: Keys) -> None:
    await interleave_all(range(1000, 11_000), redis, keys)
