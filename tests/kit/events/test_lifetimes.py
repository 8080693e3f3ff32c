"""Streams that come, break off and return in thousands: nothing is lost, nothing comes twice, nothing is left over."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from types import CoroutineType
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.aio import end_tasks
from app.kit.client.connect import connect
from app.kit.client.pubsub import PUBSUB_SILENCE_SECONDS
from app.kit.events.event import Cursor
from app.kit.events.grant import Grant
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from tests.kit.events.event_streams import Parser, Reader, live_reader
from tests.services import RedisServer
from tests.waiting import eventually


@pytest.fixture
async def hub(real_redis: Redis, keys: Keys) -> AsyncIterator[Hub]:
    hub = Hub(real_redis, keys, linger_seconds=0)
    await hub.start()
    yield hub
    await hub.close()


pytestmark = pytest.mark.server


def tables(hub: Hub) -> list[Any]:
    """All in which the hub keeps something of a stream."""
    streams, fanout = hub._open, hub._fanout
    spokes = [spoke for spoke in streams._wheel._spokes if spoke]
    kept = [
        streams._streams,
        streams._of_user,
        streams._of_network,
        streams._unchecked,
        fanout._subscriptions,
        fanout._unconfirmed,
        spokes,
    ]
    return [table for table in kept if table]


def tasks_of_events() -> list[str]:
    """The tasks of the kit's events, by their functions; the client's own, such as its reader, live with the client."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [
        coroutine.__qualname__
        for coroutine in coroutines
        if isinstance(coroutine, CoroutineType)
        and "kit/events" in coroutine.cr_code.co_filename.replace("tests/kit", "")
    ]


def count_ids(reader: Reader, count: int) -> Callable[[], bool]:
    return lambda: len(reader.ids) >= count


def normally_and_long(normal: int, long: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [normal, pytest.param(long, marks=pytest.mark.long)])


@normally_and_long(100, 1000)
async def test_random_disconnects_lose_nothing_and_double_nothing(
    real_redis: Redis, keys: Keys, hub: Hub, count: int
) -> None:
    """One client breaks off `count` times, in the middle of writes too, and resumes with its last id."""
    dice = random.Random(count)
    publisher = Publisher(real_redis, keys, history_length=20_000)
    published: list[str] = []
    over = False

    async def publish() -> None:
        while not over:
            channel = dice.choice(["broadcast", "user:1", "user:2"])
            published.append(await publisher.publish(channel, "tick", "x" * dice.randrange(2000)))
            await asyncio.sleep(dice.choice([0, 0, 0.002]))

    first = await publisher.publish("broadcast", "tick", None)
    publishing = asyncio.create_task(publish())
    received: list[str] = []
    last = first
    for _ in range(count):
        client = Parser()
        client.last_event_id = last
        stream = hub.subscribe(["broadcast", "user:1", "user:2"], last_event_id=last)
        for _ in range(dice.randrange(1, 6)):
            chunk = await anext(stream)
            if dice.random() < 0.3:
                # The connection breaks somewhere in the bytes: what is not complete was not received.
                client.feed(chunk[: dice.randrange(len(chunk))])
                break
            client.feed(chunk)
        await stream.aclose()
        assert not [event for event in client.events if event.type == "resync"]
        received += [event.id for event in client.events]
        # An EventSource takes over an id when its block is complete.
        last = client.dispatched_id or last
    over = True
    await publishing
    rest = await live_reader(hub, "broadcast", "user:1", "user:2", last_event_id=last)
    await eventually(lambda: len(received) + len(rest.ids) >= len(published))
    assert received + rest.ids == published
    positions = [cursor.position for text in published if (cursor := Cursor.parse(text))]
    assert positions == sorted(set(positions))
    await rest.close()
    await eventually(lambda: tables(hub) == [])


