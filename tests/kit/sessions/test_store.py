"""Sessions in Redis: what is kept, for how long, and who may still write when another request ends them."""

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.kit.client.connect import connect
from app.kit.client.errors import UNAVAILABLE
from app.kit.client.standalone import PipelinedRedis
from app.kit.keys import Keys, digest
from app.kit.sessions.codec import changed_fields
from app.kit.sessions.record import SessionRecord, bucket_for
from app.kit.sessions.scripts import SessionScripts
from app.kit.sessions.store import SessionsEnded, SessionStore
from app.kit.sessions.values import SessionTooLarge, Unstorable
from app.kit.telemetry import NoTelemetry
from tests.deployments import RedisCluster
from tests.services import free_port
from tests.waiting import eventually

JUNK_IDS = [
    "",
    "abc",
    "a" * 47,
    f"abc.{'a' * 42}",
    f"abc.{'a' * 44}",
    f"ABC.{'a' * 43}",
    f"abc.{'a' * 42}\n",
    f"abc.{'a' * 43}\n",
    f"abc.{'ä' * 43}",
    f"٠١٢.{'a' * 43}",
    f"}}{{x.{'a' * 43}",
    "../../etc/passwd",
    "\x00" * 47,
    "*" * 100_000,
]


class Counts:
    """Collects counters by name and labels."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        key = (name, *labels.values())
        self.values[key] = self.values.get(key, 0) + amount

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        return None

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        return None


class Repeating:
    """Sends each script twice, as a client does whose first reply was lost."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        await self._redis.execute_command(*args, **options)
        return await self._redis.execute_command(*args, **options)


def store_on(redis: Redis, keys: Keys, **options: Any) -> SessionStore:
    return SessionStore(redis, keys, **{"idle_seconds": 3600, "absolute_seconds": 86_400, **options})


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


async def all_keys(redis: Redis, keys: Keys) -> list[str]:
    return [key.decode() async for key in redis.scan_iter(match=f"*{keys.namespace}:*")]


def key_of(keys: Keys, record: SessionRecord) -> str:
    return keys.session(record.id[:3], digest(record.id))


async def again(store: SessionStore, record: SessionRecord) -> SessionRecord:
    """The session as another request reads it."""
    found = await store.get(record.id, channel=record.channel)
    assert found is not None
    return found


async def is_live(store: SessionStore, record: SessionRecord) -> bool:
    return await store.get(record.id, channel=record.channel) is not None


async def test_values_come_back_as_they_went(store: SessionStore) -> None:
    data = {
        "empty": [],
        "map": {},
        "large": 2**62 + 1,
        "none": None,
        "text": "naïve \u2028 €",
        "nested": {"a": [1.5, True]},
    }
    record = await store.create(data, channel="cookie")
    assert record.data == data
    assert (await again(store, record)).data == data


async def test_a_record_says_whose_it_is_and_since_when(store: SessionStore) -> None:
    began = time.time()
    record = await again(
        store,
        await store.create({}, channel="header", user_id=7, metadata={"ip": "192.0.2.1", "user_agent": "x" * 999}),
    )
    assert (record.user_id, record.channel) == (7, "header")
    assert record.created_at == record.last_activity == pytest.approx(began, abs=5)
    assert record.expires_at == pytest.approx(began + 3600, abs=5)
    assert record.metadata == {"ip": "192.0.2.1", "user_agent": "x" * 256}


async def test_ids_are_unlike_each_other(store: SessionStore) -> None:
    records = [await store.create({}, channel="cookie", user_id=7) for _ in range(10)]
    assert len({record.id for record in records}) == 10
    assert all(len(record.id) == 47 for record in records)


@pytest.mark.parametrize("junk", JUNK_IDS)
async def test_junk_is_no_session_and_redis_is_not_asked(keys: Keys, junk: str) -> None:
    # Nothing listens there: whatever asked would fail.
    nowhere = connect(f"redis://127.0.0.1:{free_port()}", name="test", timeout_seconds=5)
    counts = Counts()
    store = store_on(nowhere, keys, telemetry=counts)
    assert await store.get(junk, channel="cookie") is None
    assert await store.delete(junk) is False
    assert await store.end(1, junk) is False
    assert counts.values == {("session_rejected", "malformed"): 1}
    await nowhere.aclose()


