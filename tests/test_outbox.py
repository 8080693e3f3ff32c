"""Messages of a transaction are sent after its commit: at least once, with one effect, and never without the commit."""

import asyncio
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from sqlalchemy import func, select

from app.db.database import Database
from app.db.outbox import OutboxRow, create_row
from app.errors import Unavailable
from app.kit.cache.cache import Cache
from app.kit.cache.entry import MISS
from app.kit.client.connect import connect
from app.kit.events.event import MAX_PAYLOAD_BYTES, EventTooLarge, encode_event
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.sessions.store import SessionStore
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.telemetry import NoTelemetry
from app.outbox import Outbox
from app.outbox_delivery import Delivery
from tests.kit.tasks.task_worker import ended, working
from tests.services import RedisServer, free_port
from tests.waiting import eventually

MakeOutbox = Callable[..., Outbox]


@task()
async def greet(context: TaskContext, name: str) -> str:
    return f"Hello {name}"


def outbox_on(redis: Redis, keys: Keys, database: Database, *, queues: Iterable[Queue] = (), **options: Any) -> Outbox:
    queue = Queue(redis, keys)
    sessions = SessionStore(redis, keys, idle_seconds=3600, absolute_seconds=86_400)
    known = {each.name: each for each in (queue, *queues)}
    return Outbox(database, Delivery(Publisher(redis, keys), known, Cache(redis, keys), sessions), queue, **options)


@pytest.fixture
def make_outbox(redis: Redis, keys: Keys, database: Database) -> MakeOutbox:
    """Each Outbox relays independently, as that of another process does."""
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


async def test_a_commit_is_sent(make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys) -> None:
    outbox = make_outbox()
    async with running(outbox):
        [task_id] = await announce(outbox, database, "Ada")
        await eventually(lambda: published(redis, keys))
        found = await eventually(lambda: Queue(redis, keys).get(task_id))
        assert found
        assert (found.name, found.state) == ("greet", "queued")
    assert await rows(database) == 0


async def test_a_rollback_is_not(make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys) -> None:
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


