"""Values in the cache: types, times to live, tags, namespaces, and bytes that nobody of ours has written."""

import asyncio
import datetime
import decimal
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.cache.cache import Cache
from app.kit.cache.entry import MISS
from app.kit.client.connect import connect
from app.kit.keys import Keys
from tests.kit.cache.cache_support import Counts, Source, cache_on_nothing
from tests.services import RedisServer
from tests.waiting import eventually


class Article(msgspec.Struct):
    id: int
    tags: list[str]


@dataclass
class Point:
    x: float
    y: float


TYPED: list[tuple[Any, Any]] = [
    (Article, Article(1, ["a"])),
    (list[Article], [Article(1, []), Article(2, ["b"])]),
    (Point, Point(1.5, -2.0)),
    (datetime.datetime, datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)),
    (decimal.Decimal, decimal.Decimal("10.50")),
    (uuid.UUID, uuid.UUID(int=7)),
    (bytes, b"\x00\xff"),
    (dict[int, str], {1: "one"}),
    (Article | None, None),
]

FOREIGN = [
    b"",
    b"\n",
    b"\x00\xff\xfe",
    b"plain text",
    b"[" * 100_000,
    b'[2,"0123456789abcdef",0,4,{}]\nnull',
    b'[1,"0123456789abcdef",0,4,{},"more"]\nnull',
    b'[1,"0123456789abcdef",0,5,{}]\nnull',
    b'[1,"0123456789abcdef",0,-1,{}]\nnull',
    b'[1,"0123456789abcdef",0,4,{}]\nnul!',
    b'[1,"0123456789abcdef",0,100000,{}]\n' + b"[" * 100_000,
    b'{"format":1}\nnull',
    b'[1,"0123456789abcdef",0,200,{}]\n' + b'"' + b"x" * 198 + b'"',
    b"\x80\x04\x95pickled",
]


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def cache(redis: Redis, keys: Keys, counts: Counts) -> Cache:
    return Cache(redis, keys, telemetry=counts)


async def every_key(redis: Redis, keys: Keys) -> AsyncIterator[bytes]:
    async for key in redis.scan_iter(match=f"*{keys.namespace}:*"):
        yield key


async def test_none_is_a_value(cache: Cache) -> None:
    assert await cache.get("key") is MISS
    assert await cache.set("key", None, ttl_seconds=60)
    assert await cache.get("key") is None

    source = Source(None)
    assert await cache.get_or_compute("other", source, ttl_seconds=60) is None
    assert await cache.get_or_compute("other", source, ttl_seconds=60) is None
    assert source.runs == 1


async def test_many_at_once(cache: Cache) -> None:
    assert await cache.set_many({"a": 1, "b": [2]}, ttl_seconds=60, tags=["t"])
    assert await cache.get_many(["a", "b", "c", "a"]) == {"a": 1, "b": [2]}
    assert await cache.get_many(["a", "b"], tags=["t"]) == {"a": 1, "b": [2]}
    assert await cache.get_many([]) == {}
    await cache.delete("a")
    assert await cache.get_many(["a", "b"]) == {"b": [2]}


@pytest.mark.parametrize(("type", "value"), TYPED, ids=lambda part: str(part)[:30])
async def test_values_come_back_as_their_type_from_the_first_call_on(cache: Cache, type: Any, value: Any) -> None:
    source = Source(value)
    computed = await cache.get_or_compute("key", source, ttl_seconds=60, type=type)
    stored = await cache.get_or_compute("key", source, ttl_seconds=60, type=type)
    assert computed == stored == await cache.get("key", type=type) == value
    assert isinstance(stored, value.__class__)
    assert source.runs == 1


async def test_each_caller_gets_a_value_of_its_own(cache: Cache) -> None:
    source = Source([1], waits=True)
    calls = [asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60)) for _ in range(2)]
    await source.started.wait()
    source.gate.set()
    first, second = await asyncio.gather(*calls)
    first.append(2)
    assert second == source.value == [1]


