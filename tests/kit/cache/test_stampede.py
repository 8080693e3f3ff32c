"""Many callers, caches and processes ask for what is not there: it is computed once, whoever dies meanwhile."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.cache.entry import MISS, Codec
from app.kit.cache.model import CacheResult, DoNotStore
from app.kit.keys import Keys
from tests.kit.cache.cache_process import GO, READY, RUNS
from tests.kit.cache.cache_support import Counts, Source
from tests.services import RedisServer, end
from tests.waiting import eventually

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(redis_server: RedisServer, keys: Keys) -> Iterator[Start]:
    """Starts tests.kit.cache.cache_process on the real server, in this test's namespace."""
    processes = []

    def start(*, lease_seconds: float = 10, callers: int = 1, value: str = "theirs") -> subprocess.Popen[bytes]:
        arguments = [redis_server.url, keys.namespace, str(lease_seconds), str(callers), value]
        command = [sys.executable, "-m", "tests.kit.cache.cache_process", *arguments]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return processes[-1]

    yield start
    for process in processes:
        end(process, with_signal=signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()


def caches(redis: Redis, keys: Keys, number: int, **options: Any) -> list[Cache]:
    """As many processes have them: they share nothing but Redis."""
    return [Cache(redis, keys, **options) for _ in range(number)]


async def counter(redis: Redis, keys: Keys, name: str) -> int:
    return int(await redis.get(f"{keys.namespace}:{name}") or 0)


async def test_a_hundred_callers_in_each_of_four_caches_compute_once(redis: Redis, keys: Keys) -> None:
    counts, source = Counts(), Source(waits=True)
    calls = [
        asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60, tags=["t"]))
        for cache in caches(redis, keys, 4, telemetry=counts)
        for _ in range(100)
    ]
    await source.started.wait()
    await eventually(lambda: counts.total["cache_waits"] == 399)
    source.gate.set()
    assert await asyncio.gather(*calls) == ["value"] * 400
    assert source.runs == counts.total["cache_computes"] == 1
    assert counts.total["cache_misses"] == 400


@pytest.mark.server
async def test_four_processes_compute_once(start: Start, real_redis: Redis, keys: Keys) -> None:
    processes = [start(callers=100, value=str(number)) for number in range(4)]

    async def all_are_ready() -> bool:
        return await counter(real_redis, keys, READY) == 4

    await eventually(all_are_ready)
    await real_redis.set(f"{keys.namespace}:{GO}", 1)
    reports = [json.loads((await asyncio.to_thread(process.communicate))[0]) for process in processes]
    assert await counter(real_redis, keys, RUNS) == 1
    assert len({value for report in reports for value in report["values"]}) == 1
    assert sum(len(report["values"]) for report in reports) == 400


@pytest.mark.server
async def test_a_holder_that_is_killed_is_replaced_within_the_lease(
    start: Start, real_redis: Redis, keys: Keys
) -> None:
    holder = start(lease_seconds=0.4)

    async def computes() -> bool:
        return await counter(real_redis, keys, RUNS) == 1

    await eventually(computes)
    call = asyncio.create_task(Cache(real_redis, keys).get_or_compute("key", Source("ours"), ttl_seconds=60))
    holder.kill()
    began = time.monotonic()
    assert await call == "ours"
    # The lease, the longest pause between two looks, and what a busy machine adds.
    assert time.monotonic() - began < 0.4 + 0.5


@pytest.mark.server
async def test_a_late_writer_is_fenced_out(start: Start, real_redis: Redis, keys: Keys) -> None:
    """A process stands still while it computes, longer than its lease, and another computes meanwhile."""
    late = start(lease_seconds=0.2, value="old")

    async def computes() -> bool:
        return await counter(real_redis, keys, RUNS) == 1

    await eventually(computes)
    late.send_signal(signal.SIGSTOP)
    cache = Cache(real_redis, keys)
    assert await cache.get_or_compute("key", Source("new"), ttl_seconds=60, tags=["t"]) == "new"
    await real_redis.set(f"{keys.namespace}:{GO}", 1)
    late.send_signal(signal.SIGCONT)
    report = json.loads((await asyncio.to_thread(late.communicate))[0])
    assert report["values"] == ["old"]
    assert report["counts"]["cache_fenced"] == 1
    assert await cache.get("key") == "new"