async def test_a_process_that_dies_after_the_commit_leaves_the_end_of_sessions_to_another(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    sessions = SessionStore(redis, keys, idle_seconds=3600, absolute_seconds=86_400)
    kept, other = [await sessions.create({}, channel="header", user_id=7) for _ in range(2)]
    async with database.write() as session:
        make_outbox(retry_seconds=0).end_sessions(session, 7, keep=kept.public_id)
        session.after_commit.clear()  # it dies here
    assert len(await sessions.list(7)) == 2
    async with running(make_outbox(retry_seconds=0, poll_seconds=0.02)):
        await eventually(lambda: gone(database))
    assert [info.public_id for info in await sessions.list(7)] == [kept.public_id]
    assert await sessions.get(other.id, channel="header") is None


async def gone(database: Database) -> bool:
    return await rows(database) == 0


async def test_a_row_that_is_sent_again_ends_no_later_login(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    sessions = SessionStore(redis, keys, idle_seconds=3600, absolute_seconds=86_400)
    # Nothing runs it, so the row stays although it was sent.
    async with database.write() as session:
        make_outbox(retry_seconds=0).end_sessions(session, 7)
    assert await rows(database) == 1
    later = await sessions.create({}, channel="header", user_id=7, epoch=await sessions.epoch(7))
    async with running(make_outbox(retry_seconds=0, poll_seconds=0.02)):
        await eventually(lambda: gone(database))
    assert await sessions.get(later.id, channel="header") is not None


async def test_an_end_that_fails_is_said_after_the_commit_and_made_up_for(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    sessions = SessionStore(redis, keys, idle_seconds=3600, absolute_seconds=86_400)
    record = await sessions.create({}, channel="header", user_id=7)
    outbox = make_outbox()
    nowhere = connect(f"redis://127.0.0.1:{free_port()}", name="test", timeout_seconds=0.05)
    delivery, outbox._delivery = outbox._delivery, outbox_on(nowhere, keys, database)._delivery

    async def change() -> None:
        async with database.write() as session:
            outbox.end_credential(session, 7)
            outbox.end_sessions(session, 7)

    with pytest.raises(Unavailable, match="The change is stored"):
        await change()
    await nowhere.aclose()
    assert await rows(database) == 2
    outbox._delivery = delivery
    await outbox.drain()
    assert await rows(database) == 0
    assert await sessions.get(record.id, channel="header") is None


async def test_rows_left_by_a_crash_are_sent_once(
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


async def test_a_task_that_has_run_is_not_enqueued_again(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    """The relay dies between the enqueueing and the row's end: another one sends the row again."""
    crashed, queue = make_outbox(retry_seconds=0), Queue(redis, keys)
    [task_id] = await announce(crashed, database, "Ada")
    async with working(queue, greet), running(make_outbox(retry_seconds=0, poll_seconds=0.02)):
        assert (await ended(queue, task_id)).state == "done"
        await eventually(lambda: no_rows(database))
        await crashed.drain()
        # The queue has taken what was sent after it, and so has seen the repeat.
        [marker] = await announce(crashed, database, "Grace")
        await crashed.drain()
        await ended(queue, marker)
    assert (await queue.totals())["done"] == 2


async def test_a_task_goes_to_the_queue_that_it_names(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys
) -> None:
    mail = Queue(redis, keys, name="mail")
    outbox = make_outbox(queues=[mail])
    async with database.write() as session:
        task_id = outbox.task(session, greet, "Ada", queue="mail")
        with pytest.raises(KeyError):
            outbox.task(session, greet, "Ada", queue="none")
    await outbox.drain()
    assert [waiting.id for waiting in await mail.tasks("waiting")] == [task_id]
    assert await Queue(redis, keys).get(task_id) is None


async def no_rows(database: Database) -> bool:
    return await rows(database) == 0


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


async def test_a_row_that_cannot_be_sent_waits_and_delays_no_other(
    make_outbox: MakeOutbox, database: Database, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda _least, most: most)  # the longest pause of the backoff
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
async def test_an_event_that_could_not_be_published_is_refused_before_the_commit(
    make_outbox: MakeOutbox, database: Database, channel: str, type: str, data: object
) -> None:
    with pytest.raises(ValueError, match="event|channel"):
        async with database.write() as session:
            make_outbox().event(session, channel, type, data)
    assert await rows(database) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_an_event_that_commits_can_be_published(sqlite_template: Path, tmp_path: Path, examples: int) -> None:
    shutil.copy(sqlite_template, tmp_path / "test.db")

    async def commit_and_relay(channel: str, type: str, data: Any, event_id: str, excess: int) -> None:
        redis, keys = connect("memory://", name="test", timeout_seconds=5), Keys("test")
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
        outbox = outbox_on(redis, keys, database)
        unpadded = len(encode_event(channel, type, [data, ""]))
        padded = [data, "x" * (MAX_PAYLOAD_BYTES - unpadded + excess)]
        committed = False
        with suppress(EventTooLarge):
            async with database.write() as session:
                outbox.event(session, channel, type, padded, event_id=event_id)
            committed = True
        await outbox.drain()
        assert await redis.xlen(keys.event_stream(channel)) == committed
        assert await rows(database) == 0
        # A time without microseconds is 7 bytes shorter.
        if abs(excess) > 7:
            assert committed == (excess < 0)
        await database.close()
        await redis.aclose()

    @settings(max_examples=examples, deadline=None, database=None)
    @given(
        channel=st.from_regex(r"[a-z0-9:_-]{1,64}", fullmatch=True),
        type=st.from_regex(r"[A-Za-z0-9:._-]{1,64}", fullmatch=True),
        data=JSON,
        event_id=st.text(max_size=64),
        excess=st.integers(-80, 80),
    )
    @example(channel="c", type="t", data=None, event_id="1", excess=0)
    @example(channel="c", type="t", data=None, event_id="1", excess=10)
    def check(channel: str, type: str, data: Any, event_id: str, excess: int) -> None:
        asyncio.run(commit_and_relay(channel, type, data, event_id, excess))

    check()


class Delays(NoTelemetry):
    delayed = 0.0

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.delayed += amount if name == "outbox_delayed" else 0


@pytest.mark.server
async def test_redis_down_delays_and_loses_nothing(
    own_server: RedisServer, keys: Keys, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    redis = connect(own_server.url, name="test", timeout_seconds=0.1)
    telemetry, cache = Delays(), Cache(redis, keys)
    outbox = outbox_on(redis, keys, database, retry_seconds=0.1, poll_seconds=0.05, telemetry=telemetry)
    await cache.set("list", [1], ttl_seconds=60, tags="list")
    async with running(outbox):
        own_server.signal(signal.SIGSTOP)
        async with database.write() as session:
            outbox.invalidate(session, "list")
        await announce(outbox, database, "Ada")
        assert await rows(database) == 3
        await eventually(lambda: telemetry.delayed > 3)
        own_server.signal(signal.SIGCONT)
        await eventually(lambda: _is(rows(database), 0))
    assert await published(redis, keys) == ["Ada"]
    assert await cache.get("list", tags="list") is MISS
    # However often it tried: once when it begins, and once when it is back.
    lines = [line.partition(":")[0] for line in caplog.messages if line.startswith("the outbox")]
    assert lines == ["the outbox waits", "the outbox goes on"]
    await redis.aclose()


@pytest.mark.server
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.long)])
async def test_redis_killed_between_a_commit_and_its_messages(
    tmp_path: Path, keys: Keys, database: Database, kills: int
) -> None:
    """At random moments; Redis keeps what it has acknowledged."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always").start()
    redis = connect(server.url, name="test", timeout_seconds=1)
    outbox = outbox_on(redis, keys, database, retry_seconds=0.1, poll_seconds=0.05)
    chance = random.Random(5)
    names: list[str] = []
    task_ids: list[str] = []

    async def commit(name: str) -> None:
        names.append(name)
        task_ids.extend(await announce(outbox, database, name))

    async with running(outbox):
        for kill in range(kills):
            committing = [asyncio.create_task(commit(f"{kill}.{number}")) for number in range(3)]
            await asyncio.sleep(chance.uniform(0, 0.02))
            await asyncio.to_thread(server.kill)
            await asyncio.gather(*committing)
            await asyncio.to_thread(server.start)
        await eventually(lambda: _is(rows(database), 0), seconds=60)
    assert sorted(await published(redis, keys)) == sorted(names)
    waiting = await Queue(redis, keys).tasks("waiting", limit=1000)
    assert sorted(each.id for each in waiting) == sorted(task_ids)
    await redis.aclose()
    server.stop()