async def test_a_value_of_another_type_is_a_miss_and_counted(cache: Cache, counts: Counts) -> None:
    await cache.set("key", "text", ttl_seconds=60)
    assert await cache.get_or_compute("key", Source(5), ttl_seconds=60, type=int) == 5
    assert counts.total["cache_corrupt"] == counts.total["cache_misses"] == 1


async def test_what_json_cannot_express_is_an_error_of_the_program(cache: Cache) -> None:
    with pytest.raises(TypeError):
        await cache.get_or_compute("key", Source(object()), ttl_seconds=60)
    assert await cache.get_or_compute("key", Source(1), ttl_seconds=60) == 1


async def test_values_live_as_long_as_they_are_given(cache: Cache) -> None:
    await cache.set("key", 1, ttl_seconds=0.05)
    assert await cache.get("key") == 1

    async def is_gone() -> bool:
        return await cache.get("key") is MISS

    await eventually(is_gone)
    for ttl_seconds in (0, -1):
        with pytest.raises(ValueError, match=r"0\.001 to"):
            await cache.set("key", 1, ttl_seconds=ttl_seconds)


async def test_a_tag_ends_all_its_entries_and_no_others(cache: Cache) -> None:
    await cache.set("a", 1, ttl_seconds=60, tags=["x", "y"])
    await cache.set("b", 2, ttl_seconds=60, tags="y")
    await cache.set("c", 3, ttl_seconds=60)
    await cache.invalidate_tags("x")
    assert await cache.get_many(["a", "b", "c"]) == {"b": 2, "c": 3}
    await cache.set("a", 1, ttl_seconds=60, tags=["x", "y"])
    await cache.invalidate_tags("x", "y")
    assert await cache.get_many(["a", "b", "c"]) == {"c": 3}


async def test_a_value_without_a_wanted_tag_is_not_there(cache: Cache) -> None:
    await cache.set("key", "old", ttl_seconds=60, tags=["a"])
    assert await cache.get("key", tags=["a", "b"]) is MISS
    assert await cache.get_or_compute("key", Source("new"), ttl_seconds=60, tags=["a", "b"]) == "new"
    assert await cache.get("key") == "new"


async def test_a_lost_tag_revives_nothing(cache: Cache, redis: Redis, keys: Keys) -> None:
    """As eviction may lose it."""
    await cache.set("key", "old", ttl_seconds=60, tags=["t"])
    await redis.delete(*[key async for key in redis.scan_iter(match=f"{keys.namespace}:tag:*")])
    assert await cache.get("key") is MISS
    await cache.set("other", "new", ttl_seconds=60, tags=["t"])
    assert await cache.get("key") is MISS


async def test_namespaces_are_apart(cache: Cache) -> None:
    spaces = [cache, cache.in_namespace("a"), cache.in_namespace("a", "b"), cache.in_namespace("ab")]
    for number, space in enumerate(spaces):
        await space.set("key", number, ttl_seconds=60, tags=["t"])
    await spaces[1].invalidate_tags("t")
    await spaces[2].delete("key")
    assert [await space.get("key") for space in spaces] == [0, MISS, MISS, 3]


@pytest.mark.parametrize("key", ["", "\ud800", "with spaces\r\nand \x00", "k" * 10_000])
async def test_any_string_is_a_key_and_none_is_seen_in_redis(cache: Cache, redis: Redis, keys: Keys, key: str) -> None:
    await cache.set(key, 1, ttl_seconds=60, tags=[key])
    assert await cache.get(key, tags=[key]) == 1
    assert [name async for name in every_key(redis, keys) if len(name) > 120 or not name.isascii()] == []


