"""Handlers of events in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

from app.kit.aio import end_tasks
from app.kit.client.pubsub import PubSubConnection
from app.kit.events.event import Event
from app.kit.events.publisher import Publisher
from app.kit.events.subscriber import Handler, Subscriber
from app.kit.keys import Keys
from tests.waiting import eventually

Start = Callable[..., Coroutine[Any, Any, Subscriber]]


@pytest.fixture
async def start(redis: Redis, keys: Keys) -> AsyncIterator[Start]:
    """Starts a subscriber, and returns it when it is subscribed."""
    running: list[tuple[Subscriber, asyncio.Task[None]]] = []

    async def begin(handlers: dict[str, Handler], **options: Any) -> Subscriber:
        listens = asyncio.Event()

        async def probed(event: Event) -> None:
            listens.set()

        async def probe() -> bool:
            await Publisher(redis, keys).publish("user:0", "probe", None)
            return listens.is_set()

        subscriber = Subscriber(redis, keys, {**handlers, "probe": probed}, **options)
        running.append((subscriber, asyncio.create_task(subscriber.run())))
        await eventually(probe)
        return subscriber

    yield begin
    for subscriber, task in running:
        subscriber.stop()
        await asyncio.wait_for(task, 1)


@pytest.fixture
def publisher(redis: Redis, keys: Keys) -> Publisher:
    return Publisher(redis, keys)


async def test_a_handler_gets_the_events_of_its_type(start: Start, publisher: Publisher) -> None:
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)

    await start({"tick": handle}, topics=["user:*"])
    await publisher.publish("broadcast", "tick", "elsewhere")
    await publisher.publish("user:1", "tock", "another type")
    published = await publisher.publish("user:1", "tick", {"n": 1})
    await eventually(lambda: seen)
    [event] = seen
    assert (event.id, event.channel, event.type, event.data) == (published, "user:1", "tick", {"n": 1})
    assert event.timestamp.tzinfo is not None


async def test_an_exception_stops_only_its_own_handler(start: Start, publisher: Publisher) -> None:
    seen: list[int] = []

    async def handle(event: Event) -> None:
        if event.data == 1:
            raise RuntimeError("the first one fails")
        seen.append(event.data)

    await start({"tick": handle})
    for number in range(1, 4):
        await publisher.publish("broadcast", "tick", number)
    await eventually(lambda: sorted(seen) == [2, 3])


async def test_a_message_that_is_no_event_is_skipped(
    redis: Redis, keys: Keys, start: Start, publisher: Publisher
) -> None:
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.data)

    await start({"tick": handle})
    for wire in (b"junk", b"1-1 0-0 e {}", b'1-1 0-0 e {"type":"tick"}', b"\xff 1 2 3"):
        await redis.publish(keys.event_channel("broadcast"), wire)
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: seen == [1])


async def test_stopping_lets_running_handlers_finish(start: Start, publisher: Publisher) -> None:
    released = asyncio.Event()
    states: list[str] = []

    async def handle(event: Event) -> None:
        states.append("began")
        await released.wait()
        states.append("finished")

    subscriber = await start({"tick": handle})
    await publisher.publish("broadcast", "tick", None)
    await eventually(lambda: states)
    subscriber.stop()
    await publisher.publish("broadcast", "tick", None)
    released.set()
    await eventually(lambda: len(states) > 1)
    assert states == ["began", "finished"]


async def test_stopping_cancels_what_does_not_finish(start: Start, publisher: Publisher) -> None:
    states: list[str] = []

    async def handle(event: Event) -> None:
        states.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            states.append("cancelled")

    subscriber = await start({"tick": handle}, grace_seconds=0.05)
    await publisher.publish("broadcast", "tick", None)
    await eventually(lambda: states)
    subscriber.stop()
    await eventually(lambda: states == ["began", "cancelled"])


async def test_no_more_handlers_than_allowed_run_at_once(start: Start, publisher: Publisher) -> None:
    running = 0
    most = 0
    done = 0

    async def handle(event: Event) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1

    await start({"tick": handle}, concurrency=3)
    for number in range(20):
        await publisher.publish("broadcast", "tick", number)
    await eventually(lambda: done == 20)
    assert most <= 3


@pytest.mark.server
async def test_it_subscribes_again_after_its_connection_was_lost(real_redis: Redis, keys: Keys) -> None:
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.data)

    subscriber, publisher = Subscriber(real_redis, keys, {"tick": handle}), Publisher(real_redis, keys)
    running = asyncio.create_task(subscriber.run())

    async def published() -> bool:
        await publisher.publish("broadcast", "tick", len(seen))
        return bool(seen)

    await eventually(published)
    seen.clear()
    await real_redis.client_kill_filter(_type="pubsub")
    await eventually(published)
    subscriber.stop()
    await running


async def test_a_defect_ends_it_instead_of_leaving_it_without_a_connection(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(connection: PubSubConnection) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(PubSubConnection, "next", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(Subscriber(redis, keys, {}).run(), 1)


async def test_cancelling_it_ends_everything(redis: Redis, keys: Keys) -> None:
    async def handle(event: Event) -> None:
        raise AssertionError("nothing was published")

    running = asyncio.create_task(Subscriber(redis, keys, {"tick": handle}).run())
    await asyncio.sleep(0)
    await end_tasks([running])
    assert running.cancelled()
