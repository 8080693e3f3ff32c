"""Revocations: what has ended is told to every process, and a lost connection is no silent gap."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys, digest
from app.kit.sessions.revocation import Revocation, Revocations
from app.kit.sessions.store import SessionStore
from app.kit.supervisor import supervised
from app.kit.telemetry import NoTelemetry
from tests.kit.sessions.test_store import Counts
from tests.services import RedisServer
from tests.waiting import eventually


class Listener:
    """Keeps what it is told; "check" for may_have_missed()."""

    def __init__(self) -> None:
        self.told: list[Revocation | str] = []

    def revoked(self, revocation: Revocation) -> None:
        self.told.append(revocation)

    def may_have_missed(self) -> None:
        self.told.append("check")


def store_on(redis: Redis, keys: Keys) -> SessionStore:
    return SessionStore(redis, keys, idle_seconds=3600, absolute_seconds=86_400, max_per_user=3)


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


@pytest.fixture
async def listener(redis: Redis, keys: Keys) -> AsyncIterator[Listener]:
    """Connected, with what it was told of that forgotten."""
    listener = Listener()
    async with supervised("revocations", lambda: Revocations(redis, keys, listener), telemetry=NoTelemetry()):
        await eventually(lambda: listener.told == ["check"])
        listener.told.clear()
        yield listener


async def told(listener: Listener, *expected: Revocation) -> None:
    """It is told this, in this order, and nothing else."""
    await eventually(lambda: len(listener.told) >= len(expected))
    assert listener.told == list(expected)
    listener.told.clear()


async def test_each_end_of_a_users_session_is_told(listener: Listener, store: SessionStore) -> None:
    one, two, three = [await store.create({}, channel="header", user_id=7) for _ in range(3)]
    ended = one.public_id
    assert await store.delete(one.id)
    assert await store.end(7, two.public_id)
    await told(listener, Revocation(7, ended), Revocation(7, two.public_id))
    old = three.public_id
    assert await store.rotate(three)
    await told(listener, Revocation(7, old))
    assert await store.end_all(7) == 1
    await told(listener, Revocation(7, three.public_id))


async def test_the_session_that_is_kept_is_not_told(listener: Listener, store: SessionStore) -> None:
    kept, other = [await store.create({}, channel="header", user_id=7) for _ in range(2)]
    assert await store.end_all(7, keep=kept.public_id) == 1
    await told(listener, Revocation(7, other.public_id))


async def test_the_end_beyond_the_cap_and_at_a_login_are_told(listener: Listener, store: SessionStore) -> None:
    records = [await store.create({}, channel="header", user_id=7) for _ in range(4)]
    await eventually(lambda: listener.told)
    [first] = listener.told
    assert first in [Revocation(7, record.public_id) for record in records]
    listener.told.clear()
    browser = await store.create({}, channel="cookie", user_id=8)
    assert await store.take(browser)
    await told(listener, Revocation(8, browser.public_id))


async def test_what_ends_nothing_and_visitors_tell_nothing(listener: Listener, store: SessionStore) -> None:
    visitor = await store.create({"a": 1}, channel="cookie")
    await store.rotate(visitor)
    await store.delete(visitor.id)
    assert await store.delete(visitor.id) is False
    assert await store.end_all(7) == 0
    # Told after all of that.
    await store.revoke(Revocation(7))
    await told(listener, Revocation(7))


async def test_keys_and_whole_accounts_are_told(listener: Listener, store: SessionStore) -> None:
    for revocation in (Revocation(7, digest("qk_key")), Revocation(2**63 - 1)):
        await store.revoke(revocation)
        await told(listener, revocation)


@pytest.mark.parametrize("junk", [b"", b"7", b"7 ", b"* *", b"7 **", b"-7 *", b"7 abc", b"\xff 7", b"7 *\n"])
async def test_what_is_no_revocation_is_skipped(
    listener: Listener, store: SessionStore, redis: Redis, keys: Keys, junk: bytes
) -> None:
    await redis.publish(keys.revocations(), junk)
    await store.revoke(Revocation(7))
    await told(listener, Revocation(7))


@pytest.mark.server
async def test_every_connection_begins_with_a_check(real_redis: Redis, keys: Keys) -> None:
    own = Listener()
    async with supervised("revocations", lambda: Revocations(real_redis, keys, own), telemetry=NoTelemetry()):
        await eventually(lambda: own.told == ["check"])
        await real_redis.client_kill_filter(_type="pubsub")
        await eventually(lambda: own.told == ["check", "check"])
        await store_on(real_redis, keys).revoke(Revocation(7))
        await eventually(lambda: own.told[2:] == [Revocation(7)])


@pytest.mark.server
async def test_an_outage_is_one_line_in_the_log(
    own_server: RedisServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    own, counts = Listener(), Counts()
    redis = connect(own_server.url, name="test", timeout_seconds=5)
    async with supervised(
        "revocations", lambda: Revocations(redis, keys, own, telemetry=counts), telemetry=NoTelemetry()
    ):
        for outage in (1, 2):
            await eventually(lambda: own.told == ["check"] * outage)  # noqa: B023  awaited here
            own_server.kill()
            failures = counts.values.get(("redis_outages", "sessions"), 0)
            await eventually(lambda: counts.values.get(("redis_outages", "sessions"), 0) >= failures + 3)  # noqa: B023
            own_server.start()
            lines = [each for each in caplog.messages if each.startswith("the revocations' connection")]
            assert len(lines) == outage
    await redis.aclose()


async def test_a_listener_that_fails_is_a_defect_and_starts_over(store: SessionStore, redis: Redis, keys: Keys) -> None:
    class Failing(Listener):
        def revoked(self, revocation: Revocation) -> None:
            raise ZeroDivisionError

    listener = Failing()
    run = asyncio.create_task(Revocations(redis, keys, listener).run())
    await eventually(lambda: listener.told == ["check"])
    await store.revoke(Revocation(7))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(run, 10)