async def test_every_key_expires_and_tags_outlive_their_entries(cache: Cache, redis: Redis, keys: Keys) -> None:
    source = Source(waits=True)
    for tags in (["a"], ["a", "b"], lambda _: ["c"]):
        await cache.get_or_compute(str(tags), Source(), ttl_seconds=30, grace_seconds=30, tags=tags)
    await cache.set("set", 1, ttl_seconds=200, tags=["a"])
    call = asyncio.create_task(cache.get_or_compute("slow", source, ttl_seconds=60, tags=["b"]))
    await source.started.wait()
    lives = {key: await redis.pttl(key) async for key in every_key(redis, keys)}
    assert sum(key.endswith(b":lease") for key in lives) == 1
    assert all(life > 0 for life in lives.values())
    longest_entry = max(life for key, life in lives.items() if b":cache:" in key)
    assert max(life for key, life in lives.items() if b":tag:" in key) > longest_entry > 199_000
    source.gate.set()
    await call


async def test_a_tag_lives_on_when_a_shorter_entry_takes_it_up(cache: Cache, redis: Redis, keys: Keys) -> None:
    await cache.set("long", 1, ttl_seconds=600, tags=["t"])
    await cache.set("short", 1, ttl_seconds=1, tags=["t"])
    [tag] = [key async for key in redis.scan_iter(match=f"{keys.namespace}:tag:*")]
    assert await redis.pttl(tag) > 599_000


async def test_a_large_value_is_returned_but_not_stored(redis: Redis, keys: Keys, counts: Counts) -> None:
    cache = Cache(redis, keys, telemetry=counts, max_bytes=100)
    assert await cache.get_or_compute("key", Source("x" * 100), ttl_seconds=60) == "x" * 100
    assert await cache.get("key") is MISS
    assert counts.total["cache_unstored"] == 1
    assert not await cache.set("key", "x" * 100, ttl_seconds=60)
    assert await cache.set("key", "x" * 98, ttl_seconds=60, tags=list("abcdefgh"))
    assert await cache.get("key") == "x" * 98


@pytest.mark.parametrize("raw", FOREIGN, ids=range(len(FOREIGN)))
async def test_foreign_bytes_are_a_miss_and_counted(redis: Redis, keys: Keys, counts: Counts, raw: bytes) -> None:
    cache = Cache(redis, keys, telemetry=counts, max_bytes=150)
    await cache.set("key", "first", ttl_seconds=60)
    [name] = [key async for key in every_key(redis, keys)]
    await redis.set(name, raw)
    assert await cache.get("key", type=None) is MISS
    assert counts.total["cache_corrupt"] == 1
    assert await cache.get_or_compute("key", Source("new"), ttl_seconds=60, type=str) == "new"
    assert await cache.get("key") == "new"


async def test_an_entry_cut_off_anywhere_is_a_miss(cache: Cache, redis: Redis, keys: Keys, counts: Counts) -> None:
    await cache.set("key", 12345, ttl_seconds=60, tags=["t"])
    [name] = [key async for key in every_key(redis, keys) if b":cache:" in key]
    raw = await redis.get(name)
    assert isinstance(raw, bytes)
    for length in range(len(raw)):
        await redis.set(name, raw[:length])
        assert await cache.get("key") is MISS
    assert counts.total["cache_corrupt"] == len(raw)


async def test_keys_of_another_type_are_a_miss(cache: Cache, redis: Redis, keys: Keys) -> None:
    await cache.set("key", "first", ttl_seconds=60, tags=["t"])
    for name in [key async for key in every_key(redis, keys)]:
        await redis.delete(name)
        await redis.rpush(name, "an", "element")
    assert await cache.get("key", tags=["t"]) is MISS
    assert await cache.get_or_compute("key", Source("new"), ttl_seconds=60, tags=["t"]) == "new"
    assert await cache.get("key", tags=["t"]) == "new"


async def test_with_redis_down_values_are_computed_once_at_a_time(keys: Keys, counts: Counts) -> None:
    source = Source(waits=True)
    async with cache_on_nothing(keys, counts) as cache:
        calls = [asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60)) for _ in range(100)]
        await eventually(lambda: counts.total["cache_waits"] == 99)
        source.gate.set()
        assert await asyncio.gather(*calls) == ["value"] * 100
    assert source.runs == counts.total["cache_computes"] == 1
    assert counts.total["cache_bypassed"] == 100