async def test_an_id_that_was_never_given_is_no_session(store: SessionStore) -> None:
    assert await store.get(f"abc.{'a' * 43}", channel="header") is None


async def test_an_id_of_one_channel_is_nothing_in_the_other(store: SessionStore) -> None:
    cookie = await store.create({}, channel="cookie", user_id=1)
    header = await store.create({}, channel="header", user_id=1)
    assert await store.get(cookie.id, channel="header") is None
    assert await store.get(header.id, channel="cookie") is None
    assert await is_live(store, cookie)
    assert await is_live(store, header)


async def test_parallel_writers_of_different_fields_both_survive(store: SessionStore) -> None:
    record = await store.create({"a": 0, "b": 0, "gone": 0}, channel="cookie")
    one, two = await again(store, record), await again(store, record)
    saves = (store.save(one, changed={"a": 1}, removed={"gone"}), store.save(two, changed={"b": 2}, removed=()))
    assert all(await asyncio.gather(*saves))
    assert (await again(store, record)).data == {"a": 1, "b": 2}


async def test_nested_changes_are_changes(store: SessionStore) -> None:
    record = await again(store, await store.create({"cart": {"1": 2}, "same": [1], "old": 1}, channel="cookie"))
    assert changed_fields(record) == ({}, set())
    record.data["cart"]["1"] = 3
    record.data["new"] = None
    del record.data["old"]
    changed, removed = changed_fields(record)
    assert (changed, removed) == ({"cart": {"1": 3}, "new": None}, {"old"})
    assert await store.save(record, changed=changed, removed=removed)
    assert changed_fields(record) == ({}, set())
    assert (await again(store, record)).data == {"cart": {"1": 3}, "same": [1], "new": None}


async def test_a_slow_request_never_revives_what_has_ended(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=5)
    slow = await again(store, record)
    assert await store.delete(record.id) is True
    assert await store.delete(record.id) is False
    assert await store.save(slow, changed={"a": 2}, removed=()) is False
    assert await store.rotate(slow) is False
    await store_on(redis, keys, touch_after_seconds=0).touch(slow)
    # What is left remembers that the call has been answered, and goes within a minute.
    assert all(":call:" in key for key in await all_keys(redis, keys))


async def test_data_cannot_reach_what_the_store_keeps(store: SessionStore) -> None:
    data = {"user": 1, "channel": "header", "deadline": 0, "expires": 0, "m:ip": "x", "d:a": 1, "": 0, "created": "x"}
    record = await again(store, await store.create(data, channel="cookie", user_id=3, metadata={"ip": "::1"}))
    assert (record.user_id, record.channel, record.data, record.metadata) == (3, "cookie", data, {"ip": "::1"})
    assert await store.save(record, changed={"user": 2}, removed={"channel", "deadline"})
    found = await again(store, record)
    assert (found.user_id, found.channel) == (3, "cookie")


async def test_a_new_id_keeps_the_session(store: SessionStore) -> None:
    record = await store.create({"a": 1}, channel="header", user_id=4)
    slow = copy.copy(record)
    assert await store.rotate(record) is True
    assert record.id != slow.id
    assert not await is_live(store, slow)
    assert await store.save(slow, changed={"a": 2}, removed=()) is False
    found = await again(store, record)
    assert (found.data, found.created_at, found.expires_at) == ({"a": 1}, slow.created_at, slow.expires_at)
    assert [info.public_id for info in await store.list(4)] == [record.public_id]
    assert await store.end_all(4) == 1
    assert not await is_live(store, record)


async def test_a_visitors_id_rotates_too(store: SessionStore) -> None:
    record = await store.create({"a": 1}, channel="cookie")
    old = record.id
    assert await store.rotate(record)
    assert await store.get(old, channel="cookie") is None
    assert (await again(store, record)).data == {"a": 1}


@pytest.mark.parametrize("user_id", [None, 1])
async def test_a_session_is_taken_when_the_caller_has_all_of_it(store: SessionStore, user_id: int | None) -> None:
    other = await store.create({}, channel="cookie", user_id=1)
    record = await store.create({"a": 1, "b": [2]}, channel="cookie", user_id=user_id)
    reader = await again(store, record)
    assert await store.save(record, changed={"a": 3, "c": 4}, removed={"b"})
    assert not await store.take(reader)
    assert (reader.data, reader.stored) == ({"a": 3, "c": 4}, record.stored)
    assert await is_live(store, record)
    assert await store.take(reader)
    assert not await is_live(store, record)
    assert not await store.save(record, changed={"a": 5}, removed=())
    assert [info.public_id for info in await store.list(1)] == [other.public_id]


