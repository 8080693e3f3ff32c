"""Streams while Redis loses connections, is killed, falls silent or refuses: no silent loss, no duplicate."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client import errors
from app.kit.client.connect import connect
from app.kit.client.errors import UNAVAILABLE
from app.kit.client.pubsub import PubSubConnection
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from tests.kit.events.event_streams import Reader, live_reader
from tests.services import RedisServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
async def client(own_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(own_server.url, name="faults", timeout_seconds=1)
    yield client
    await client.aclose()


@pytest.fixture
async def hub(client: Redis, keys: Keys) -> AsyncIterator[Hub]:
    hub = Hub(client, keys)
    await hub.start()
    yield hub
    await hub.close()


async def kill_subscriptions(redis: Redis) -> int:
    """Kill all pub/sub connections; returns their number."""
    killed: int = await redis.client_kill_filter(_type="pubsub")
    return killed


async def seen(reader: Reader, count: int) -> list[str]:
    """The ids that the reader has when there are `count` of them, or when its stream has ended."""
    await eventually(lambda: reader.ended or len(reader.ids) >= count)
    return reader.ids


async def heartbeats(reader: Reader, count: int) -> None:
    before = reader.comments
    await eventually(lambda: reader.comments >= before + count)


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
    for number in range(600):
        channel = ("broadcast", "user:0", "user:1")[number % 3]
        ids.append((channel, await publisher.publish(channel, "tick", number)))
        if number % 150 == 75:
            await eventually(lambda: kill_subscriptions(client))
    for number, reader in enumerate(readers):
        expected = [text for channel, text in ids if channel in {"broadcast", f"user:{number % 2}"}]
        assert await seen(reader, len(expected)) == expected
        assert reader.resyncs == []


async def test_joins_while_connections_are_lost_miss_nothing(client: Redis, keys: Keys, hub: Hub) -> None:
    await Storm(client, keys, hub).rage(1)


@pytest.mark.long
async def test_joins_while_connections_are_lost_miss_nothing_for_a_minute(client: Redis, keys: Keys, hub: Hub) -> None:
    await Storm(client, keys, hub).rage(60)


class Storm:
    """Publishes, joins and leaves, while the connections of the hub are killed within 0.1 s."""

    CHANNELS = ("broadcast", "user:1", "user:2", "task:1")

    def __init__(self, client: Redis, keys: Keys, hub: Hub) -> None:
        self.client = client
        self.hub = hub
        self.publisher = Publisher(client, keys, history_length=10_000)
        self.dice = random.Random(1)
        self.published: list[tuple[str, str]] = []
        self.is_over = False

    async def rage(self, seconds: float) -> None:
        await self.publish()
        stay = [asyncio.create_task(self.visit(0, seconds)) for _ in range(5)]
        work = [asyncio.create_task(part) for part in (self.publish_all(), self.kill())]
        work += [asyncio.create_task(self.visits()) for _ in range(20)]
        await asyncio.wait([*stay, *work], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        self.is_over = True
        read = await asyncio.gather(*stay)
        await asyncio.gather(*work)
        assert min(read) > 0

    async def publish(self) -> None:
        channel = self.dice.choice(self.CHANNELS)
        data = "x" * self.dice.randrange(5000)
        self.published.append((channel, await self.publisher.publish(channel, "tick", data)))

    async def publish_all(self) -> None:
        while not self.is_over:
            for _ in range(self.dice.randrange(20)):
                await self.publish()
            await asyncio.sleep(self.dice.uniform(0, 0.005))

    async def kill(self) -> None:
        while not self.is_over:
            await asyncio.sleep(self.dice.uniform(0, 0.1))
            await kill_subscriptions(self.client)

    async def visits(self) -> None:
        while not self.is_over:
            recent = self.dice.randrange(max(len(self.published) - 100, 0), len(self.published))
            await self.visit(recent, self.dice.uniform(0, 0.3))

    async def visit(self, first: int, seconds: float) -> int:
        """Join after an event and stay for a while; returns how many events came, each once and in order."""
        mine = self.dice.sample(self.CHANNELS, self.dice.randint(1, len(self.CHANNELS)))
        reader = Reader(self.hub.subscribe(mine, last_event_id=self.published[first][1]))
        await asyncio.sleep(seconds)
        await reader.close()
        count = len(reader.ids)
        # The publisher may hear of an event later than the reader does.
        await eventually(lambda: len(self.after(first, mine)) >= count)
        assert reader.resyncs == []
        assert reader.ids == self.after(first, mine)[:count]
        return count

    def after(self, first: int, channels: list[str]) -> list[str]:
        return [text for channel, text in self.published[first + 1 :] if channel in channels]


async def test_killed_and_restarted_redis_ends_in_resync(
    own_server: RedisServer, client: Redis, keys: Keys, hub: Hub
) -> None:
    publisher = Publisher(client, keys)
    reader = await live_reader(hub, "broadcast")
    before = await publisher.publish("broadcast", "tick", 0)
    await eventually(lambda: reader.ids == [before])
    own_server.kill()
    own_server.start()
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
    durable = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always").start()
    client = connect(durable.url, name="faults", timeout_seconds=1)
    hub, publisher = Hub(client, keys), Publisher(client, keys)
    await hub.start()
    reader = await live_reader(hub, "broadcast")
    ids = [await publish_when_back(publisher, number) for number in range(3)]
    await eventually(lambda: reader.ids == ids)
    durable.kill()
    durable.start()
    ids += [await publish_when_back(publisher, number) for number in range(3, 6)]
    await eventually(lambda: len(reader.ids) == 6)
    assert reader.ids == ids
    assert reader.resyncs == []
    await hub.close()
    await client.aclose()
    durable.stop()


async def test_a_stream_that_opens_while_redis_is_down_ends_with_a_retry(keys: Keys) -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", name="faults", timeout_seconds=0.2)
    hub = Hub(client, keys, join_seconds=0.2)
    await hub.start()
    reader = Reader(hub.subscribe(["broadcast"]))
    await eventually(lambda: reader.comments == 1)
    await eventually(lambda: reader.ended)
    assert reader.retry_ms is not None
    assert reader.states == []
    assert hub.streams == 0
    await hub.close()
    await client.aclose()


async def test_a_stream_stays_open_while_redis_is_down_and_is_told(
    own_server: RedisServer, client: Redis, keys: Keys
) -> None:
    hub, publisher = Hub(client, keys, heartbeat_seconds=0.1), Publisher(client, keys)
    await hub.start()
    reader = await live_reader(hub, "broadcast")
    await eventually(lambda: reader.states == ["live"])
    for outages in (1, 2):
        own_server.kill()
        await eventually(lambda: reader.states[-1] == "interrupted")
        await heartbeats(reader, 5)
        own_server.start()
        missed = await publish_when_back(publisher, outages)
        await eventually(lambda: reader.states[-1] == "live")
        # What was missed comes before it is told, as an event or as the resync that covers it.
        assert reader.dispatched_id >= missed or len(reader.resyncs) == outages
        assert reader.states == ["live", *["interrupted", "live"] * outages]
    assert not reader.ended
    await hub.close()


async def test_a_connection_detects_a_silent_redis(own_server: RedisServer, client: Redis, keys: Keys) -> None:
    near, prefix = keys.event_clock(), keys.event_channel("")
    pubsub = PubSubConnection(client, prefix=prefix, near=near, silence_seconds=0.3)
    await pubsub.open()
    await pubsub.subscribe(["broadcast"])
    await pubsub.next()
    reading = asyncio.create_task(pubsub.next())
    # Idle is not silent: the server answers.
    await asyncio.wait([reading], timeout=1)
    assert not reading.done()
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(UNAVAILABLE):
        await asyncio.wait_for(reading, 10)
    await pubsub.close()
    own_server.signal(signal.SIGCONT)


class Failures(NoTelemetry):
    """How often each block failed, by the kind of failure."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.counted[name, labels.get("block", "")] += 1