async def test_with_redis_down_reads_and_writes_pass_and_invalidations_raise(keys: Keys, counts: Counts) -> None:
    async with cache_on_nothing(keys, counts) as cache:
        assert await cache.get("key") is MISS
        assert not await cache.set("key", 1, ttl_seconds=60, tags=["t"])
        assert counts.total["cache_bypassed"] == 2
        with pytest.raises(RedisError):
            await cache.delete("key")
        with pytest.raises(RedisError):
            await cache.invalidate_tags("t")


@pytest.mark.server
async def test_a_server_that_is_full_is_passed_by(tmp_path: Path, keys: Keys, counts: Counts) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "1").start()
    redis = connect(server.url, name="test", timeout_seconds=5)
    try:
        cache = Cache(redis, keys, telemetry=counts)
        assert not await cache.set("key", 1, ttl_seconds=60)
        assert await cache.get_or_compute("key", Source(), ttl_seconds=60, tags=["t"]) == "value"
        assert counts.total["cache_bypassed"] == 2
    finally:
        await redis.aclose()
        server.stop()


@pytest.mark.server
async def test_a_server_that_dies_during_the_compute_costs_only_the_storing(
    tmp_path: Path, keys: Keys, counts: Counts
) -> None:
    server = RedisServer(tmp_path).start()
    redis = connect(server.url, name="test", timeout_seconds=0.2)
    source = Source(waits=True)
    try:
        cache = Cache(redis, keys, telemetry=counts)
        call = asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60, tags=["t"]))
        await source.started.wait()
        server.kill()
        source.gate.set()
        assert await call == "value"
        assert counts.total["cache_unstored"] == 1
    finally:
        await redis.aclose()
        server.stop()


@pytest.mark.server
async def test_round_trips(real_redis: Redis, keys: Keys) -> None:
    """One for a hit whose tags are known, two where the entry tells them; three for a miss."""
    cache = Cache(real_redis, keys)
    fixed: dict[str, Any] = {"ttl_seconds": 60, "tags": ["a", "b"]}
    late: dict[str, Any] = {"ttl_seconds": 60, "tags": lambda _: ["c"]}
    await cache.get_or_compute("warm", Source(), ttl_seconds=60, tags=["a", "b", "c"])

    async def is_kept() -> bool:
        await cache.get_or_compute("late", Source(), **late)
        return await cache.get("late") is not MISS

    await eventually(is_kept)

    async def batches(call: Any) -> int:
        before = real_redis.stats()["server"]["batches"]  # type: ignore[attr-defined]
        await call
        return int(real_redis.stats()["server"]["batches"]) - int(before)  # type: ignore[attr-defined]

    assert await batches(cache.get_or_compute("fixed", Source(), **fixed)) == 3
    assert await batches(cache.get_or_compute("fixed", Source(), **fixed)) == 1
    assert await batches(cache.get_or_compute("graced", Source(), grace_seconds=60, **fixed)) == 3
    assert await batches(cache.get_or_compute("graced", Source(), grace_seconds=60, **fixed)) == 1
    assert await batches(cache.get_or_compute("late", Source(), **late)) == 2
    assert await batches(cache.get_many(["fixed", "graced"], tags=["a", "b"])) == 2
    assert await batches(cache.get_many(["fixed", "warm"], tags=["a", "b", "c"])) == 1
    assert await batches(cache.invalidate_tags("a", "b", "c")) == 1


