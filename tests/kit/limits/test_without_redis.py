"""Limits while Redis is down: open, closed, or counted in this process; and back by itself."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.limit import Limit, OnError
from app.kit.limits.limiter import RateLimiter
from app.kit.limits.local_window import LocalWindow
from app.kit.telemetry import NoTelemetry
from tests.services import RedisServer, free_port
from tests.waiting import eventually


class Counted(NoTelemetry):
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        if name == "rate_limit":
            self.outcomes[labels["policy"], labels["outcome"]] += int(amount)
        else:
            assert labels == {"block": "limits"}
            self.failures[name] += int(amount)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def nothing_listens() -> AsyncIterator[Redis]:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", name="test", timeout_seconds=0.05)
    yield client
    await client.aclose()


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(nothing_listens: Redis, keys: Keys, counted: Counted, clock: Clock) -> RateLimiter:
    return RateLimiter(nothing_listens, keys, telemetry=counted, local=LocalWindow(clock=clock))


def limit(text: str, on_error: OnError) -> Limit:
    return Limit.parse(text, name=on_error, on_error=on_error)


async def test_open_admits(limiter: RateLimiter, counted: Counted) -> None:
    decisions = [await limiter.check([(limit("1/minute", "open"), "ann")]) for _ in range(3)]
    assert [(d.allowed, d.statuses) for d in decisions] == [(True, ())] * 3
    assert counted.outcomes == {("open", "failed_open"): 3}
    assert counted.failures == {"redis_outages": 3}


async def test_closed_refuses_and_takes_nothing_elsewhere(limiter: RateLimiter, counted: Counted) -> None:
    local, closed = limit("1/minute", "local"), limit("1/minute", "closed")
    decision = await limiter.check([(local, "ann"), (closed, "ann")])
    assert (decision.allowed, decision.unavailable, decision.refused) == (False, True, ())
    assert counted.outcomes == {("closed", "failed_closed"): 1}
    assert (await limiter.check([(local, "ann")])).allowed


async def test_local_is_an_exact_window(limiter: RateLimiter, counted: Counted, clock: Clock) -> None:
    local = limit("2/minute", "local")
    decisions = [await limiter.check([(local, "ann")]) for _ in range(3)]
    assert [d.allowed for d in decisions] == [True, True, False]
    assert [d.statuses[0].remaining for d in decisions] == [1, 0, 0]
    assert decisions[2].retry_after_seconds == 60
    assert not decisions[2].unavailable
    assert counted.outcomes == {("local", "local"): 3, ("local", "allowed"): 2, ("local", "denied"): 1}
    clock.seconds += 59.99
    assert not (await limiter.check([(local, "ann")])).allowed
    clock.seconds += 0.02
    assert (await limiter.check([(local, "ann")])).allowed


async def test_local_is_all_or_nothing(limiter: RateLimiter) -> None:
    tight, wide = [Limit.parse(f"{n}/minute", name=f"n{n}", on_error="local") for n in (1, 9)]
    await limiter.check([(tight, "ann")])
    decision = await limiter.check([(wide, "ann"), (tight, "ann")])
    assert [s.admits for s in decision.statuses] == [True, False]
    assert (await limiter.check([(wide, "ann")])).statuses[0].remaining == 8


async def test_local_units_are_given_back_once(limiter: RateLimiter) -> None:
    local = Limit.parse("5/minute", name="login", on_error="local", counts="reserved", sensitive=True)
    first, _ = [await limiter.check([(local, "ann")]) for _ in range(2)]
    for _ in range(2):
        assert (await limiter.settle(first, succeeded=True)).statuses[0].remaining == 5
        await limiter.refund(first)
    assert (await limiter.check([(local, "ann")])).statuses[0].remaining == 3


async def test_failures_are_counted_locally(limiter: RateLimiter) -> None:
    local = Limit.parse("1/minute", name="guesses", on_error="local", counts="failures")
    for succeeded in (True, False):
        decision = await limiter.check([(local, "ann")])
        assert decision.allowed
        await limiter.settle(decision, succeeded=succeeded)
    assert not (await limiter.check([(local, "ann")])).allowed


async def test_a_shadow_never_refuses(limiter: RateLimiter, counted: Counted) -> None:
    shadows = [
        Limit.parse("1/minute", name=f"shadow-{on_error}", on_error=on_error, shadow=True)
        for on_error in ("closed", "local")
    ]
    for _ in range(2):
        assert (await limiter.check([(shadow, "ann") for shadow in shadows])).allowed
    assert counted.outcomes["shadow-local", "shadow"] == 1


async def test_peek_and_reset_say_that_redis_is_down(limiter: RateLimiter) -> None:
    local = limit("1/minute", "local")
    await limiter.check([(local, "ann")])
    with pytest.raises(RedisError):
        await limiter.peek([(local, "ann")])
    with pytest.raises(RedisError):
        await limiter.reset([(local, "ann")])
    # This process at least has forgotten what it counted.
    assert (await limiter.check([(local, "ann")])).allowed


@pytest.mark.server
async def test_limits_are_back_by_themselves(tmp_path: Path, keys: Keys, counted: Counted) -> None:
    server = RedisServer(tmp_path).start()
    redis = connect(server.url, name="test", timeout_seconds=0.2)
    limiter = RateLimiter(redis, keys, telemetry=counted)
    local, reserved = limit("5/minute", "local"), Limit.parse("5/minute", name="reserved", counts="reserved")
    try:
        held = await limiter.check([(local, "ann"), (reserved, "ann")])
        assert not held.local
        server.kill()
        assert (await limiter.check([(local, "ann")])).local
        # A refund that does not arrive is lost, and counted: the unit stays taken.
        assert (await limiter.settle(held, succeeded=True)).statuses[1].remaining == 4
        assert counted.outcomes["reserved", "refund_lost"] == 1
        assert counted.failures == {"redis_outages": 2}
        server.start()

        async def back() -> bool:
            return not (await limiter.check([(local, "bob")], cost=0)).local

        await eventually(back)
        assert (await limiter.check([(local, "ann")])).statuses[0].remaining == 4
    finally:
        await redis.aclose()
        server.stop()


@pytest.mark.server
async def test_a_full_redis_fails_as_each_limit_says(tmp_path: Path, keys: Keys) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "1", "--maxmemory-policy", "noeviction").start()
    redis = connect(server.url, name="test", timeout_seconds=1)
    limiter = RateLimiter(redis, keys)
    try:
        assert (await limiter.check([(limit("1/minute", "open"), "ann")])).allowed
        assert (await limiter.check([(limit("1/minute", "local"), "ann")])).local
        assert (await limiter.check([(limit("1/minute", "closed"), "ann")])).unavailable
    finally:
        await redis.aclose()
        server.stop()


def test_the_local_window_is_bounded_in_memory() -> None:
    window, wide = LocalWindow(max_units=100), Limit.parse("1000/minute", name="wide")
    for n in range(1000):
        window.take(f"key{n}", units=1)
    assert window.room("key999", wide) == 999
    # What was used longest ago was forgotten.
    assert window.room("key0", wide) == 1000
    assert sum(1000 - window.room(f"key{n}", wide) for n in range(1000)) == 100
    for _ in range(50):
        window.take("one", units=9)
    assert 1000 - window.room("one", wide) <= 100


def test_the_local_window_gives_back_that_very_entry() -> None:
    window, wide = LocalWindow(clock=lambda: 5.0), Limit.parse("1000/minute", name="wide")
    first, second = [window.take("key", units=units) for units in (3, 2)]
    for _ in range(2):
        window.give_back("key", stamp=first)
    assert window.room("key", wide) == 998
    window.give_back("key", stamp=second)
    window.give_back("key", stamp=second)
    assert window.room("key", wide) == 1000
    assert window.wait_seconds("key", wide, units=1) == 0