async def test_the_second_who_takes_a_session_gets_what_it_held(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({"a": 1}, channel="cookie")
    late = await again(store, record)
    assert await store.save(record, changed={"a": 2}, removed=())
    assert await store.take(record)
    assert not await store.take(late)
    assert late.data == {"a": 2}
    assert await store.take(late)
    [left] = await all_keys(redis, keys)
    assert record.id.partition(".")[2] not in left
    assert 0 < await redis.pttl(left) <= 60_000


async def test_of_what_has_ended_nothing_is_taken(store: SessionStore) -> None:
    for user_id in (None, 1):
        record = await store.create({"a": 1}, channel="cookie", user_id=user_id)
        reader = await again(store, record)
        assert await store.save(record, changed={"a": 2}, removed=())
        assert await store.delete(record.id)
        assert await store.take(reader)
        assert reader.data == {"a": 1}


async def test_what_cannot_be_read_is_not_taken(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    for junk, reason in ((b"{", "corrupt"), (b'"' + b"x" * 70_000 + b'"', "too_large")):
        record = await store.create({"a": 1}, channel="cookie")
        await redis.hset(key_of(keys, record), "d:a", junk)
        assert await store.take(record)
        assert not await is_live(store, record)
        assert counts.values.pop(("session_rejected", reason)) == 1


async def test_idle_sessions_end_and_active_ones_go_on(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, idle_seconds=1, touch_after_seconds=0)
    idle, active = [await store.create({}, channel="cookie", user_id=1) for _ in range(2)]

    async def ended() -> bool:
        await store.touch(active)
        return not await is_live(store, idle)

    await eventually(ended)
    assert time.time() - idle.created_at >= 0.99
    assert await is_live(store, active)
    assert [info.public_id for info in await store.list(1)] == [active.public_id]


async def test_no_activity_outlives_the_absolute_deadline(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, idle_seconds=10, absolute_seconds=0.3, touch_after_seconds=0)
    record = await store.create({"n": 0}, channel="cookie", user_id=1)
    assert record.expires_at == pytest.approx(record.created_at + 0.3)

    async def ended() -> bool:
        await store.touch(record)
        assert record.expires_at == pytest.approx(record.created_at + 0.3)
        return not await store.save(record, changed={"n": 1}, removed=())

    await eventually(ended, seconds=2)
    assert await store.list(1) == []


async def test_saving_slides_the_expiry(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys)
    record = await store.create({}, channel="cookie", user_id=1)
    await redis.pexpire(key_of(keys, record), 1000)
    assert await store.save(record, changed={"a": 1}, removed=())
    assert await redis.pttl(key_of(keys, record)) > 3_000_000
    assert record.last_activity >= record.created_at


async def test_a_recent_session_is_not_touched(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({}, channel="cookie")
    await redis.pexpire(key_of(keys, record), 1000)
    assert not store.needs_touch(record)
    await store.touch(record)
    assert await redis.pttl(key_of(keys, record)) <= 1000
    record.last_activity -= 61
    assert store.needs_touch(record)
    await store.touch(record)
    assert await redis.pttl(key_of(keys, record)) > 3_000_000
    assert not store.needs_touch(record)


async def test_a_clock_that_is_wrong_touches_too_often_rather_than_never(store: SessionStore) -> None:
    record = await store.create({}, channel="cookie")
    record.last_activity += 7200
    assert store.needs_touch(record)


async def test_a_user_sees_and_ends_their_sessions(store: SessionStore) -> None:
    phone = await store.create({}, channel="header", user_id=1, metadata={"ip": "192.0.2.1", "user_agent": "phone"})
    desk = await store.create({}, channel="cookie", user_id=1)
    other = await store.create({}, channel="cookie", user_id=2)
    await store.save(phone, changed={}, removed=())
    infos = await store.list(1)
    assert {info.public_id for info in infos} == {phone.public_id, desk.public_id}
    assert [(info.ip, info.user_agent) for info in infos if info.public_id == phone.public_id] == [
        ("192.0.2.1", "phone")
    ]
    assert not any(record.id in repr(infos) for record in (phone, desk))
    assert await store.end(1, other.public_id) is False
    assert await store.end(1, phone.public_id) is True
    assert await store.end(1, phone.public_id) is False
    assert [info.public_id for info in await store.list(1)] == [desk.public_id]
    assert await is_live(store, other)


async def test_nobody_ends_the_session_of_another_user_in_the_same_bucket(store: SessionStore) -> None:
    neighbour = next(user_id for user_id in itertools.count(2) if bucket_for(user_id) == bucket_for(1))
    record = await store.create({}, channel="cookie", user_id=neighbour)
    assert await store.end(1, record.public_id) is False
    assert await is_live(store, record)
    assert await store.end(neighbour, record.public_id) is True


async def test_a_rotated_id_leaves_nothing_in_the_index(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({}, channel="cookie", user_id=1)
    await store.rotate(record)
    assert await redis.zrange(keys.session_index(key_bucket(record), 1), 0, -1) == [record.public_id.encode()]


async def save(store: SessionStore, record: SessionRecord) -> bool:
    return await store.save(record, changed={"a": 1}, removed=())


async def touch(store: SessionStore, record: SessionRecord) -> bool:
    record.last_activity = 0
    await store.touch(record)
    return await is_live(store, record)


async def rotate(store: SessionStore, record: SessionRecord) -> bool:
    return await store.rotate(record)


Write = Callable[[SessionStore, SessionRecord], Awaitable[bool]]


@pytest.mark.parametrize("write", [save, touch, rotate])
async def test_a_session_that_its_index_has_lost_ends(
    store: SessionStore, redis: Redis, keys: Keys, write: Write
) -> None:
    """The end of all sessions would not reach it."""
    record = await store.create({}, channel="cookie", user_id=1)
    await redis.delete(keys.session_index(key_bucket(record), 1))
    assert not await write(store, record)
    assert not await is_live(store, record)
    assert await all_keys(redis, keys) == []


async def test_the_index_of_one_session_keeps_its_end_when_the_id_rotates(
    store: SessionStore, redis: Redis, keys: Keys
) -> None:
    record = await store.create({}, channel="cookie", user_id=1)
    assert await store.rotate(record)
    assert await redis.pttl(keys.session_index(key_bucket(record), 1)) > 86_000_000


async def test_the_last_active_session_is_listed_first(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, touch_after_seconds=0)
    first, second = [await store.create({}, channel="cookie", user_id=1) for _ in range(2)]

    async def first_is_newer() -> bool:
        await store.touch(first)
        return first.last_activity > second.last_activity

    await eventually(first_is_newer)
    assert [info.public_id for info in await store.list(1)] == [first.public_id, second.public_id]


async def test_beyond_the_cap_the_oldest_ends(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, max_per_user=3, touch_after_seconds=0)
    records = []
    for _ in range(3):
        records.append(await store.create({}, channel="header", user_id=1))
        # The oldest is told by the millisecond.
        await eventually(lambda: time.time() > records[-1].last_activity + 0.002)
    await store.touch(records[0])
    records.append(await store.create({}, channel="header", user_id=1))
    assert [await is_live(store, record) for record in records] == [True, False, True, True]
    assert len(await store.list(1)) == 3


async def test_ending_all_may_keep_one(store: SessionStore) -> None:
    records = [await store.create({}, channel="header", user_id=1) for _ in range(4)]
    other = await store.create({}, channel="header", user_id=2)
    assert await store.end_all(1, keep=records[2].public_id) == 3
    assert [await is_live(store, record) for record in records] == [False, False, True, False]
    assert await store.end_all(1) == 1
    assert await store.end_all(1) == 0
    assert await is_live(store, other)


async def test_ending_all_refuses_the_logins_under_way(store: SessionStore) -> None:
    before = await store.epoch(1)
    await store.end_all(1)
    with pytest.raises(SessionsEnded):
        await store.create({}, channel="header", user_id=1, epoch=before)
    await store.create({}, channel="header", user_id=2, epoch=before)
    after = await store.epoch(1)
    assert after != before
    await store.create({}, channel="header", user_id=1, epoch=after)
    assert len(await store.list(1)) == 1


async def test_an_expired_epoch_refuses_nobody(store: SessionStore, redis: Redis, keys: Keys) -> None:
    await store.end_all(1)
    epoch = await store.epoch(1)
    await redis.delete(keys.session_epoch(key_bucket(await store.create({}, channel="header", user_id=1)), 1))
    assert await is_live(store, await store.create({}, channel="header", user_id=1, epoch=epoch))


def key_bucket(record: SessionRecord) -> str:
    return record.id[:3]


@pytest.mark.parametrize("login_first", [True, False])
async def test_a_login_beside_end_all_leaves_no_live_session(store: SessionStore, login_first: bool) -> None:
    made: list[SessionRecord] = []

    async def log_in(epoch: str) -> None:
        try:
            made.append(await store.create({}, channel="header", user_id=1, epoch=epoch))
        except SessionsEnded:
            return

    for _ in range(20):
        # Read before the password is checked, as a login does.
        logins = [log_in(await store.epoch(1)) for _ in range(3)]
        calls = [*logins, store.end_all(1)] if login_first else [store.end_all(1), *logins]
        await asyncio.gather(*calls)
        assert await store.list(1) == []
    assert [await is_live(store, record) for record in made] == [False] * len(made)


async def test_what_cannot_be_read_is_no_session(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    broken: list[Mapping[str | bytes, bytes | str]] = [
        {"d:a": b"{"},
        {"d:a": b""},
        {"d:a": b"\xff"},
        {"d:a": b"[" * 50_000},
        {"d:a": b'{"$":"pickle","of":"x"}'},
        {"d:a": b'{"$":"set","of":[[]]}'},
        {"d:a": b'{"$":"UUID","of":7}'},
        {b"d:\xff": b"1"},
        {"channel": "pigeon"},
        {"user": "x"},
        {"created": "soon"},
        {"m:ip": b"\xff"},
    ]
    for fields in broken:
        record = await store.create({"a": 1}, channel="cookie", user_id=1)
        await redis.hset(key_of(keys, record), mapping=cast(Any, fields))
        assert not await is_live(store, record), fields
    lacking = await store.create({}, channel="cookie")
    await redis.hdel(key_of(keys, lacking), "expires")
    assert not await is_live(store, lacking)
    assert counts.values == {("session_rejected", "corrupt"): len(broken) + 1}


async def text_at(redis: Redis, key: str) -> None:
    await redis.set(key, "text")


async def list_at(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.rpush(key, "item")


async def hash_at(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.hset(key, "field", "value")


Foreign = Callable[[Redis, str], Awaitable[None]]


@pytest.mark.parametrize("write", [save, touch, rotate])
@pytest.mark.parametrize("foreign", [text_at, list_at])
async def test_a_record_of_another_type_is_no_session(redis: Redis, keys: Keys, foreign: Foreign, write: Write) -> None:
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    record, other = [await store.create({}, channel="cookie", user_id=1) for _ in range(2)]
    await foreign(redis, key_of(keys, record))
    assert not await is_live(store, record)
    assert counts.values == {("session_rejected", "wrong_type"): 1}
    assert not await write(store, record)
    assert counts.values[("session_rejected", "wrong_type")] == 2
    assert not await redis.exists(key_of(keys, record))
    assert [info.public_id for info in await store.list(1)] == [other.public_id]


@pytest.mark.parametrize("foreign", [text_at, list_at])
async def test_a_record_of_another_type_ends_in_each_way(redis: Redis, keys: Keys, foreign: Foreign) -> None:
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)

    async def spoilt() -> SessionRecord:
        record = await store.create({}, channel="cookie", user_id=1)
        await foreign(redis, key_of(keys, record))
        return record

    assert not await store.delete((await spoilt()).id)
    assert not await store.end(1, (await spoilt()).public_id)
    await store.create({}, channel="cookie", user_id=1)
    assert await store.take(await spoilt())
    assert counts.values == {("session_rejected", "wrong_type"): 3}
    await spoilt()
    assert len(await store.list(1)) == 1
    assert counts.values == {("session_rejected", "wrong_type"): 4}
    await spoilt()
    assert await store.end_all(1) == 2
    assert await store.list(1) == []


@pytest.mark.parametrize("foreign", [text_at, list_at, hash_at])
async def test_an_index_of_another_type_is_made_anew(redis: Redis, keys: Keys, foreign: Foreign) -> None:
    """Each call goes on, and what the old index listed ends at its next write."""
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    index = keys.session_index(bucket_for(1), 1)

    async def before() -> SessionRecord:
        record = await store.create({}, channel="cookie", user_id=1)
        await foreign(redis, index)
        return record

    calls: list[Callable[[SessionRecord], Awaitable[object]]] = [
        lambda _record: store.create({}, channel="header", user_id=1),
        lambda _record: store.list(1),
        lambda _record: store.end_all(1),
        lambda record: store.delete(record.id),
        lambda record: store.end(1, record.public_id),
        lambda record: save(store, record),
        lambda record: rotate(store, record),
        lambda record: touch(store, record),
    ]
    for number, call in enumerate(calls, start=1):
        record = await before()
        await call(record)
        assert counts.values["session_rejected", "wrong_type"] == number
        assert not await save(store, record)
        assert not await is_live(store, record)
    record = await store.create({}, channel="header", user_id=1)
    assert record.public_id in [info.public_id for info in await store.list(1)]
    assert await redis.pttl(index) > 86_000_000


@pytest.mark.parametrize("foreign", [list_at, hash_at])
async def test_an_epoch_of_another_type_refuses_one_login(redis: Redis, keys: Keys, foreign: Foreign) -> None:
    """It may have been a new one, so the logins under way are refused; the next has an epoch."""
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    await store.end_all(1)
    before = await store.epoch(1)
    await foreign(redis, keys.session_epoch(bucket_for(1), 1))
    assert await store.epoch(1) == ""
    for epoch in (before, "", before):
        with pytest.raises(SessionsEnded):
            await store.create({}, channel="header", user_id=1, epoch=epoch)
    assert counts.values == {("session_rejected", "wrong_type"): 2}
    await store.create({}, channel="header", user_id=1, epoch=await store.epoch(1))
    assert 0 < await redis.pttl(keys.session_epoch(bucket_for(1), 1)) <= 3_600_000
    await foreign(redis, keys.session_epoch(bucket_for(1), 1))
    assert await store.end_all(1) == 1


async def test_a_script_that_fails_otherwise_is_a_defect(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({}, channel="cookie", user_id=1)
    with pytest.raises(ResponseError, match="arguments must be strings"):
        await SessionScripts(redis, NoTelemetry()).run("list", keys=[], args=[record.id])


JUNK_TIMES = [b"", b"soon", b"-1", b"1.5", b"0x10", b"1e999", b"9" * 15, b"9" * 5000, "١".encode()]


@pytest.mark.parametrize("junk", JUNK_TIMES, ids=lambda junk: repr(junk[:8]))
async def test_times_that_are_none_make_no_session(redis: Redis, keys: Keys, junk: bytes) -> None:
    store = store_on(redis, keys)
    good = await store.create({}, channel="cookie", user_id=1)
    for name in ("created", "active", "expires"):
        record = await store.create({}, channel="cookie", user_id=1)
        await redis.hset(key_of(keys, record), name, junk)
        assert not await is_live(store, record)
        listed = [info.public_id for info in await store.list(1)]
        assert good.public_id in listed
        assert (record.public_id in listed) == (name == "expires")
        if name == "expires":
            assert not await store.rotate(record)
    record = await store.create({}, channel="cookie", user_id=1)
    await redis.hset(key_of(keys, record), "deadline", junk)
    assert not await save(store, record)


async def test_metadata_that_is_no_text_is_not_listed(redis: Redis, keys: Keys) -> None:
    counts = Counts()
    store = store_on(redis, keys, telemetry=counts)
    good, bad = [await store.create({}, channel="cookie", user_id=1, metadata={"ip": "::1"}) for _ in range(2)]
    await redis.hset(key_of(keys, bad), "m:ip", b"\xff")
    assert [info.public_id for info in await store.list(1)] == [good.public_id]
    assert counts.values == {("session_rejected", "corrupt"): 1}


async def test_a_huge_record_is_no_session(store: SessionStore, redis: Redis, keys: Keys) -> None:
    record = await store.create({}, channel="cookie")
    await redis.hset(key_of(keys, record), "d:a", b'"' + b"x" * 200_000 + b'"')
    assert not await is_live(store, record)


@pytest.mark.parametrize(
    "value", [object(), "\ud800", {(1, 2): 3}, "x" * 70_000], ids=["object", "surrogate", "key", "size"]
)
async def test_what_is_not_json_or_too_large_is_not_stored(store: SessionStore, value: Any) -> None:
    with pytest.raises(Unstorable):
        await store.create({"bad": value}, channel="cookie")
    record = await store.create({"a": 1}, channel="cookie")
    with pytest.raises(Unstorable):
        await store.save(record, changed={"bad": value}, removed=())
    assert (await again(store, record)).data == {"a": 1}


async def test_parallel_writers_do_not_exceed_the_limit_together(store: SessionStore) -> None:
    record = await store.create({"a": 1}, channel="cookie")
    copies = [await again(store, record) for _ in range(5)]
    saves = [store.save(copy, changed={f"f{n}": "x" * 30_000}, removed=()) for n, copy in enumerate(copies)]
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert results.count(True) == 2
    assert [type(result) for result in results if result is not True] == [SessionTooLarge] * 3
    found = await again(store, record)
    # What is there may be replaced by less, and removed.
    assert await store.save(found, changed=dict.fromkeys(found.data, ""), removed=())
    assert await store.save(found, changed={}, removed=set(found.data))
    assert (await again(store, record)).data == {}


async def test_a_field_name_that_is_no_text_is_not_stored(store: SessionStore) -> None:
    for name in ("\ud800", 1):
        with pytest.raises(Unstorable):
            await store.create(cast(Any, {name: 1}), channel="cookie")


async def test_many_small_fields_are_too_large_together(store: SessionStore) -> None:
    record = await store.create({f"a{n}": "x" * 1000 for n in range(60)}, channel="cookie")
    with pytest.raises(Unstorable):
        await store.save(record, changed={f"b{n}": "x" * 1000 for n in range(60)}, removed=())
    replaced = {f"b{n}": "x" * 1000 for n in range(60)}
    assert await store.save(record, changed=replaced, removed=set(record.data))


async def test_no_key_or_value_holds_a_secret(store: SessionStore, redis: Redis, keys: Keys) -> None:
    visitor = await store.create({"a": 1}, channel="cookie")
    user = await store.create({"a": 1}, channel="cookie", user_id=1)
    assert await store.take(visitor)
    ids = [visitor.id, user.id]
    await store.rotate(user)
    await store.save(user, changed={"a": 2}, removed=())
    header = await store.create({}, channel="header", user_id=1)
    await store.end_all(1, keep=header.public_id)
    secrets = [record_id.partition(".")[2] for record_id in (*ids, user.id, header.id)]
    dumped = [await redis.dump(key) for key in await all_keys(redis, keys)]
    everything = "\n".join([*await all_keys(redis, keys), *map(repr, dumped)])
    assert everything
    assert not any(secret in everything for secret in secrets)


async def test_every_key_ends_and_a_users_keys_share_a_slot(store: SessionStore, redis: Redis, keys: Keys) -> None:
    await store.create({}, channel="cookie", user_id=1)
    record = await store.create({"a": 1}, channel="header", user_id=1)
    await store.save(record, changed={"a": 2}, removed=())
    await store.rotate(record)
    await store.end_all(1, keep=record.public_id)
    found = await all_keys(redis, keys)
    assert len(found) == 5
    assert len({key.partition("}")[0] for key in found}) == 1
    assert all(0 < life <= 86_400_000 for life in [await redis.pttl(key) for key in found])
    index = keys.session_index(key_bucket(record), 1)
    assert await redis.pttl(index) >= await redis.pttl(key_of(keys, record))


async def test_running_a_script_twice_changes_nothing_more(redis: Redis, keys: Keys) -> None:
    store, plain = store_on(cast(Redis, Repeating(redis)), keys, max_per_user=2), store_on(redis, keys)
    kept = await plain.create({}, channel="header", user_id=1)
    record = await store.create({"a": 1, "b": 1}, channel="header", user_id=1)
    assert len(await plain.list(1)) == 2
    assert await store.save(record, changed={"a": 2}, removed={"b"})
    assert await store.rotate(record)
    assert (await again(plain, record)).data == {"a": 2}
    assert len(await store.list(1)) == 2
    visitor = await store.create({"a": 1}, channel="cookie")
    reader = await again(plain, visitor)
    assert await store.save(visitor, changed={"a": 2}, removed=())
    assert not await store.take(reader)
    assert reader.data == {"a": 2}
    assert await store.take(reader)
    assert not await is_live(plain, visitor)
    assert await store.end_all(1, keep=kept.public_id) == 1
    assert [info.public_id for info in await plain.list(1)] == [kept.public_id]
    assert await store.delete(kept.id)
    assert await plain.list(1) == []


async def test_a_record_shows_no_secret(store: SessionStore) -> None:
    record = await store.create({"token": "hush"}, channel="cookie", user_id=1, metadata={"ip": "192.0.2.1"})
    assert record.id not in repr(record)
    assert "hush" not in repr(record)
    assert "192.0.2.1" not in repr(record)
    with pytest.raises(Unstorable) as error:
        await store.create({"token": "\ud800hush"}, channel="cookie")
    assert "hush" not in str(error.value)


async def test_a_redis_that_is_down_is_said_and_counted(keys: Keys) -> None:
    counts = Counts()
    redis = connect(f"redis://127.0.0.1:{free_port()}", name="test", timeout_seconds=0.05)
    store = store_on(redis, keys, telemetry=counts, touch_after_seconds=0)
    with pytest.raises(UNAVAILABLE):
        await store.get(f"abc.{'a' * 43}", channel="cookie")
    with pytest.raises(UNAVAILABLE):
        await store.create({}, channel="cookie")
    with pytest.raises(UNAVAILABLE):
        await store.delete(f"abc.{'a' * 43}")
    record = SessionRecord(f"abc.{'a' * 43}", "cookie", None, 0, 0, 0, {}, {}, {})
    with pytest.raises(UNAVAILABLE):
        await store.take(record)
    await store.touch(record)
    # The touch fails open, so that it is counted as an outage that its caller does not see.
    operations = [("session_unreachable", name) for name in ("get", "create", "delete", "take", "save")]
    assert counts.values.keys() == {*operations, ("redis_outages", "sessions")}
    await redis.aclose()


@pytest.mark.server
async def test_round_trips(real_redis: PipelinedRedis, keys: Keys) -> None:
    store = store_on(real_redis, keys)

    async def trips(call: Any) -> tuple[int, Any]:
        before = real_redis.stats()["server"]["batches"]
        result = await call
        return real_redis.stats()["server"]["batches"] - before, result

    # The server has learned the scripts.
    visitor = await store.create({"a": 1}, channel="cookie")
    await store.take(visitor)
    await store.delete(visitor.id)
    await store.save(visitor, changed={}, removed=())

    visitor = await store.create({"cart": 1}, channel="cookie")
    login, user = await trips(store.create({"cart": 1}, channel="cookie", user_id=1))
    take, _ = await trips(store.take(visitor))
    read, found = await trips(store.get(user.id, channel="cookie"))
    save, _ = await trips(store.save(found, changed={"a": 2}, removed=()))
    logout, _ = await trips(store.delete(user.id))
    costs = {"login": login, "take": take, "read": read, "save": save, "logout": logout}
    assert costs == dict.fromkeys(costs, 1)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Redis]:
    servers = RedisCluster(tmp_path).start()
    client = connect(servers.url, name="test", timeout_seconds=5)
    yield client
    await client.aclose()
    servers.stop()


@pytest.mark.long
@pytest.mark.server
async def test_sessions_live_on_a_cluster(cluster: Redis, keys: Keys) -> None:
    store = store_on(cluster, keys, max_per_user=3)
    for user_id in range(20):
        visitor = await store.create({"a": 1}, channel="cookie")
        record = await store.create(visitor.data, channel="cookie", user_id=user_id)
        assert await store.take(visitor)
        for _ in range(4):
            await store.create({}, channel="header", user_id=user_id)
        record = await store.create(visitor.data, channel="cookie", user_id=user_id)
        assert await store.save(record, changed={"a": 2}, removed=())
        assert await store.rotate(record)
        assert (await again(store, record)).data == {"a": 2}
        assert await store.end_all(user_id, keep=record.public_id) == 2
        assert await store.end(user_id, record.public_id)
        assert await store.list(user_id) == []