async def test_a_refused_handshake_is_a_defect_that_is_logged_once_and_tried_again(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_logged", set())
    server = RedisServer(tmp_path, "--databases", "1").start()
    client = connect(server.url.removesuffix("0") + "5", name="faults", timeout_seconds=1)
    telemetry = Failures()
    hub = Hub(client, keys, telemetry=telemetry)
    await hub.start()
    try:
        await eventually(lambda: telemetry.counted["events_connection_lost", ""] >= 3)
        assert telemetry.counted["redis_defects", "events"] >= 3
        assert telemetry.counted["redis_outages", "events"] == 0
        logged = [record for record in caplog.records if record.name.startswith("app.kit") and record.exc_info]
        assert [record.name for record in logged] == ["app.kit.client.errors"]
        server.stop()
        mended = RedisServer(tmp_path, "--databases", "16", port=server.port).start()
        try:
            reader = await live_again(hub)
            published = await Publisher(client, keys).publish("broadcast", "tick", 1)
            assert await seen(reader, 1) == [published]
        finally:
            mended.stop()
    finally:
        await hub.close()
        await client.aclose()
        server.stop()


async def test_subscribing_without_permission_is_tried_again(own_server: RedisServer, keys: Keys) -> None:
    admin = connect(own_server.url, name="faults", timeout_seconds=1)
    await admin.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~*", "&*", "+@all", "-subscribe")
    client = connect(own_server.url.replace("//", "//web:pw@"), name="faults", timeout_seconds=1)
    telemetry = Failures()
    hub = Hub(client, keys, join_seconds=0.2, telemetry=telemetry)
    await hub.start()
    refused = Reader(hub.subscribe(["broadcast"]))
    await eventually(lambda: refused.ended)
    assert refused.retry_ms is not None
    assert telemetry.counted["events_connection_lost", ""] > 0
    await admin.execute_command("ACL", "SETUSER", "web", "+subscribe")
    reader = await live_again(hub)
    published = await Publisher(client, keys).publish("broadcast", "tick", 1)
    assert await seen(reader, 1) == [published]
    await hub.close()
    await client.aclose()
    await admin.aclose()


async def live_again(hub: Hub) -> Reader:
    """A live reader; as an EventSource does, it opens another stream when one has ended."""
    readers: list[Reader] = []

    def is_live() -> bool:
        if not readers or readers[-1].ended:
            readers.append(Reader(hub.subscribe(["broadcast"])))
        return readers[-1].is_live

    await eventually(is_live)
    return readers[-1]


async def test_one_connection_a_process_serves_all_streams(client: Redis, keys: Keys, hub: Hub) -> None:
    for number in range(50):
        await live_reader(hub, "broadcast", f"user:{number}")
    assert len(await client.client_list(_type="pubsub")) == 1