async def test_a_compute_may_outlast_its_lease(redis: Redis, keys: Keys) -> None:
    first, second = caches(redis, keys, 2, lease_seconds=1)
    source = Source(waits=True)
    calls = [asyncio.create_task(c.get_or_compute("key", source, ttl_seconds=60)) for c in (first, second)]
    await source.started.wait()
    [lease] = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:*:lease")]
    expires = time.monotonic() + 1.5
    while time.monotonic() < expires:
        assert await redis.exists(lease)
        await asyncio.sleep(0.01)
    source.gate.set()
    assert await asyncio.gather(*calls) == ["value", "value"]
    assert source.runs == 1


async def test_who_has_waited_long_enough_computes_and_stores_nothing(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    [hanging] = caches(redis, keys, 1, lease_seconds=0.3)
    impatient = Cache(redis, keys, lease_seconds=0.3, telemetry=counts)
    source = Source(waits=True)
    stuck = asyncio.create_task(hanging.get_or_compute("key", source, ttl_seconds=60))
    await source.started.wait()
    assert await impatient.get_or_compute("key", Source("own"), ttl_seconds=60) == "own"
    assert counts.total["cache_bypassed"] == 1
    assert await impatient.get("key") is MISS
    source.gate.set()
    await stuck
    assert await impatient.get("key") == "value"


async def test_cancelling_the_first_caller_cancels_no_other(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    cache = Cache(redis, keys, telemetry=counts)
    source = Source(waits=True)
    calls = [asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60)) for _ in range(3)]
    await source.started.wait()
    await eventually(lambda: counts.total["cache_misses"] == 3)
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    source.gate.set()
    assert await asyncio.gather(*calls[1:]) == ["value", "value"]
    assert source.runs == 1


async def test_a_compute_ends_and_stores_though_all_its_callers_are_gone(redis: Redis, keys: Keys) -> None:
    cache, source = Cache(redis, keys), Source(waits=True)
    call = asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60))
    await source.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    source.gate.set()

    async def is_stored() -> bool:
        return await cache.get("key") is not MISS

    await eventually(is_stored)


