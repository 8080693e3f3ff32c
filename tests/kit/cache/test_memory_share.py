"""On a server that it shares and that must not evict, the cache leaves memory to the others, whatever is asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from app.kit.cache.cache import Cache
from app.kit.client.connect import connect
from app.kit.keys import Keys
from tests.kit.cache.cache_support import Counts
from tests.services import RedisServer

pytestmark = pytest.mark.server
MAXMEMORY = 12 << 20
PERCENT = 50
# What the server's own buffers for a batch of commands take, besides the entries.
SLACK = 1 << 20


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[RedisServer]:
    options = ("--maxmemory", str(MAXMEMORY), "--maxmemory-policy", "noeviction")
    server = RedisServer(tmp_path, *options).start()
    yield server
    server.stop()


@pytest.fixture
async def shared(small_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(small_server.url, name="test", timeout_seconds=5)
    yield client
    await client.aclose()


@pytest.fixture
def counts() -> Counts:
    return Counts()


async def used(redis: Redis) -> int:
    memory: int = (await redis.info("memory"))["used_memory"]
    return memory


async def flood(cache: Cache, *, number: int, size: int) -> None:
    """A value and a tag of their own for each of `number` keys."""

    async def compute() -> str:
        return "x" * size

    for start in range(0, number, 100):
        keys = [f"key{n}" for n in range(start, start + 100)]
        await asyncio.gather(
            *(cache.get_or_compute(key, compute, ttl_seconds=600, tags=[f"tag:{key}"], type=str) for key in keys)
        )


@pytest.mark.parametrize(("number", "size"), [(1500, 10_000), (30_000, 1)], ids=["large values", "many tags"])
async def test_the_cache_keeps_within_its_share(
    shared: Redis, keys: Keys, counts: Counts, number: int, size: int
) -> None:
    cache = Cache(shared, keys, telemetry=counts, memory_percent=PERCENT)
    await flood(cache, number=number, size=size)
    assert MAXMEMORY * PERCENT / 100 * 0.8 < await used(shared) < MAXMEMORY * PERCENT / 100 + SLACK
    # What must be kept finds room.
    for n in range(3):
        await shared.set(keys.own(f"kept{n}"), b"y" * (1 << 20))
    # While the memory is short, values are computed, and no old one is served in place of one that was set.
    assert not await cache.set("key0", "new", ttl_seconds=600)
    assert await cache.get("key0", type=str) != "x" * size
    assert await cache.get_or_compute("key0", computed, ttl_seconds=600, type=str) == "computed"


async def computed() -> str:
    return "computed"


async def test_without_the_share_the_cache_takes_everything(shared: Redis, keys: Keys, counts: Counts) -> None:
    """What the share is for: the test above would not pass by itself."""
    await flood(Cache(shared, keys, telemetry=counts), number=1500, size=10_000)
    with pytest.raises(OutOfMemoryError):
        await asyncio.gather(*(shared.set(keys.own(f"kept{n}"), b"y" * (1 << 20)) for n in range(3)))


async def test_the_cache_stores_again_when_there_is_room(shared: Redis, keys: Keys, counts: Counts) -> None:
    cache = Cache(shared, keys, telemetry=counts, memory_percent=PERCENT)
    for n in range(7):
        await shared.set(keys.own(f"kept{n}"), b"y" * (1 << 20))
    assert not await cache.set("key", 1, ttl_seconds=60, tags=["tag"])
    for n in range(7):
        await shared.delete(keys.own(f"kept{n}"))
    assert await cache.set("key", 1, ttl_seconds=60, tags=["tag"])
    assert await cache.get("key") == 1
