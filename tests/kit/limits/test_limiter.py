"""The rate limiter's behaviour, on the embedded store and on a real server alike."""

import asyncio
import itertools

import pytest
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.limits.limit import Algorithm, Charge, CostTooHigh, Limit
from app.kit.limits.limiter import RateLimiter

ALGORITHMS: tuple[Algorithm, ...] = ("log", "counter", "gcra")

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def limiter(redis: Redis, keys: Keys) -> RateLimiter:
    """A limiter for which each check is a millisecond later, far from the edge of any window."""
    times = itertools.count(1_750_001_000_000_000, 1000)
    return RateLimiter(redis, keys, now_us=lambda: next(times))


async def remaining(limiter: RateLimiter, limit: Limit, subject: str) -> int:
    return (await limiter.peek([(limit, subject)])).statuses[0].remaining


async def all_keys(redis: Redis, keys: Keys) -> dict[bytes, bytes | None]:
    """Every key of the test with its whole content."""
    found = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:*")]
    return {key: await redis.dump(key) for key in found}


@every_algorithm
async def test_admits_the_amount_and_then_refuses(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("3/minute", name="three", algorithm=algorithm)
    decisions = [await limiter.check([(limit, "ann")]) for _ in range(4)]
    assert [d.allowed for d in decisions] == [True, True, True, False]
    assert [d.statuses[0].remaining for d in decisions] == [2, 1, 0, 0]
    assert 1 <= decisions[3].retry_after_seconds <= 60
    assert [s.limit.name for s in decisions[3].refused] == ["three"]
    assert (await limiter.check([(limit, "bob")])).allowed


@pytest.mark.parametrize("algorithm", ["log", "gcra"])
async def test_waiting_as_long_as_told_is_enough(redis: Redis, keys: Keys, algorithm: Algorithm) -> None:
    limiter = RateLimiter(redis, keys)  # by Redis' own clock
    limit = Limit.parse("2/second", name="brief", algorithm=algorithm)
    while (decision := await limiter.check([(limit, "ann")])).allowed:
        pass
    assert decision.refused[0].wait_seconds <= 1
    await asyncio.sleep(decision.refused[0].wait_seconds)
    assert (await limiter.check([(limit, "ann")])).allowed


@every_algorithm
async def test_a_refusal_by_one_limit_leaves_the_others_unchanged(
    redis: Redis, keys: Keys, limiter: RateLimiter, algorithm: Algorithm
) -> None:
    tight = Limit.parse("1/hour", name="tight", algorithm=algorithm)
    before = Limit.parse("9/hour", name="before", algorithm=algorithm)
    after = Limit.parse("9/day", name="after", algorithm=algorithm)
    charges = [(before, "ann"), (tight, "ann"), (after, "ann")]
    assert (await limiter.check(charges)).allowed
    content = await all_keys(redis, keys)
    decision = await limiter.check(charges)
    assert [s.admits for s in decision.statuses] == [True, False, True]
    assert not decision.allowed
    assert await all_keys(redis, keys) == content


@every_algorithm
async def test_cost(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("10/hour", name="bytes", algorithm=algorithm)
    assert (await limiter.check([(limit, "ann")], cost=7)).statuses[0].remaining == 3
    assert not (await limiter.check([(limit, "ann")], cost=4)).allowed
    assert (await limiter.check([(limit, "ann")], cost=0)).statuses[0].remaining == 3
    assert (await limiter.check([Charge(limit, "ann", 3)])).statuses[0].remaining == 0
    assert (await limiter.check([(limit, "ann")], cost=0)).allowed
    with pytest.raises(CostTooHigh):
        await limiter.check([(limit, "bob")], cost=11)
    with pytest.raises(ValueError, match="0 or more"):
        await limiter.check([(limit, "bob")], cost=-1)


async def test_each_charge_has_its_own_cost(limiter: RateLimiter) -> None:
    requests, bytes_ = Limit.parse("10/hour", name="requests"), Limit.parse("1000/hour", name="bytes")
    decision = await limiter.check([(requests, "ann"), Charge(bytes_, "ann", 300)])
    assert [s.remaining for s in decision.statuses] == [9, 700]


async def test_a_burst_is_less_than_the_amount(limiter: RateLimiter) -> None:
    limit = Limit.parse("100/hour", name="smooth", algorithm="gcra", burst=2)
    assert [(await limiter.check([(limit, "ann")])).allowed for _ in range(3)] == [True, True, False]
    with pytest.raises(CostTooHigh):
        await limiter.check([(limit, "ann")], cost=3)


@every_algorithm
async def test_a_refund_gives_back_exactly_what_was_taken(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("5/day", name="login", algorithm=algorithm)
    first, second = [await limiter.check([(limit, "ann")], cost=cost) for cost in (2, 1)]
    refunded = await limiter.refund(first)
    assert refunded.statuses[0].remaining == 5  # as this request saw it: the second was not there yet
    assert await remaining(limiter, limit, "ann") == 4
    await limiter.refund(first)
    await limiter.refund(refunded)
    assert await remaining(limiter, limit, "ann") == 4
    await limiter.refund(second)
    assert await remaining(limiter, limit, "ann") == 5


async def test_a_refund_takes_away_that_very_entry(redis: Redis, keys: Keys, limiter: RateLimiter) -> None:
    limit = Limit.parse("5/day", name="login")
    decisions = [await limiter.check([(limit, "ann")]) for _ in range(3)]
    [key] = [key for key in await all_keys(redis, keys) if b"login" in key]
    entries = await redis.lrange(key, 0, -1)
    await limiter.refund(decisions[1])
    assert await redis.lrange(key, 0, -1) == [entries[0], entries[2]]


async def test_refunds_at_the_same_time_give_back_once(limiter: RateLimiter) -> None:
    limit = Limit.parse("5/hour", name="login", algorithm="counter")
    decisions = [await limiter.check([(limit, "ann")]) for _ in range(3)]
    await asyncio.gather(*(limiter.refund(decisions[0]) for _ in range(10)))
    assert await remaining(limiter, limit, "ann") == 3


@every_algorithm
async def test_a_repeat_with_the_same_id_counts_once(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("2/day", name="once", algorithm=algorithm)
    shadow = Limit.parse("1/day", name="shadow", algorithm=algorithm, shadow=True)
    charges = [(limit, "ann"), (shadow, "ann")]
    first, repeated = [await limiter.check(charges, request_id="r1") for _ in range(2)]
    assert first.allowed
    assert [s.stamp for s in repeated.statuses] == [s.stamp for s in first.statuses]
    assert (await limiter.check(charges, request_id="r2")).allowed
    last = await limiter.check(charges, request_id="r2")
    # The last unit was this request's own: its repeat is admitted, although nothing is left.
    assert last.allowed
    assert [(s.admits, s.remaining) for s in last.statuses] == [(True, 0), (False, 0)]
    await limiter.refund(repeated)
    await limiter.refund(first)
    assert await remaining(limiter, limit, "ann") == 1


@every_algorithm
async def test_a_repeat_of_what_was_given_back_counts(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("2/day", name="back", algorithm=algorithm)
    admitted = []
    for _ in range(4):
        decision = await limiter.check([(limit, "ann")], request_id="r")
        admitted.append(decision.allowed)
        await limiter.refund(decision)
    assert admitted == [True] * 4
    assert await remaining(limiter, limit, "ann") == 2
    for request_id in ("r", "s", "t"):
        last = await limiter.check([(limit, "ann")], request_id=request_id)
    assert not last.allowed


async def test_one_id_for_two_different_checks_counts_both(limiter: RateLimiter) -> None:
    ip, account = Limit.parse("5/minute", name="ip"), Limit.parse("5/minute", name="account")
    await limiter.check([(ip, "ann")], request_id="r")
    decision = await limiter.check([(account, "ann")], request_id="r")
    assert decision.statuses[0].remaining == 4


@every_algorithm
async def test_a_shadow_counts_and_never_refuses(limiter: RateLimiter, algorithm: Algorithm) -> None:
    shadow = Limit.parse("2/day", name="shadow", algorithm=algorithm, shadow=True)
    decisions = [await limiter.check([(shadow, "ann")]) for _ in range(3)]
    assert [d.allowed for d in decisions] == [True, True, True]
    assert [d.statuses[0].admits for d in decisions] == [True, True, False]
    assert decisions[2].refused == ()
    # A cost that the limit would never admit shows as refused, too.
    assert (await limiter.check([(shadow, "ann")], cost=5)).allowed


@every_algorithm
async def test_only_failures_count(limiter: RateLimiter, algorithm: Algorithm) -> None:
    limit = Limit.parse("2/day", name="guesses", algorithm=algorithm, counts="failures")
    for _ in range(3):
        decision = await limiter.check([(limit, "ann")])
        assert decision.statuses[0].remaining == 2
        await limiter.settle(decision, succeeded=True)
    for left in (1, 0):
        decision = await limiter.settle(await limiter.check([(limit, "ann")]), succeeded=False)
        assert decision.statuses[0].remaining == left
        await limiter.settle(decision, succeeded=False)  # settling twice counts once
    assert not (await limiter.check([(limit, "ann")])).allowed


async def test_a_success_gives_the_reserved_units_back_and_no_others(limiter: RateLimiter) -> None:
    reserved = Limit.parse("5/minute", name="reserved", counts="reserved", on_error="local", sensitive=True)
    every = Limit.parse("9/minute", name="every")
    decision = await limiter.check([(reserved, "ann"), (every, "ann")])
    assert [s.remaining for s in decision.statuses] == [4, 8]
    settled = await limiter.settle(decision, succeeded=True)
    assert [s.remaining for s in settled.statuses] == [5, 8]
    assert await remaining(limiter, reserved, "ann") == 5
    await limiter.settle(await limiter.check([(reserved, "ann")]), succeeded=False)
    assert await remaining(limiter, reserved, "ann") == 4


async def test_settling_a_refusal_changes_nothing(limiter: RateLimiter) -> None:
    limit = Limit.parse("1/minute", name="one", counts="reserved")
    await limiter.check([(limit, "ann")])
    refused = await limiter.check([(limit, "ann")])
    assert await limiter.settle(refused, succeeded=True) == refused
    assert await remaining(limiter, limit, "ann") == 0


@every_algorithm
async def test_peek_takes_nothing_and_reset_frees_all(
    redis: Redis, keys: Keys, limiter: RateLimiter, algorithm: Algorithm
) -> None:
    limit = Limit.parse("2/hour", name="peeked", algorithm=algorithm)
    assert (await limiter.peek([(limit, "ann")])).allowed
    assert await all_keys(redis, keys) == {}
    await limiter.check([(limit, "ann")], cost=2)
    peeked = await limiter.peek([(limit, "ann")])
    assert (peeked.allowed, peeked.statuses[0].remaining) == (False, 0)
    assert await limiter.reset([(limit, "ann"), (limit, "bob")]) == 1
    assert await remaining(limiter, limit, "ann") == 2
    assert await limiter.reset([]) == 0


async def test_subjects_are_hashed_and_keys_bounded(redis: Redis, keys: Keys, limiter: RateLimiter) -> None:
    limit = Limit.parse("9/hour", name="by-header")
    subjects = ["", "ann@example.org", "x" * 100_000, "a\r\nb\x00{c}:*", "\ud800", "é"]
    for subject in subjects:
        assert (await limiter.check([(limit, subject)])).statuses[0].remaining == 8
    found = [key for key in await all_keys(redis, keys) if b"by-header" in key]
    assert len(found) == len(subjects)
    assert len({len(key) for key in found}) == 1
    assert not any(b"ann" in key for key in found)


async def test_a_secret_changes_the_hash(redis: Redis, keys: Keys) -> None:
    limit = Limit.parse("9/hour", name="secret")
    for secret in (b"", b"one", b"two" * 50):
        decision = await RateLimiter(redis, keys, secret=secret).check([(limit, "10.0.0.1")])
        assert decision.statuses[0].remaining == 8


@every_algorithm
async def test_every_key_expires_and_shares_one_tag(
    redis: Redis, keys: Keys, limiter: RateLimiter, algorithm: Algorithm
) -> None:
    limit = Limit.parse("9/minute", name="ttl", algorithm=algorithm, counts="reserved")
    decision = await limiter.check([(limit, "ann"), (Limit.parse("9/hour", name="b", algorithm=algorithm), "ann")])
    await limiter.settle(decision, succeeded=True)
    await limiter.check([(limit, "ann")])
    names = list(await all_keys(redis, keys))
    assert len(names) == 4
    for name in names:
        assert name.startswith(b"{%s:limit}:" % keys.namespace.encode())
        assert 0 < await redis.pttl(name) <= 2 * 3600_000 + 1000


async def test_limits_that_are_the_same_are_a_mistake(limiter: RateLimiter) -> None:
    charges = [(Limit.parse(text, name="same"), "ann") for text in ("5/minute", "9/minute")]
    with pytest.raises(ValueError, match="another name"):
        await limiter.check(charges)


async def test_a_redefined_limit_starts_anew(limiter: RateLimiter) -> None:
    for algorithm in ALGORITHMS:
        for window in ("minute", "hour"):
            limit = Limit.parse(f"2/{window}", name="redefined", algorithm=algorithm)
            assert (await limiter.check([(limit, "ann")])).statuses[0].remaining == 1


@every_algorithm
async def test_a_plan_may_change_the_amount(limiter: RateLimiter, algorithm: Algorithm) -> None:
    paid, free = [Limit.parse(text, name="plan", algorithm=algorithm) for text in ("10/hour", "4/hour")]
    await limiter.check([(paid, "ann")], cost=8)
    refused = await limiter.check([(free, "ann")])
    assert not refused.allowed
    assert refused.statuses[0].remaining == 0
    assert refused.retry_after_seconds <= 7200
    assert not (await limiter.peek([(free, "ann")])).allowed
    assert (await limiter.check([(free, "ann")], cost=0)).allowed


async def test_no_limits_ask_nothing(limiter: RateLimiter) -> None:
    assert (await limiter.check([])).allowed
