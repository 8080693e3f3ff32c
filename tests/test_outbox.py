"""What a transaction announces leaves after its commit: always, once downstream, and never without the commit."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from app.db.database import Database
from app.db.outbox import OutboxRow, create_row
from app.kit.cache.cache import Cache
from app.kit.cache.model import MISS
from app.kit.client.connect import connect
from app.kit.events.publisher import MAX_PAYLOAD_BYTES, Publisher
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.outbox import Outbox
from tests.services import RedisServer
from tests.waiting import eventually

MakeOutbox = Callable[..., Outbox]


@task()
async def greet(context: TaskContext, name: str) -> str:
    return f"Hello {name}"


def outbox_on(redis: Redis, keys: Keys, database: Database, **options: Any) -> Outbox:
    return Outbox(database, Publisher(redis, keys), Queue(redis, keys), Cache(redis, keys), **options)


@pytest.fixture
def make_outbox(redis: Redis, keys: Keys, database: Database) -> MakeOutbox:
    """Each Outbox is a process of its own, as far as the outbox goes."""
    return lambda **options: outbox_on(redis, keys, database, **options)


@asynccontextmanager
async def running(*relays: Outbox) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    yield
    for relay in relays:
        relay.stop()
    await asyncio.gather(*tasks)


async def announce(outbox: Outbox, database: Database, *names: str) -> list[str]:
    """One transaction that announces an event and a task for each name; the ids of the tasks."""
    async with database.write() as session:
        for name in names:
            outbox.event(session, "broadcast", "greeted", {"name": name})
        return [outbox.task(session, greet, name) for name in names]


async def published(redis: Redis, keys: Keys) -> list[str]:
    """The names of the events that the channel's history holds, in its order."""
    entries: Any = await redis.xrange(keys.event_stream("broadcast"))
    payloads = [value for _, fields in entries for value in fields.values() if value.startswith(b"{")]
    return [msgspec.json.decode(payload)["data"]["name"] for payload in payloads]


async def rows(database: Database) -> int:
    async with database.read(primary=True) as session:
        return await session.scalar(select(func.count()).select_from(OutboxRow)) or 0


async def test_a_commit_goes_out(make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys) -> None:
    outbox = make_outbox()
    async with running(outbox):
        [task_id] = await announce(outbox, database, "Ada")
        await eventually(lambda: published(redis, keys))
        found = await eventually(lambda: Queue(redis, keys).get(task_id))
        assert found
        assert (found.name, found.state) == ("greet", "queued")
    assert await rows(database) == 0


async def test_a_rollback_does_not(make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys) -> None:
    outbox = make_outbox(retry_seconds=0)

    async def announce_and_fail() -> None:
        async with database.write() as session:
            outbox.event(session, "broadcast", "greeted", {"name": "Ada"})
            outbox.task(session, greet, "Ada")
            await session.flush()
            raise ZeroDivisionError

    async with running(outbox):
        with pytest.raises(ZeroDivisionError):
            await announce_and_fail()
        await announce(outbox, database, "Grace")
        await eventually(lambda: published(redis, keys))
    assert await published(redis, keys) == ["Grace"]
    assert (await Queue(redis, keys).depth())["normal"] == 1


async def test_what_a_crash_left_goes_out_once(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    crashed = make_outbox(retry_seconds=0)
    await announce(crashed, database, "Ada")  # and it dies before its relay runs
    assert await rows(database) == 2
    async with running(make_outbox(retry_seconds=0, poll_seconds=0.02)):
        await eventually(lambda: published(redis, keys))
    assert await rows(database) == 0
    # It was not dead, only slow: it sends the same messages again.
    await crashed.drain()
    assert await published(redis, keys) == ["Ada"]
    assert (await Queue(redis, keys).depth())["normal"] == 1


async def test_the_order_of_the_commits_is_kept(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    names = [str(number) for number in range(130)]  # more than a batch
    crashed = make_outbox(retry_seconds=0)
    await announce(crashed, database, *names[:100])
    await announce(crashed, database, *names[100:])
    async with running(make_outbox(retry_seconds=60)):
        await eventually(lambda: _is(rows(database), 0))
    assert await published(redis, keys) == names


async def _is(count: Any, expected: int) -> bool:
    return bool(await count == expected)


async def test_relays_share_the_work(make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys) -> None:
    names = [str(number) for number in range(40)]
    await announce(make_outbox(retry_seconds=0), database, *names)
    async with running(*(make_outbox(retry_seconds=60, poll_seconds=0.02) for _ in range(4))):
        await eventually(lambda: _is(rows(database), 0))
    assert sorted(await published(redis, keys), key=int) == names
    assert (await Queue(redis, keys).depth())["normal"] == len(names)


async def test_caches_are_invalid_when_the_write_returns(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    outbox, cache = make_outbox(), Cache(redis, keys)
    await cache.set("list", [1], ttl_seconds=60, tags="list")
    async with database.write() as session:
        outbox.invalidate(session, "list")
        assert await cache.get("list", tags="list") == [1]
    assert await cache.get("list", tags="list") is MISS
    # And it is not repeated: what is computed since then stays.
    await cache.set("list", [1, 2], ttl_seconds=60, tags="list")
    await outbox.drain()
    assert await cache.get("list", tags="list") == [1, 2]
    assert await rows(database) == 0


async def test_what_cannot_leave_waits_and_holds_nothing_up(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    async with database.write() as session:
        create_row(session, '{"type":"of a newer version"}', due_in=timedelta())
    outbox = make_outbox(retry_seconds=0)
    await announce(outbox, database, "Ada")
    async with running(make_outbox(poll_seconds=0.02)):
        await eventually(lambda: published(redis, keys))
        await eventually(lambda: _is(rows(database), 1))
    async with database.read() as session:
        assert await session.scalar(select(OutboxRow.attempts)) == 1


async def test_a_closed_relay_still_sends_what_was_committed_last(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    outbox = make_outbox()
    async with running(outbox):
        await announce(outbox, database, "Ada")
    assert await published(redis, keys) == ["Ada"]
    assert await rows(database) == 0


@pytest.mark.parametrize(
    ("channel", "type", "data"),
    [("no channel!", "t", {}), ("c", "no\ntype", {}), ("c", "t", "x" * MAX_PAYLOAD_BYTES)],
)
async def test_an_event_that_could_not_leave_is_refused_before_the_commit(
    make_outbox: MakeOutbox, database: Database, channel: str, type: str, data: object
) -> None:
    with pytest.raises(ValueError, match="event|channel"):
        async with database.write() as session:
            make_outbox().event(session, channel, type, data)
    assert await rows(database) == 0


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.mark.server
async def test_redis_down_delays_and_loses_nothing(own_server: RedisServer, keys: Keys, database: Database) -> None:
    redis = connect(own_server.url, name="test", timeout_seconds=0.1)
    outbox, cache = outbox_on(redis, keys, database, retry_seconds=0.1, poll_seconds=0.05), Cache(redis, keys)
    await cache.set("list", [1], ttl_seconds=60, tags="list")
    async with running(outbox):
        own_server.signal(signal.SIGSTOP)
        async with database.write() as session:
            outbox.invalidate(session, "list")
        await announce(outbox, database, "Ada")
        assert await rows(database) == 3
        own_server.signal(signal.SIGCONT)
        await eventually(lambda: _is(rows(database), 0))
    assert await published(redis, keys) == ["Ada"]
    assert await cache.get("list", tags="list") is MISS
    await redis.aclose()