@normally_and_long(1000, 10_000)
async def test_a_killed_connection_in_a_burst_loses_nothing_and_doubles_nothing(
    own_server: RedisServer, keys: Keys, count: int
) -> None:
    client = connect(own_server.url, name="test", timeout_seconds=5)
    hub = Hub(client, keys)
    await hub.start()
    readers = [await live_reader(hub, "broadcast") for _ in range(5)]
    publisher = Publisher(client, keys, history_length=20_000)
    ids: list[str] = []

    async def kill() -> bool:
        return bool(await client.client_kill_filter(_type="pubsub"))

    for start in range(0, count, 100):
        ids += await asyncio.gather(*(publisher.publish("broadcast", "tick", start + n) for n in range(100)))
        if start % (count // 5) == count // 10:
            await eventually(kill)
    ids.sort(key=lambda text: found.position if (found := Cursor.parse(text)) else (0, 0))
    for reader in readers:
        await eventually(count_ids(reader, count), seconds=60)
        assert reader.ids == ids
        assert reader.resyncs == []
    await hub.close()
    await client.aclose()


async def test_flushall_is_one_resync_in_each_stream(own_server: RedisServer, keys: Keys) -> None:
    client = connect(own_server.url, name="test", timeout_seconds=5)
    hub, publisher = Hub(client, keys), Publisher(client, keys)
    await hub.start()
    readers = [await live_reader(hub, "broadcast", f"user:{number % 3}") for number in range(10)]
    await publisher.publish("broadcast", "tick", 0)
    await client.flushall()
    for number in range(1, 6):
        await publisher.publish("broadcast", "tick", number)
    for reader in readers:
        await eventually(count_ids(reader, 6))
        assert [event.type for event in reader.events] == ["tick", "resync", *["tick"] * 5]
    returned = await live_reader(hub, "broadcast", last_event_id=readers[0].events[0].id)
    assert len(returned.resyncs) == 1
    await hub.close()
    await client.aclose()


async def test_two_nodes_have_one_order(real_redis: Redis, redis_server: RedisServer, keys: Keys) -> None:
    clients = [real_redis, connect(redis_server.url, name="other", timeout_seconds=5)]
    hubs = [Hub(client, keys) for client in clients]
    publishers = [Publisher(client, keys) for client in clients]
    for node in hubs:
        await node.start()
    readers = [await live_reader(node, "broadcast", "user:1") for node in hubs for _ in range(3)]

    async def burst(publisher: Publisher) -> None:
        for number in range(200):
            await publisher.publish(("broadcast", "user:1")[number % 2], "tick", number)

    await asyncio.gather(*(burst(publisher) for publisher in publishers))
    for reader in readers:
        await eventually(count_ids(reader, 400))
    assert all(reader.ids == readers[0].ids for reader in readers)
    for node in hubs:
        await node.close()
    await clients[1].aclose()


def test_a_silent_redis_is_noticed_within_five_seconds() -> None:
    """After one silence a PING, after three the end: see the test of the connection."""
    assert 3 * PUBSUB_SILENCE_SECONDS < 5


@pytest.mark.long
async def test_a_redis_that_stands_still_is_replaced_and_nothing_is_lost(own_server: RedisServer, keys: Keys) -> None:
    client = connect(own_server.url, name="test", timeout_seconds=1)
    hub, publisher = Hub(client, keys), Publisher(client, keys)
    await hub.start()
    reader = await live_reader(hub, "broadcast")
    generation = hub._fanout.generation
    own_server.signal(signal.SIGSTOP)
    try:
        await eventually(lambda: hub._fanout.generation > generation, seconds=15)
    finally:
        own_server.signal(signal.SIGCONT)
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(3)]
    await eventually(lambda: reader.ids == ids)
    await hub.close()
    await client.aclose()


@normally_and_long(5000, 100_000)
async def test_joins_and_leaves_race_over_many_names_and_leave_nothing(
    real_redis: Redis, keys: Keys, hub: Hub, count: int
) -> None:
    """`count` names in all; streams of several each, which leave at any moment and share names with others."""
    dice = random.Random(count)
    turns = asyncio.Semaphore(200)

    async def visit(number: int) -> None:
        async with turns:
            # Of neighbours that overlap, so that one leaves a name while another joins it.
            names = [f"n:{(number * 4 + offset) % count}" for offset in range(dice.randrange(1, 8))]
            stream = hub.subscribe(names, grant=Grant(user_id=number % 50, network=str(number % 30)))
            for _ in range(dice.randrange(4)):
                try:
                    async with asyncio.timeout(dice.choice([0, 0.001, 5])):
                        await anext(stream)
                except (TimeoutError, StopAsyncIteration):
                    break
            await stream.aclose()

    await asyncio.gather(*(visit(number) for number in range(count // 4)))
    await eventually(lambda: tables(hub) == [], seconds=60)

    async def unsubscribed() -> bool:
        return await real_redis.pubsub_channels(keys.event_channel("*")) == []

    await eventually(unsubscribed, seconds=60)
    # And it works as before.
    reader = await live_reader(hub, "n:1")
    published = await Publisher(real_redis, keys).publish("n:1", "tick", 1)
    await eventually(lambda: reader.ids == [published])
    await reader.close()


async def test_cancellation_at_every_await_leaves_nothing(real_redis: Redis, keys: Keys, hub: Hub) -> None:
    publisher = Publisher(real_redis, keys)
    first = await publisher.publish("broadcast", "tick", 0)
    for number in range(250):
        await publisher.publish("broadcast", "tick", number)
    await (await live_reader(hub, "broadcast")).close()
    before = sorted(tasks_of_events())
    # Each is cancelled a little later than the last, until one is live before that.
    steps, lived = 0, False
    while not lived:
        reader = Reader(hub.subscribe(["broadcast", f"user:{steps}"], last_event_id=first, grant=Grant(user_id=1)))
        for _ in range(steps):
            await asyncio.sleep(0)
            if reader.is_live:
                break
        lived = reader.is_live
        reader.task.cancel()
        await end_tasks([reader.task])
        await reader.stream.aclose()
        assert hub.streams == 0
        steps += 1 + steps // 20
    await eventually(lambda: tables(hub) == [])
    await eventually(lambda: sorted(tasks_of_events()) == before)


async def test_cancelling_a_hub_at_every_step_of_its_start_leaves_nothing(real_redis: Redis, keys: Keys) -> None:
    for steps in range(40):
        hub = Hub(real_redis, keys, join_seconds=0.05)
        await hub.start()
        reader = Reader(hub.subscribe(["broadcast"]))
        for _ in range(steps):
            await asyncio.sleep(0)
        await hub.close()
        await asyncio.wait_for(reader.task, 10)
    assert tasks_of_events() == []

    async def closed() -> bool:
        named = await real_redis.pubsub_channels(keys.event_channel("*"))
        return named == []

    await eventually(closed)


async def test_streams_that_open_together_share_one_read_of_the_history(own_server: RedisServer, keys: Keys) -> None:
    client = connect(own_server.url, name="test", timeout_seconds=5)
    hub = Hub(client, keys)
    await hub.start()
    await live_reader(hub, "broadcast")

    async def scripts() -> int:
        stats: dict[str, Any] = await client.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    before = await scripts()
    readers = [Reader(hub.subscribe(["broadcast"])) for _ in range(100)]
    await eventually(lambda: all(reader.is_live for reader in readers))
    assert await scripts() - before < 10
    await hub.close()
    await client.aclose()