@pytest.mark.server
@pytest.mark.parametrize("entries", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_a_tag_costs_the_same_however_many_entries_it_has(
    own_server: RedisServer, keys: Keys, entries: int
) -> None:
    redis = connect(own_server.url, name="test", timeout_seconds=30)
    cache = Cache(redis, keys)
    for start in range(0, entries, 10_000):
        values = {str(number): number for number in range(start, start + 10_000)}
        assert await cache.set_many(values, ttl_seconds=600, tags=["t"])
    [tag] = [key async for key in redis.scan_iter(match=f"{keys.namespace}:tag:*", count=10_000)]
    assert (await redis.memory_usage(tag) or 0) in range(1, 200)
    info = await redis.info("keyspace")
    assert info["db0"]["keys"] == info["db0"]["expires"] == entries + 1
    await redis.config_resetstat()
    await cache.invalidate_tags("t")
    commands = await redis.info("commandstats")
    assert {name: commands[name]["calls"] for name in commands} == {"cmdstat_unlink": 1, "cmdstat_config|resetstat": 1}
    assert await cache.get_many(map(str, range(0, entries, entries // 100)), tags=["t"]) == {}
    await redis.aclose()


async def test_when_all_has_expired_no_key_is_left(redis: Redis, keys: Keys) -> None:
    cache = Cache(redis, keys, lease_seconds=0.1)

    async def compute(number: int) -> object:
        return await cache.get_or_compute(str(number), Source(), ttl_seconds=1.5, tags=["all", f"t{number % 3}"])

    await asyncio.gather(*map(compute, range(20)))

    async def none_is_left() -> bool:
        return [key async for key in redis.scan_iter(match=f"*{keys.namespace}:*", count=1000)] == []

    assert not await none_is_left()

    await eventually(none_is_left)


@pytest.mark.server
async def test_evicted_at_random_entries_and_tags_are_only_missed(tmp_path: Path, keys: Keys) -> None:
    """A value is never older than the last invalidation, whichever of its keys Redis has thrown away."""
    server = RedisServer(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random").start()
    redis = connect(server.url, name="test", timeout_seconds=5)
    cache, versions, chance = Cache(redis, keys), [0] * 20, random.Random(7)
    try:
        for turn in range(4000):
            number = chance.randrange(20)
            if turn % 10 == 0:
                versions[number] += 1
                await cache.invalidate_tags(f"t{number}")

            async def compute(number: int = number) -> tuple[int, str]:
                return versions[number], "x" * 2000

            key = f"{number}:{chance.randrange(100)}"
            found = await cache.get_or_compute(key, compute, ttl_seconds=600, tags=[f"t{number}", "all"])
            assert found[0] == versions[number]
        assert (await redis.info("stats"))["evicted_keys"] > 100
    finally:
        await redis.aclose()
        server.stop()


@pytest.mark.parametrize(
    "version", [b"1-\xff", b"9" * 400 + b"-a", b"1700000000000000", b"-a", b"", b"1-" + b"a" * 100]
)
async def test_a_tag_that_nobody_of_ours_has_written_is_none(
    cache: Cache, redis: Redis, keys: Keys, version: bytes
) -> None:
    assert await cache.get_or_compute("key", Source(1), ttl_seconds=60, tags=["t"]) == 1
    [tag] = [key async for key in redis.scan_iter(match=f"{keys.namespace}:tag:*")]
    for late in (False, True):
        await redis.set(tag, version)
        tags: Any = (lambda _: ["t"]) if late else ["t"]
        assert await cache.get_or_compute("key", Source(2), ttl_seconds=60, tags=tags) == 2
        await redis.set(tag, version)
        assert await cache.set("other", 3, ttl_seconds=60, tags=["t"])
        assert await cache.get("other", tags=["t"]) == 3


async def test_namespaces_stand_within_each_other(cache: Cache) -> None:
    inner = [cache.in_namespace(tenant).in_namespace("page") for tenant in ("t1", "t2")]
    await inner[0].set("key", 1, ttl_seconds=60)
    assert await inner[1].get("key") is MISS
    assert await cache.in_namespace("page").get("key") is MISS
    assert await cache.in_namespace("t1", "page").get("key") == 1


async def test_what_is_stored_is_counted_in_bytes(cache: Cache, counts: Counts) -> None:
    await cache.set("a", "xxxx", ttl_seconds=60)
    await cache.get_or_compute("b", Source("xxxx"), ttl_seconds=60)
    assert counts.total["cache_stored_bytes"] == 12
