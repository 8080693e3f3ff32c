"""The rate limiter on a real server: processes that compete, memory, round trips, lost replies."""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.limit import Algorithm, Limit
from app.kit.limits.limiter import RateLimiter
from tests.services import RedisServer

pytestmark = pytest.mark.server

PROCESSES = 4


def hit(url: str, namespace: str, limit: Limit, hits: int) -> int:
    """How many of `hits` are admitted, asked by this process at once."""

    async def run() -> int:
        redis = connect(url, name="test", timeout_seconds=20)
        limiter = RateLimiter(redis, Keys(namespace))
        decisions = await asyncio.gather(*(limiter.check([(limit, "ann")]) for _ in range(hits)))
        await redis.aclose()
        return sum(decision.allowed for decision in decisions)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as started:
        yield started


def admitted_by_all(pool: ProcessPoolExecutor, url: str, keys: Keys, limit: Limit) -> int:
    running = [pool.submit(hit, url, keys.namespace, limit, 250) for _ in range(PROCESSES)]
    return sum(future.result() for future in running)


@pytest.mark.parametrize("runs", [5, pytest.param(50, marks=pytest.mark.long)])
def test_processes_admit_exactly_the_amount(
    pool: ProcessPoolExecutor, redis_server: RedisServer, keys: Keys, runs: int
) -> None:
    limits = [Limit.parse("100/hour", name=f"run{n}") for n in range(runs)]
    assert [admitted_by_all(pool, redis_server.url, keys, limit) for limit in limits] == [100] * runs


@pytest.mark.parametrize("algorithm", ["counter", "gcra"])
def test_processes_admit_exactly_the_amount_whatever_the_algorithm(
    pool: ProcessPoolExecutor, redis_server: RedisServer, keys: Keys, algorithm: Algorithm
) -> None:
    limit = Limit.parse("100/week", name="shared", algorithm=algorithm)
    assert admitted_by_all(pool, redis_server.url, keys, limit) == 100


@pytest.mark.parametrize(("algorithm", "most"), [("log", 12_000), ("counter", 200), ("gcra", 200)])
async def test_memory(real_redis: Redis, algorithm: Algorithm, most: int) -> None:
    # A namespace and a name as long as they are in life.
    keys, limit = Keys("quartet"), Limit.parse("1000/hour", name="articles.search:principal:hour", algorithm=algorithm)
    limiter = RateLimiter(real_redis, keys)
    await limiter.reset([(limit, "ann")])
    for _ in range(1000):
        decision = await limiter.check([(limit, "ann")])
    [key] = [key async for key in real_redis.scan_iter(match=f"*{limit.name}/*")]
    used = await real_redis.memory_usage(key)
    await limiter.reset([(limit, "ann")])
    assert decision.statuses[0].remaining <= 1
    assert used is not None
    assert used < most


async def test_three_limits_are_one_round_trip(real_redis: Redis, keys: Keys) -> None:
    limiter = RateLimiter(real_redis, keys)
    algorithms: tuple[Algorithm, ...] = ("log", "counter", "gcra")
    charges = [(Limit.parse("9/hour", name=name, algorithm=name), "ann") for name in algorithms]
    await limiter.check(charges)
    await real_redis.config_resetstat()
    assert (await limiter.check(charges)).allowed
    commands = await real_redis.info("commandstats")
    assert commands["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_eval" not in commands


@pytest.mark.parametrize("newer", [0, 50])
async def test_to_give_back_much_is_not_much_work(real_redis: Redis, keys: Keys, newer: int) -> None:
    limiter, limit = RateLimiter(real_redis, keys), Limit.parse("10000/day", name="much")
    taken = await limiter.check([(limit, "ann")], cost=5000)
    for _ in range(newer):
        await limiter.check([(limit, "ann")])
    await real_redis.config_resetstat()
    after = await limiter.refund(taken)
    commands = await real_redis.info("commandstats")
    assert sum(command["calls"] for command in commands.values()) < 20 + 2 * newer
    assert after.statuses[0].remaining == 10_000
    assert (await limiter.peek([(limit, "ann")])).statuses[0].remaining == 10_000 - newer


async def test_a_server_that_lost_its_scripts_gets_them_again(real_redis: Redis, keys: Keys) -> None:
    limiter, limit = RateLimiter(real_redis, keys), Limit.parse("9/hour", name="scripts")
    await limiter.check([(limit, "ann")])
    await real_redis.script_flush()
    assert (await limiter.check([(limit, "ann")])).statuses[0].remaining == 7


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
async def test_the_clock_of_this_machine_does_not_matter(
    real_redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm
) -> None:
    limiter, limit = RateLimiter(real_redis, keys), Limit.parse("2/week", name="clock", algorithm=algorithm)
    real = time.time()
    allowed = []
    for shift in (-1e7, 1e7, 0):
        monkeypatch.setattr(time, "time", lambda shift=shift: real + shift)
        decision = await limiter.check([(limit, "ann")])
        allowed.append(decision.allowed)
    assert allowed == [True, True, False]
    assert decision.now_seconds == pytest.approx(real, abs=60)


@asynccontextmanager
async def losing_the_first_reply(url: str, *, to: bytes) -> AsyncIterator[str]:
    """A proxy before Redis that cuts the connection instead of passing on the first reply to what holds `to`."""
    port, lost = urlsplit(url).port, False

    async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        nonlocal lost
        server, ask = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError):
            while request := await client.read(65_536):
                ask.write(request)
                reply = await server.read(65_536)
                if to in request and not lost:
                    lost = True
                    break
                answer.write(reply)
        ask.close()
        answer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0"
    assert lost


@pytest.mark.parametrize("algorithm", ["log", "counter", "gcra"])
async def test_a_check_whose_reply_was_lost_counts_once(
    redis_server: RedisServer, real_redis: Redis, keys: Keys, algorithm: Algorithm
) -> None:
    limit = Limit.parse("9/week", name="lost", algorithm=algorithm)
    await RateLimiter(real_redis, keys).check([(limit, "warm the script")])
    async with losing_the_first_reply(redis_server.url, to=limit.name.encode()) as url:
        redis = connect(url, name="test", timeout_seconds=5)
        decision = await RateLimiter(redis, keys).check([(limit, "ann")])
        await redis.aclose()
    assert decision.allowed
    assert not decision.local
    assert decision.statuses[0].remaining == 8
    assert (await RateLimiter(real_redis, keys).peek([(limit, "ann")])).statuses[0].remaining == 8