async def test_an_error_reaches_all_who_wait_and_the_next_caller_computes(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    first, second = caches(redis, keys, 2, telemetry=counts)
    broken = asyncio.Event()

    async def fail() -> None:
        await broken.wait()
        raise LookupError("broken")

    calls = [asyncio.create_task(first.get_or_compute("key", fail, ttl_seconds=60)) for _ in range(3)]
    await eventually(lambda: counts.total["cache_misses"] == 3)
    broken.set()
    assert [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [LookupError] * 3
    # Another process need not wait for the lease to expire.
    began = time.monotonic()
    assert await second.get_or_compute("key", Source(), ttl_seconds=60) == "value"
    assert time.monotonic() - began < 1


async def test_what_is_not_to_be_shared_is_neither_stored_nor_given_to_others(redis: Redis, keys: Keys) -> None:
    cache = Cache(redis, keys)
    runs = 0

    async def compute() -> list[int] | DoNotStore[list[int]]:
        nonlocal runs
        runs += 1
        return DoNotStore([1])

    values = [await cache.get_or_compute("key", compute, ttl_seconds=60) for _ in range(2)]
    assert runs == 2
    assert values[0] is not values[1]
    assert await cache.get("key") is MISS


async def test_callers_of_a_run_whose_value_is_not_to_be_shared_compute_their_own_at_once(
    redis: Redis, keys: Keys
) -> None:
    counts = Counts()
    cache = Cache(redis, keys, telemetry=counts)
    gates = [asyncio.Event(), asyncio.Event()]
    values: list[list[int]] = []

    async def compute() -> list[int] | DoNotStore[list[int]]:
        value = [len(values)]
        values.append(value)
        # The others wait for the first; then each waits until all compute.
        await gates[len(values) > 1].wait()
        return DoNotStore(value)

    calls = [asyncio.create_task(cache.get_or_compute("key", compute, ttl_seconds=60)) for _ in range(5)]
    await eventually(lambda: counts.total["cache_waits"] == 4 and len(values) == 1)
    gates[0].set()
    await eventually(lambda: len(values) == 5)
    gates[1].set()
    found = await asyncio.gather(*calls)
    assert {id(value) for value in found} == {id(value) for value in values}
    assert counts.total["cache_bypassed"] == 5


async def test_no_two_callers_get_the_same_object(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    cache = Cache(redis, keys, telemetry=counts)
    source = Source([1], waits=True)
    exact = Codec(msgspec.json.encode, msgspec.json.Decoder(list[int]).decode, is_exact=True)

    def ask() -> asyncio.Task[CacheResult]:
        request = cache.request("key", source, ttl_seconds=60, tags=(), grace_seconds=0, codec=exact, name="test")
        return asyncio.create_task(cache.load(request))

    calls = [ask() for _ in range(3)]
    await source.started.wait()
    await eventually(lambda: counts.total["cache_misses"] == 3)
    source.gate.set()
    values = [result.value for result in [*await asyncio.gather(*calls), await ask()]]
    assert values == [[1]] * 4
    assert len({id(value) for value in values}) == 4
    # The caller that computes has what was computed, without decoding it again.
    assert sum(value is source.value for value in values) == 1


@pytest.mark.parametrize("written", ["set", "delete"])
async def test_what_is_computed_does_not_overwrite_a_later_set_or_delete(
    redis: Redis, keys: Keys, written: str
) -> None:
    counts = Counts()
    cache, source = Cache(redis, keys, telemetry=counts), Source("old", waits=True)
    call = asyncio.create_task(cache.get_or_compute("key", source, ttl_seconds=60))
    await source.started.wait()
    if written == "set":
        await cache.set("key", "new", ttl_seconds=60)
    else:
        await cache.delete("key")
    source.gate.set()
    assert await call == "old"
    assert await cache.get("key") == ("new" if written == "set" else MISS)
    assert counts.total["cache_fenced"] == 1


async def test_a_redis_error_that_is_no_outage_costs_no_answer_but_is_counted_and_logged_once(
    redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease of another type makes the scripts that store and release it fail."""
    counts = Counts()
    cache = Cache(redis, keys, telemetry=counts)

    async def compute() -> str:
        [lease] = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:*:lease")]
        await redis.delete(lease)
        await redis.rpush(lease, "no lease")
        return "value"

    for number in range(2):
        assert await cache.get_or_compute("key", compute, ttl_seconds=60) == "value"
        assert await cache.get("key") is MISS
        assert counts.total["cache_unstored"] == number + 1
    # Twice to store and twice to release the lease.
    assert counts.total["redis_defects"] == 4
    assert counts.total["redis_outages"] == 0
    assert len([record for record in caplog.records if record.exc_info]) <= 1


async def test_a_caller_who_comes_after_a_delete_does_not_get_what_was_read_before(redis: Redis, keys: Keys) -> None:
    counts, old, new = Counts(), Source("old", waits=True), Source("new")
    cache = Cache(redis, keys, telemetry=counts)
    early = asyncio.create_task(cache.get_or_compute("key", old, ttl_seconds=60))
    await old.started.wait()
    await cache.delete("key")
    late = asyncio.create_task(cache.get_or_compute("key", new, ttl_seconds=60))
    await eventually(lambda: counts.total["cache_misses"] == 2)
    old.gate.set()
    assert tuple(await asyncio.gather(early, late)) == ("old", "new")


class TestGrace:
    """A value past its time still serves while one caller computes the next."""

    @pytest.fixture
    def counts(self) -> Counts:
        return Counts()

    @pytest.fixture
    def pair(self, redis: Redis, keys: Keys, counts: Counts) -> list[Cache]:
        return caches(redis, keys, 2, telemetry=counts)

    async def ask(self, cache: Cache, source: Source) -> Any:
        return await cache.get_or_compute("key", source, ttl_seconds=0.05, grace_seconds=60, tags=["t"])

    async def make_stale(self, cache: Cache) -> None:
        await self.ask(cache, Source("stale"))

        async def is_past_its_time() -> bool:
            return await cache.get("key") is MISS

        await eventually(is_past_its_time)

    async def test_one_computes_and_all_others_are_served_at_once(self, pair: list[Cache], counts: Counts) -> None:
        await self.make_stale(pair[0])
        source = Source("fresh", waits=True)
        first = asyncio.create_task(self.ask(pair[0], source))
        await source.started.wait()
        assert await asyncio.gather(*(self.ask(cache, source) for cache in pair * 5)) == ["stale"] * 10
        source.gate.set()
        assert await first == "fresh"
        assert source.runs == 1
        assert counts.total["cache_stale"] == 10

    async def test_what_a_tag_ended_is_never_served_stale(self, pair: list[Cache], counts: Counts) -> None:
        await self.make_stale(pair[0])
        source = Source("fresh", waits=True)
        first = asyncio.create_task(self.ask(pair[0], source))
        await source.started.wait()
        await pair[1].invalidate_tags("t")
        before = counts.total["cache_misses"]
        others = [asyncio.create_task(self.ask(cache, Source("newer"))) for cache in pair * 5]
        await eventually(lambda: counts.total["cache_misses"] == before + 10)
        source.gate.set()
        assert await first == "fresh"
        assert await asyncio.gather(*others) == ["newer"] * 10

    async def test_who_may_not_have_the_stale_value_waits_for_the_next(self, pair: list[Cache], counts: Counts) -> None:
        """Of two callers at once, the one before an invalidation and the other after it."""
        holder, other = pair
        await self.make_stale(holder)
        source = Source("too old by now", waits=True)
        first = asyncio.create_task(self.ask(holder, source))
        await source.started.wait()
        misses = counts.total["cache_misses"]
        before = asyncio.create_task(self.ask(other, Source("new")))
        invalidation = asyncio.create_task(other.invalidate_tags("t"))
        after = asyncio.create_task(self.ask(other, Source("new")))
        await invalidation
        # A cluster's nodes keep no common order: there both may come after it.
        await eventually(lambda: before.done() or counts.total["cache_misses"] == misses + 2)
        source.gate.set()
        assert await after == "new"
        assert await before in ("stale", "new")
        assert await first == "too old by now"

    async def test_the_grace_ends(self, redis: Redis, keys: Keys) -> None:
        cache, source = Cache(redis, keys, lease_seconds=2), Source("new")
        await cache.get_or_compute("key", Source("old"), ttl_seconds=0.02, grace_seconds=0.02)

        async def is_gone() -> bool:
            return not [key async for key in redis.scan_iter(match=f"*{keys.namespace}:cache:*")]

        await eventually(is_gone)
        assert await cache.get_or_compute("key", source, ttl_seconds=1, grace_seconds=1) == "new"


async def test_a_compute_that_asks_for_itself_is_told_at_once(redis: Redis, keys: Keys) -> None:
    cache = Cache(redis, keys)

    async def compute() -> int:
        return await cache.get_or_compute("key", compute, ttl_seconds=60)

    with pytest.raises(RecursionError):
        await cache.get_or_compute("key", compute, ttl_seconds=60)
    assert await cache.get_or_compute("key", Source(1), ttl_seconds=60) == 1


async def test_something_cancelled_within_a_compute_is_an_error_like_any_other(redis: Redis, keys: Keys) -> None:
    cache = Cache(redis, keys)

    async def compute() -> None:
        forever = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(forever.cancel)
        await forever

    asked = [cache.get_or_compute("key", compute, ttl_seconds=60) for _ in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, RuntimeError) for answer in answers)
    # The lease was given up: nobody has to wait for its end.
    async with asyncio.timeout(5):
        assert await cache.get_or_compute("key", Source(1), ttl_seconds=60) == 1
