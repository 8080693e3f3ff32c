"""Streams whose Redis loses connections, dies, or falls silent: nothing lost in silence, nothing twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client import connect
from app.kit.events.feed import Feed, Lost
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from tests.kit.event_streams import Reader, live_reader
from tests.services import RedisServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of this test's own, to be killed."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(server.url, name="faults", timeout_seconds=1)
    yield client
    await client.aclose()


@pytest.fixture
async def hub(client: Redis, keys: Keys) -> AsyncIterator[Hub]:
    hub = Hub(client, keys)
    await hub.start()
    yield hub
    await hub.close()


async def kill_subscriptions(redis: Redis) -> int:
    """End the connections that are subscribed to anything; how many there were."""
    killed: int = await redis.client_kill_filter(_type="pubsub")
    return killed


async def seen(reader: Reader, count: int) -> list[str]:
    """The ids that the reader has when there are `count` of them, or when its stream has ended."""
    await eventually(lambda: reader.ended or len(reader.ids) >= count)
    return reader.ids


async def publish_when_back(publisher: Publisher, number: int) -> str:
    """Publish as the outbox does: again with the same event id until it succeeds."""
    while True:
        try:
            return await publisher.publish("broadcast", "tick", number, event_id=f"event:{number}")
        except RedisError:
            await asyncio.sleep(0.01)


async def test_a_lost_connection_loses_no_event_and_doubles_none(client: Redis, keys: Keys, hub: Hub) -> None:
    publisher = Publisher(client, keys)
    readers = [await live_reader(hub, "broadcast", f"user:{number % 2}") for number in range(10)]
    ids: list[tuple[str, str]] = []
    killed = 0
    for number in range(600):
        channel = ("broadcast", "user:0", "user:1")[number % 3]
        ids.append((channel, await publisher.publish(channel, "tick", number)))
        if number % 50 == 49:
            killed += await kill_subscriptions(client)
            joined = Reader(hub.subscribe(["broadcast", "user:0"], last_event_id=ids[number // 2][1]))
            await asyncio.sleep(0.02)
            await joined.close()
    assert killed >= 3
    for number, reader in enumerate(readers):
        expected = [text for channel, text in ids if channel in {"broadcast", f"user:{number % 2}"}]
        assert await seen(reader, len(expected)) == expected
        assert reader.resyncs == []


async def test_joins_while_connections_are_lost_miss_nothing(client: Redis, keys: Keys, hub: Hub) -> None:
    publisher = Publisher(client, keys)
    ids = [await publisher.publish("broadcast", "tick", 0)]
    readers: list[Reader] = []
    for number in range(1, 200):
        readers.append(Reader(hub.subscribe(["broadcast"], last_event_id=ids[0])))
        ids.append(await publisher.publish("broadcast", "tick", number))
        if number % 20 == 10:
            await kill_subscriptions(client)
    for reader in readers:
        # One that was told to come back had everything up to its id, and resumes there.
        assert await seen(reader, len(ids) - 1) == ids[1 : len(reader.ids) + 1]
        assert reader.resyncs == []
    assert sum(reader.ended for reader in readers) < len(readers) / 4


async def test_killed_and_restarted_redis_ends_in_resync(
    server: RedisServer, client: Redis, keys: Keys, hub: Hub
) -> None:
    publisher = Publisher(client, keys)
    reader = await live_reader(hub, "broadcast")
    before = await publisher.publish("broadcast", "tick", 0)
    await eventually(lambda: reader.ids == [before])
    server.kill()
    server.start()
    missed = await publish_when_back(publisher, 1)
    await eventually(lambda: reader.resyncs)
    after = await publisher.publish("broadcast", "tick", 2)
    await eventually(lambda: after in reader.ids)
    # The resync covers what came before it; what was published while the hub connected may be on either side.
    assert reader.ids in ([before, after], [before, missed, after])
    assert [event.type for event in reader.events[:2]] == ["tick", "resync"]
    assert len(reader.resyncs) == 1
    assert not reader.ended


async def test_a_redis_that_keeps_its_data_ends_in_no_resync(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> None:
    folder = tmp_path_factory.mktemp("durable")
    server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always").start()
    client = connect(server.url, name="faults", timeout_seconds=1)
    hub, publisher = Hub(client, keys), Publisher(client, keys)
    await hub.start()
    reader = await live_reader(hub, "broadcast")
    ids = [await publish_when_back(publisher, number) for number in range(3)]
    await eventually(lambda: reader.ids == ids)
    server.kill()
    server.start()
    ids += [await publish_when_back(publisher, number) for number in range(3, 6)]
    await eventually(lambda: len(reader.ids) == 6)
    assert reader.ids == ids
    assert reader.resyncs == []
    await hub.close()
    await client.aclose()
    server.stop()


async def test_a_stream_that_opens_while_redis_is_down_is_told_to_come_back(keys: Keys) -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", name="faults", timeout_seconds=0.2)
    hub = Hub(client, keys, join_seconds=0.2)
    await hub.start()
    reader = Reader(hub.subscribe(["broadcast"]))
    await eventually(lambda: reader.comments == 1)
    await eventually(lambda: reader.ended)
    assert reader.retry_ms is not None
    assert hub.streams == 0
    await hub.close()
    await client.aclose()


async def test_a_stream_stays_open_while_redis_is_down(server: RedisServer, client: Redis, keys: Keys) -> None:
    hub = Hub(client, keys, heartbeat_seconds=0.1)
    await hub.start()
    reader = await live_reader(hub, "broadcast")
    server.kill()
    beats = reader.comments
    await eventually(lambda: reader.comments > beats + 5)
    assert not reader.ended
    await hub.close()


async def test_a_feed_notices_a_redis_that_has_fallen_silent(server: RedisServer, client: Redis, keys: Keys) -> None:
    feed = Feed(client, keys, patience_seconds=0.05)
    await feed.open()
    await feed.subscribe(["broadcast"])
    await feed.next()
    reading = asyncio.create_task(feed.next())
    # Idle is not silent: the server answers.
    await asyncio.wait([reading], timeout=0.4)
    assert not reading.done()
    server.signal(signal.SIGSTOP)
    with pytest.raises(Lost):
        await asyncio.wait_for(reading, 2)
    await feed.close()
    server.signal(signal.SIGCONT)


async def test_one_connection_a_process_serves_all_streams(client: Redis, keys: Keys, hub: Hub) -> None:
    for number in range(50):
        await live_reader(hub, "broadcast", f"user:{number}")
    assert len(await client.client_list(_type="pubsub")) == 1
