"""Publishing, fan-out and resuming, as the client of a stream sees them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from app.kit.aio import end_tasks
from app.kit.events.event import MAX_PAYLOAD_BYTES, Cursor
from app.kit.events.grant import Grant
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.events.stream import WRITE_BYTES
from app.kit.keys import Keys
from tests.kit.events.event_streams import Parser, Reader, live_reader
from tests.waiting import eventually

MakeHub = Callable[..., Coroutine[Any, Any, Hub]]


@pytest.fixture
async def make_hub(redis: Redis, keys: Keys) -> AsyncIterator[MakeHub]:
    hubs: list[Hub] = []

    async def make(**options: Any) -> Hub:
        hub = Hub(redis, keys, **options)
        await hub.start()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.close()


@pytest.fixture
async def hub(make_hub: MakeHub) -> Hub:
    return await make_hub()


@pytest.fixture
def publisher(redis: Redis, keys: Keys) -> Publisher:
    return Publisher(redis, keys)


async def received(reader: Reader, count: int) -> list[str]:
    """The ids of the events that came, when there are at least `count`."""
    await eventually(lambda: len(reader.ids) >= count)
    return reader.ids


async def keys_of(redis: Redis, keys: Keys) -> list[bytes]:
    return [key async for key in redis.scan_iter(match=f"*{keys.namespace}:events*")]


async def subscribers(redis: Redis, keys: Keys, channel: str) -> int:
    """How many connections are subscribed to it, on all nodes."""
    options: dict[str, Any] = {"target_nodes": RedisCluster.ALL_NODES} if isinstance(redis, RedisCluster) else {}
    found = await redis.pubsub_numsub(keys.event_channel(channel), **options)
    return sum(number for _, number in found)


# Publishing


async def test_an_event_reaches_a_stream_as_published(hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "user:7")
    published = await publisher.publish("user:7", "new_message", {"text": "zwei\nZeilen"})
    await received(reader, 1)
    [event] = reader.events
    assert (event.id, event.type) == (published, "new_message")
    assert event.data.pop("timestamp").endswith("Z")
    assert event.data == {"type": "new_message", "data": {"text": "zwei\nZeilen"}, "channel": "user:7"}


async def test_ids_rise_over_all_channels(publisher: Publisher) -> None:
    ids = [await publisher.publish(f"channel:{number % 3}", "tick", number) for number in range(30)]
    cursors = [Cursor.parse(text) for text in ids]
    assert cursors == sorted(cursors, key=lambda cursor: cursor.position if cursor else ())
    assert len(set(cursors)) == 30


async def test_an_event_id_is_published_once(redis: Redis, keys: Keys, hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "broadcast")
    first = await publisher.publish("broadcast", "tick", 1, event_id="outbox:1")
    again = await Publisher(redis, keys).publish("broadcast", "tick", 1, event_id="outbox:1")
    last = await publisher.publish("broadcast", "tick", 2)
    assert first == again
    assert await received(reader, 2) == [first, last]


@pytest.mark.parametrize("channel", ["", "User:1", "user:*", "a b", "user:1\n", "x" * 65, "{user}", "é"])
async def test_bad_channels_are_refused(hub: Hub, publisher: Publisher, channel: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        await publisher.publish(channel, "tick", None)


@pytest.mark.parametrize("kind", ["", "a b", "tick\n", "x" * 65, "error", "open", "resync", "live", "interrupted"])
async def test_bad_types_are_refused(publisher: Publisher, kind: str) -> None:
    with pytest.raises(ValueError, match="type"):
        await publisher.publish("broadcast", kind, None)


async def test_a_user_and_everyone_have_a_channel(hub: Hub, publisher: Publisher) -> None:
    mine, other = await live_reader(hub, "broadcast", "user:7"), await live_reader(hub, "broadcast", "user:8")
    own = await publisher.publish_to_user(7, "tick", 1)
    every = await publisher.publish_broadcast("tick", 2)
    assert await received(mine, 2) == [own, every]
    assert await received(other, 1) == [every]


async def test_an_event_that_is_too_large_is_refused(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="bytes"):
        await publisher.publish("broadcast", "tick", "x" * MAX_PAYLOAD_BYTES)


async def test_every_key_but_the_clock_and_the_epoch_expires(
    redis: Redis, keys: Keys, hub: Hub, publisher: Publisher
) -> None:
    await live_reader(hub, "broadcast")
    await publisher.publish("broadcast", "tick", 1)
    await publisher.publish("user:1", "tick", 1, event_id="one")
    lasting = [key.decode() for key in await keys_of(redis, keys) if await redis.pttl(key) == -1]
    assert sorted(lasting) == sorted([keys.event_clock(), keys.event_epoch()])


async def test_a_history_keeps_its_length(redis: Redis, keys: Keys) -> None:
    publisher = Publisher(redis, keys, history_length=5)
    for number in range(12):
        await publisher.publish("broadcast", "tick", number)
    assert await redis.xlen(keys.event_stream("broadcast")) == 5


async def test_the_log_of_all_channels_is_bounded(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.kit.events.publisher.LOG_LENGTH", 200)
    publisher = Publisher(redis, keys, history_length=5)
    for start in range(0, 2000, 100):
        await asyncio.gather(*(publisher.publish(f"user:{start + number}", "tick", 0) for number in range(100)))
    # Redis trims whole nodes of a stream, of 100 entries.
    assert 200 <= await redis.xlen(keys.event_clock()) <= 400


# Fan-out


async def test_one_publish_and_one_subscription_serve_200_streams(
    redis: Redis, keys: Keys, hub: Hub, publisher: Publisher
) -> None:
    readers = [Reader(hub.subscribe(["broadcast", f"user:{number}"])) for number in range(200)]
    await eventually(lambda: all(reader.is_live for reader in readers))
    assert hub.streams == 200
    assert await subscribers(redis, keys, "broadcast") == 1
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(5)]
    own = await publisher.publish("user:42", "tick", None)
    for reader in readers:
        assert (await received(reader, 5))[:5] == ids
    assert await received(readers[42], 6) == [*ids, own]
    assert readers[41].ids == ids


async def test_a_stream_gets_only_its_channels(hub: Hub, publisher: Publisher) -> None:
    one, two = await live_reader(hub, "user:1"), await live_reader(hub, "user:2")
    first = await publisher.publish("user:1", "tick", 1)
    second = await publisher.publish("user:2", "tick", 2)
    assert await received(one, 1) == [first]
    assert await received(two, 1) == [second]


async def test_a_pattern_takes_all_channels_that_match(hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "user:*", "user:1", "broadcast")
    ids = [await publisher.publish(name, "tick", name) for name in ("user:1", "task:1", "user:2", "broadcast")]
    assert await received(reader, 3) == [ids[0], ids[2], ids[3]]


async def test_a_channel_is_unsubscribed_after_its_last_stream(redis: Redis, keys: Keys, make_hub: MakeHub) -> None:
    hub = await make_hub(linger_seconds=0.05)
    one, two = await live_reader(hub, "user:1"), await live_reader(hub, "user:1")

    async def left() -> bool:
        return await subscribers(redis, keys, "user:1") == 0

    await one.close()
    await live_reader(hub, "user:2")
    assert await subscribers(redis, keys, "user:1") == 1
    await two.close()
    assert await subscribers(redis, keys, "user:1") == 1
    await eventually(left)
    await live_reader(hub, "user:1")
    assert await subscribers(redis, keys, "user:1") == 1


async def test_a_message_that_is_no_event_is_skipped(redis: Redis, keys: Keys, hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "broadcast")
    for wire in (b"", b"junk", b"1-1 2 epoch", b"1-1 2 epoch not json", b"1-1 2 epoch {}", b"\xff \xff \xff \xff"):
        await redis.publish(keys.event_channel("broadcast"), wire)
    published = await publisher.publish("broadcast", "tick", 1)
    assert await received(reader, 1) == [published]


async def test_an_idle_stream_gets_heartbeats(make_hub: MakeHub) -> None:
    hub = await make_hub(heartbeat_seconds=0.05)
    reader = await live_reader(hub, "broadcast")
    await eventually(lambda: reader.comments > 5)
    assert reader.events == []


@pytest.mark.parametrize("topics", [[], ["User"], ["user:1", "a b"], [f"user:{number}" for number in range(33)]])
async def test_bad_topics_are_refused_before_the_stream_begins(hub: Hub, topics: list[str]) -> None:
    with pytest.raises(ValueError, match=r"channel|topics"):
        hub.subscribe(topics)


async def test_a_stream_ends_after_the_event_that_it_was_to_end_with(hub: Hub, publisher: Publisher) -> None:
    live = Reader(hub.subscribe(["task:1"], until={"done"}))
    await eventually(lambda: live.is_live)
    start = live.last_event_id
    ids = [await publisher.publish("task:1", kind, None) for kind in ("progress", "done", "late")]
    await eventually(lambda: live.ended)
    assert live.ids == ids[:2]
    resumed = Reader(hub.subscribe(["task:1"], until={"done"}, last_event_id=start))
    await eventually(lambda: resumed.ended)
    assert resumed.ids == ids[:2]
    assert hub.streams == 0


# Resuming


async def test_a_fresh_stream_starts_from_now(hub: Hub, publisher: Publisher) -> None:
    await publisher.publish("broadcast", "tick", "before")
    reader = await live_reader(hub, "broadcast")
    after = await publisher.publish("broadcast", "tick", "after")
    assert await received(reader, 1) == [after]


async def test_a_stream_resumes_over_two_channels_in_order(hub: Hub, publisher: Publisher) -> None:
    ids = []
    for number in range(500):
        # Bursts, so that one channel has more pages to read than the other.
        ids.append(await publisher.publish("broadcast" if number % 100 < 80 else "user:1", "tick", number))
    other = await publisher.publish("user:2", "tick", None)
    reader = await live_reader(hub, "broadcast", "user:1", last_event_id=ids[29])
    last = await publisher.publish("user:1", "tick", "live")
    assert await received(reader, 471) == [*ids[30:], last]
    assert other not in reader.ids


async def test_a_stream_resumes_from_before_its_first_event(hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "user:1")
    await reader.close()
    missed = await publisher.publish("user:1", "tick", None)
    again = await live_reader(hub, "user:1", last_event_id=reader.last_event_id)
    assert await received(again, 1) == [missed]


async def test_a_stream_resumes_on_another_node(make_hub: MakeHub, publisher: Publisher) -> None:
    one, two = await make_hub(), await make_hub()
    reader = await live_reader(one, "broadcast")
    first = await publisher.publish("broadcast", "tick", 1)
    await received(reader, 1)
    await one.drain(0.2)
    second = await publisher.publish("broadcast", "tick", 2)
    again = await live_reader(two, "broadcast", last_event_id=reader.last_event_id)
    assert reader.ids == [first]
    assert await received(again, 1) == [second]


@pytest.mark.parametrize("junk", ["", "junk", "1-1", "'; DROP TABLE", "x" * 5000, "00000000000g-1-1", "\r\n"])
async def test_junk_for_an_id_is_a_fresh_start(hub: Hub, publisher: Publisher, junk: str) -> None:
    await publisher.publish("broadcast", "tick", "before")
    reader = await live_reader(hub, "broadcast", last_event_id=junk)
    after = await publisher.publish("broadcast", "tick", "after")
    assert await received(reader, 1) == [after]
    assert reader.resyncs == []


async def test_resync_where_the_history_is_too_short(redis: Redis, keys: Keys, hub: Hub) -> None:
    publisher = Publisher(redis, keys, history_length=5)
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(10)]
    reaches = await live_reader(hub, "broadcast", last_event_id=ids[4])
    assert reaches.ids == ids[5:]
    assert reaches.resyncs == []
    lost = await live_reader(hub, "broadcast", last_event_id=ids[3])
    assert lost.resyncs == ["history"]
    assert lost.ids == []
    after = await publisher.publish("broadcast", "tick", "after")
    assert await received(lost, 1) == [after]


async def test_resync_where_a_history_has_vanished(redis: Redis, keys: Keys, hub: Hub, publisher: Publisher) -> None:
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(3)]
    await redis.unlink(keys.event_stream("broadcast"))
    reader = await live_reader(hub, "broadcast", last_event_id=ids[0])
    assert reader.resyncs == ["history"]


async def test_resync_after_a_cursor_of_another_time(redis: Redis, keys: Keys, make_hub: MakeHub) -> None:
    hub = await make_hub(history_seconds=60)
    now = Cursor.parse(await Publisher(redis, keys).publish("broadcast", "tick", None))
    assert now is not None
    ms = now.position[0]
    for strange in (
        Cursor("0" * 12, now.position),
        Cursor(now.epoch, (ms + 60_000, 0)),
        Cursor(now.epoch, (ms - 61_000, 0)),
    ):
        reader = await live_reader(hub, "broadcast", last_event_id=str(strange))
        assert reader.resyncs == ["history"]
        assert reader.ids == []
        assert reader.last_event_id == str(now)


async def test_resync_of_a_pattern(hub: Hub, publisher: Publisher) -> None:
    reader = await live_reader(hub, "user:*")
    await reader.close()
    again = await live_reader(hub, "user:*", last_event_id=reader.last_event_id)
    assert again.resyncs == ["history"]


async def test_resync_when_redis_has_forgotten_everything(
    redis: Redis, keys: Keys, hub: Hub, publisher: Publisher
) -> None:
    reader = await live_reader(hub, "broadcast")
    first = await publisher.publish("broadcast", "tick", 1)
    await received(reader, 1)
    await redis.unlink(*await keys_of(redis, keys))
    second = await publisher.publish("broadcast", "tick", 2)
    assert await received(reader, 2) == [first, second]
    assert [event.type for event in reader.events] == ["tick", "resync", "tick"]
    assert reader.resyncs == ["epoch"]


async def test_a_gap_in_the_live_stream_is_filled_from_the_history(
    redis: Redis, keys: Keys, hub: Hub, publisher: Publisher
) -> None:
    reader = await live_reader(hub, "broadcast")
    first = Cursor.parse(await publisher.publish("broadcast", "tick", 1))
    assert first is not None
    await received(reader, 1)
    # A message that says that another came before it, which did not: the hub must not go on as if all were well.
    ms, sequence = first.position
    forged = f'{ms}-{sequence + 2} {ms}-{sequence + 1} {first.epoch} {{"type":"forged"}}'
    await redis.publish(keys.event_channel("broadcast"), forged)
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(3)]
    assert await received(reader, 4) == [str(first), *ids]
    assert reader.resyncs == []


async def test_a_replay_of_large_events_comes_in_writes_of_a_bounded_size(hub: Hub, publisher: Publisher) -> None:
    first = await publisher.publish("user:1", "tick", 0)
    ids = [await publisher.publish(f"user:{number % 2}", "tick", "x" * 60_000) for number in range(20)]
    reader = Parser()
    sizes = []
    async for chunk in hub.subscribe(["user:0", "user:1"], last_event_id=first):
        sizes.append(len(chunk))
        reader.feed(chunk)
        if len(reader.events) == len(ids):
            break
    assert [event.id for event in reader.events] == ids
    # Or one event of each channel beyond it.
    assert max(sizes) < 2 * WRITE_BYTES + 1000


async def test_a_client_that_reads_a_long_replay_slowly_gets_it_whole(make_hub: MakeHub, publisher: Publisher) -> None:
    hub = await make_hub(heartbeat_seconds=0.4)
    first = await publisher.publish("user:1", "tick", 0)
    ids = [await publisher.publish("user:1", "tick", "x" * 60_000) for number in range(30)]
    reader = Parser()

    async def read_slowly() -> None:
        async for chunk in hub.subscribe(["user:1"], last_event_id=first):
            reader.feed(chunk)
            # Longer than it may take nothing, in all; less than the time between two looks at it, each time.
            await asyncio.sleep(0.05)

    reading = asyncio.create_task(read_slowly())
    await eventually(lambda: len(reader.events) == len(ids) or reading.done())
    assert [event.id for event in reader.events] == ids
    await end_tasks([reading])


# Slow clients, cap and drain


async def test_a_slow_client_delays_no_other_and_gets_a_resync(make_hub: MakeHub, publisher: Publisher) -> None:
    hub = await make_hub(max_frames=10)
    slow = hub.subscribe(["broadcast"])
    await anext(slow)
    await anext(slow)
    fast = await live_reader(hub, "broadcast")
    ids = []
    for number in range(15):
        ids.append(await publisher.publish("broadcast", "tick", number))
        assert await received(fast, number + 1) == ids
    reader = Reader(slow)
    assert await received(reader, 4) == ids[11:]
    assert reader.resyncs == ["slow"]
    # The id of the resync is that of the last event lost: what follows it is complete.
    assert reader.events[0].id == ids[10]
    assert reader.ended is False


async def test_a_client_that_reads_nothing_at_all_is_closed(make_hub: MakeHub, publisher: Publisher) -> None:
    hub = await make_hub(max_bytes=3000)
    stalled = hub.subscribe(["broadcast"])
    await anext(stalled)
    await anext(stalled)
    fast = await live_reader(hub, "broadcast")
    ids = []
    for number in range(10):
        ids.append(await publisher.publish("broadcast", "tick", "x" * 1000))
        assert await received(fast, number + 1) == ids
    reader = Reader(stalled)
    await eventually(lambda: reader.ended)
    assert reader.retry_ms is not None
    assert reader.events == []


async def test_beyond_the_cap_a_stream_ends_with_a_retry(make_hub: MakeHub) -> None:
    hub = await make_hub(max_streams=2)
    one, two = await live_reader(hub, "broadcast"), await live_reader(hub, "broadcast")
    refused = Reader(hub.subscribe(["broadcast"]))
    await eventually(lambda: refused.ended)
    assert refused.retry_ms is not None
    assert not refused.is_live
    await one.close()
    admitted = await live_reader(hub, "broadcast")
    assert not admitted.ended
    assert not two.ended


async def test_drain_ends_all_streams_spread_over_its_time(make_hub: MakeHub) -> None:
    hub = await make_hub()
    readers = [Reader(hub.subscribe(["broadcast"])) for _ in range(100)]
    await eventually(lambda: all(reader.is_live for reader in readers))
    loop = asyncio.get_running_loop()
    began = loop.time()
    draining = asyncio.create_task(hub.drain(0.5))
    await eventually(lambda: sum(reader.ended for reader in readers) >= 20)
    assert sum(reader.ended for reader in readers) < 80
    refused = Reader(hub.subscribe(["broadcast"]))
    await eventually(lambda: refused.ended)
    await draining
    assert loop.time() - began < 0.6
    assert hub.streams == 0
    await eventually(lambda: all(reader.ended for reader in readers))
    assert refused.retry_ms is not None
    assert len({reader.retry_ms for reader in readers}) > 50


async def test_drain_does_not_wait_for_a_client_that_does_not_read(make_hub: MakeHub) -> None:
    hub = await make_hub()
    stalled = hub.subscribe(["broadcast"])
    await anext(stalled)
    await asyncio.wait_for(hub.drain(0.1), 1)
    assert hub.streams == 1
    await stalled.aclose()
    assert hub.streams == 0


async def test_closing_ends_what_is_open(make_hub: MakeHub) -> None:
    hub = await make_hub()
    reader = await live_reader(hub, "broadcast")
    await hub.close()
    await eventually(lambda: reader.ended)


async def test_a_stream_that_is_never_read_leaves_no_trace(hub: Hub) -> None:
    stream = hub.subscribe(["broadcast"])
    assert hub.streams == 0
    await stream.aclose()
    assert hub.streams == 0


# Grants, caps and age


def granted(hub: Hub, *topics: str, **grant: Any) -> Reader:
    return Reader(hub.subscribe(topics or ("broadcast",), grant=Grant(**grant)))


async def test_a_revocation_ends_the_streams_of_one_credential_or_of_all(hub: Hub, publisher: Publisher) -> None:
    one, two, other = (granted(hub, user_id=user, credential=name) for user, name in ((1, "a"), (1, "b"), (2, "a")))
    await eventually(lambda: one.is_live and two.is_live and other.is_live)
    hub.revoke(1, "a")
    await eventually(lambda: one.ended)
    assert not two.ended
    hub.revoke(1)
    await eventually(lambda: two.ended)
    published = await publisher.publish("broadcast", "tick", 1)
    assert await received(other, 1) == [published]
    assert one.ids == two.ids == []
    assert hub.streams == 1


async def test_what_is_queued_at_a_revocation_is_not_written(hub: Hub, publisher: Publisher) -> None:
    stream = hub.subscribe(["broadcast"], grant=Grant(user_id=1))
    await anext(stream)
    await anext(stream)
    witness = await live_reader(hub, "broadcast")
    published = await publisher.publish("broadcast", "tick", 1)
    assert await received(witness, 1) == [published]
    hub.revoke(1)
    rest = Reader(stream)
    await eventually(lambda: rest.ended)
    assert rest.events == []
    assert rest.retry_ms is not None


async def test_a_revocation_during_the_replay_ends_it(hub: Hub, publisher: Publisher) -> None:
    ids = [await publisher.publish("broadcast", "tick", number) for number in range(300)]
    stream = hub.subscribe(["broadcast"], last_event_id=ids[0], grant=Grant(user_id=1))
    reader = Parser()
    reader.feed(await anext(stream))
    reader.feed(await anext(stream))
    first_page = len(reader.events)
    assert 0 < first_page < 299
    hub.revoke(1)
    async for data in stream:
        reader.feed(data)
    assert len(reader.events) == first_page


async def test_a_revocation_before_the_stream_counts_when_its_credential_was_checked_before(hub: Hub) -> None:
    before = time.perf_counter()
    hub.revoke(1)
    late = granted(hub, user_id=1, since=before)
    await eventually(lambda: late.ended)
    fresh = granted(hub, user_id=1)
    await eventually(lambda: fresh.is_live)
    assert not fresh.ended


async def test_after_lost_revocations_every_grant_is_checked_until_the_answer_is_known(hub: Hub) -> None:
    answers: dict[str, list[bool | None]] = {"holds": [True], "ended": [None, None, False]}

    def check(name: str) -> Any:
        async def ask() -> bool | None:
            return answers[name].pop(0)

        return ask

    async def broken() -> bool:
        raise ZeroDivisionError

    holds, ended = (granted(hub, user_id=number, check=check(name)) for number, name in enumerate(answers))
    defect, visitor = granted(hub, user_id=9, check=broken), granted(hub)
    await eventually(lambda: all(reader.is_live for reader in (holds, ended, defect, visitor)))
    hub.check_grants()
    await eventually(lambda: ended.ended and defect.ended)
    assert answers == {"holds": [], "ended": []}
    assert not holds.ended
    assert not visitor.ended
    # One that was checked before the connection was back, and opens after it.
    answers["holds"].append(False)
    late = granted(hub, user_id=0, since=0.0, check=check("holds"))
    await eventually(lambda: late.ended)


async def test_a_user_and_a_network_have_so_many_streams(make_hub: MakeHub) -> None:
    hub = await make_hub(max_streams_per_user=2, max_streams_per_network=3)
    mine = [granted(hub, user_id=1, network="a") for _ in range(2)]
    await eventually(lambda: all(reader.is_live for reader in mine))
    refused = granted(hub, user_id=1, network="b")
    await eventually(lambda: refused.ended)
    assert refused.retry_ms is not None
    visitor = granted(hub, network="a")
    await eventually(lambda: visitor.is_live)
    full, elsewhere = granted(hub, network="a"), granted(hub, network="b")
    await eventually(lambda: full.ended and elsewhere.is_live)
    assert not full.is_live
    await mine[0].close()
    again = granted(hub, user_id=1, network="a")
    await eventually(lambda: again.is_live)


async def test_a_stream_ends_at_its_age_and_its_client_loses_nothing(make_hub: MakeHub, publisher: Publisher) -> None:
    hub = await make_hub(max_age_seconds=0.2, heartbeat_seconds=0.2)
    old = await live_reader(hub, "broadcast")
    await eventually(lambda: old.ended)
    missed = await publisher.publish("broadcast", "tick", 1)
    again = await live_reader(hub, "broadcast", last_event_id=old.last_event_id)
    assert await received(again, 1) == [missed]


async def test_a_stream_ends_no_later_than_its_credential(make_hub: MakeHub) -> None:
    hub = await make_hub(heartbeat_seconds=0.2)
    short, long = granted(hub, user_id=1, seconds=0.1), granted(hub, user_id=2, seconds=3600.0)
    await eventually(lambda: short.ended)
    assert not long.ended


async def test_a_client_that_takes_nothing_is_ended_and_its_writer_cancelled(
    make_hub: MakeHub, publisher: Publisher
) -> None:
    hub = await make_hub(heartbeat_seconds=0.2)
    held = asyncio.Event()

    async def write() -> None:
        async for _ in hub.subscribe(["broadcast"]):
            await held.wait()

    writer = asyncio.create_task(write())
    await eventually(lambda: hub.streams == 1)
    await eventually(writer.done)
    assert writer.cancelled()
    await eventually(lambda: hub.streams == 0)
