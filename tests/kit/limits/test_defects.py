"""Redis answers, but refuses the limiter's script: a defect is counted and logged, and each limit does as it says."""

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit import scripts
from app.kit.client import errors
from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.limit import Limit, OnError
from app.kit.limits.limiter import RateLimiter
from app.kit.telemetry import NoTelemetry
from tests.deployments import redis_cli
from tests.services import RedisServer

pytestmark = pytest.mark.server

OUTCOMES: tuple[OnError, ...] = ("open", "closed", "local")
LIMITS = {on_error: Limit.parse("1/minute", name=on_error, on_error=on_error) for on_error in OUTCOMES}
RESERVED = Limit.parse("5/minute", name="reserved", counts="reserved")


class Counted(NoTelemetry):
    def __init__(self) -> None:
        self.found: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.found[name, *labels.values()] += int(amount)


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect that another test has met is logged here anew."""
    monkeypatch.setattr(errors, "_logged", set())


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def client(own_server: RedisServer) -> AsyncIterator[Redis]:
    """Of a user who may do everything, until a test takes something away."""
    redis_cli(own_server.port, "acl", "setuser", "app", "on", ">s3cret", "~*", "&*", "+@all")
    redis = connect(own_server.url.replace("//", "//app:s3cret@"), name="test", timeout_seconds=5)
    yield redis
    await redis.aclose()


@pytest.fixture
def limiter(client: Redis, keys: Keys, counted: Counted) -> RateLimiter:
    return RateLimiter(client, keys, telemetry=counted)


def defects(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


async def assert_fails_as_declared(limiter: RateLimiter, counted: Counted, caplog: pytest.LogCaptureFixture) -> None:
    before = Counter(counted.found)
    found = {name: [await limiter.check([(limit, "ann")]) for _ in range(2)] for name, limit in LIMITS.items()}
    assert [(d.allowed, d.statuses) for d in found["open"]] == [(True, ()), (True, ())]
    assert [(d.allowed, d.unavailable) for d in found["closed"]] == [(False, True), (False, True)]
    assert [(d.allowed, d.local) for d in found["local"]] == [(True, True), (False, True)]
    assert counted.found - before == {
        ("redis_defects", "limits"): 6,
        ("rate_limit", "open", "failed_open"): 2,
        ("rate_limit", "closed", "failed_closed"): 2,
        ("rate_limit", "local", "local"): 2,
        ("rate_limit", "local", "allowed"): 1,
        ("rate_limit", "local", "denied"): 1,
    }
    [record] = defects(caplog)
    assert record.levelno == logging.ERROR
    # Redis answers all the time: no line says otherwise.
    assert "unavailable" not in caplog.text


async def test_a_user_who_may_not_run_scripts(
    own_server: RedisServer, limiter: RateLimiter, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    redis_cli(own_server.port, "acl", "setuser", "app", "-evalsha")
    await assert_fails_as_declared(limiter, counted, caplog)
    assert "NOPERM" in caplog.text or "no permissions" in caplog.text
    redis_cli(own_server.port, "acl", "setuser", "app", "+evalsha")
    assert not (await limiter.check([(LIMITS["local"], "ann")])).local


async def test_a_script_that_is_broken(
    limiter: RateLimiter, counted: Counted, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "return redis.call('TIME')[1] + nothing"
    sha = hashlib.sha1(broken.encode(), usedforsecurity=False).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(scripts, "_source", lambda name: (broken, sha))
        await assert_fails_as_declared(limiter, counted, caplog)
    assert not (await limiter.check([(LIMITS["local"], "ann")])).local


async def test_units_that_a_defect_keeps_from_being_given_back(
    own_server: RedisServer, limiter: RateLimiter, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    taken = await limiter.check([(RESERVED, "ann")])
    redis_cli(own_server.port, "acl", "setuser", "app", "-evalsha")
    for _ in range(2):
        assert (await limiter.settle(taken, succeeded=True)).statuses[0].remaining == 4
    assert counted.found["redis_defects", "limits"] == counted.found["rate_limit", "reserved", "refund_lost"] == 2
    assert len(defects(caplog)) == 1


async def test_a_key_of_another_type(client: Redis, limiter: RateLimiter, counted: Counted) -> None:
    """The script itself meets an error of Redis."""
    await limiter.check([(LIMITS["closed"], "ann")])
    [key] = [key async for key in client.scan_iter(match="*closed/*")]
    await client.delete(key)
    await client.hset(key, "field", "value")
    assert (await limiter.check([(LIMITS["closed"], "ann")])).unavailable
    with pytest.raises(RedisError, match="WRONGTYPE"):
        await limiter.peek([(LIMITS["closed"], "ann")])
    assert counted.found["redis_defects", "limits"] == 1
