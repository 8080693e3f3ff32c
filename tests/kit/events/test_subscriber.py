"""Handlers of events: in one process or in all, tried again, and alone with their failures."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import end_tasks
from app.kit.client.connect import connect
from app.kit.events import subscriber as subscriber_module
from app.kit.events.event import Event
from app.kit.events.handler import EventHandler, on_event
from app.kit.events.log import EventLog
from app.kit.events.publisher import Publisher
from app.kit.events.subscriber import Subscriber
from app.kit.keys import Keys
from tests.commands import ROOT
from tests.services import RedisServer
from tests.waiting import eventually

Start = Callable[..., Coroutine[Any, Any, Subscriber]]


@pytest.fixture(autouse=True)
def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "RETRY_SECONDS", 0.001)


@pytest.fixture
async def start(redis: Redis, keys: Keys) -> AsyncIterator[Start]:
    """Starts a subscriber, and returns it when it receives."""
    running: list[tuple[Subscriber, asyncio.Task[None]]] = []

    async def begin(*handlers: EventHandler, **options: Any) -> Subscriber:
        listens = asyncio.Event()

        @on_event("probe", once=False)
        async def probed(resources: None, event: Event) -> None:
            listens.set()

        async def probe() -> bool:
            await Publisher(redis, keys).publish("user:0", "probe", None)
            return listens.is_set()

        subscriber = Subscriber(redis, keys, [*handlers, probed], **options)
        running.append((subscriber, asyncio.create_task(subscriber.run())))
        await eventually(probe)
        return subscriber

    yield begin
    for subscriber, task in running:
        subscriber.stop()
        await asyncio.wait_for(task, 10)


@pytest.fixture
def publisher(redis: Redis, keys: Keys) -> Publisher:
    return Publisher(redis, keys)


def recording(seen: list[Any], type: str = "tick", **options: Any) -> EventHandler:
    """A handler that keeps the data of its events."""

    @on_event(type, **options)
    async def record(resources: Any, event: Event) -> None:
        seen.append(event.data)

    return record


both = pytest.mark.parametrize("once", [True, False], ids=["once", "every"])


@both
async def test_a_handler_gets_the_events_of_its_type_and_topics(start: Start, publisher: Publisher, once: bool) -> None:
    seen: list[tuple[Any, Event]] = []

    @on_event("tick", topics=["user:*", "task:1"], once=once)
    async def handle(resources: Any, event: Event) -> None:
        seen.append((resources, event))

    await start(handle, resources="resources")
    for channel in ("broadcast", "user", "task:11", "xuser:1"):
        await publisher.publish(channel, "tick", "elsewhere")
    await publisher.publish("user:1", "tock", "another type")
    ids = [await publisher.publish("user:1", "tick", {"n": 1}), await publisher.publish("task:1", "tick", None)]
    await eventually(lambda: len(seen) == 2)
    # Events are handled side by side, in no order.
    assert [resources for resources, _ in seen] == ["resources", "resources"]
    event, other = sorted((event for _, event in seen), key=lambda event: event.id)
    assert (event.id, event.channel, event.type, event.data) == (ids[0], "user:1", "tick", {"n": 1})
    assert event.timestamp.tzinfo is not None
    assert other.id == ids[1]


async def test_several_nodes_handle_an_event_once_or_each_of_them(start: Start, publisher: Publisher) -> None:
    once: list[int] = []
    every: list[int] = []
    for _ in range(3):
        await start(recording(once), recording(every, once=False))
    for number in range(100):
        await publisher.publish(f"user:{number % 7}", "tick", number)
    await eventually(lambda: len(once) >= 100 and len(every) >= 300)
    assert sorted(once) == list(range(100))
    assert sorted(every) == sorted([*range(100)] * 3)


async def test_what_is_published_while_no_process_runs_is_handled_once_later(
    redis: Redis, keys: Keys, publisher: Publisher
) -> None:
    seen: list[int] = []
    first = Subscriber(redis, keys, [recording(seen)])
    await publisher.publish("broadcast", "tick", -1)
    running = asyncio.create_task(first.run())

    async def handled() -> bool:
        await publisher.publish("broadcast", "tick", 0)
        return bool(seen)

    await eventually(handled)
    first.stop()
    await running
    assert set(seen) == {0}
    for number in range(1, 4):
        await publisher.publish("broadcast", "tick", number)
    second = Subscriber(redis, keys, [recording(seen)])
    running = asyncio.create_task(second.run())
    await eventually(lambda: {1, 2, 3} <= set(seen))
    second.stop()
    await running
    assert [number for number in seen if number] == [1, 2, 3]


@both
async def test_a_failed_attempt_is_repeated_and_stops_no_other_handler(
    start: Start, publisher: Publisher, once: bool
) -> None:
    attempts: list[int] = []
    seen: list[int] = []

    @on_event("tick", once=once, attempts=3)
    async def fail(resources: None, event: Event) -> None:
        attempts.append(event.data)
        if event.data == 1 or len(attempts) < 3:
            raise RuntimeError("it fails")

    await start(fail, recording(seen, once=once))
    await publisher.publish("broadcast", "tick", 0)
    await eventually(lambda: attempts == [0, 0, 0] and seen == [0])
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: attempts == [0, 0, 0, 1, 1, 1] and seen == [0, 1])
    await publisher.publish("broadcast", "tick", 2)
    await eventually(lambda: attempts[6:] == [2] and seen == [0, 1, 2])


async def test_a_handler_that_takes_too_long_is_cancelled_and_repeated(start: Start, publisher: Publisher) -> None:
    began: list[int] = []

    @on_event("tick", attempts=2, timeout_seconds=0.05)
    async def hang(resources: None, event: Event) -> None:
        began.append(event.data)
        await asyncio.Event().wait()

    await start(hang)
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: began == [1, 1])


async def test_a_lease_is_renewed_while_its_event_is_handled(start: Start, publisher: Publisher) -> None:
    released = asyncio.Event()
    began: list[int] = []
    beats: list[int] = []

    @on_event("tick")
    async def handle(resources: None, event: Event) -> None:
        began.append(event.data)
        await released.wait()

    for _ in range(2):
        await start(handle, recording(beats, "beat"), lease_seconds=0.6)
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: began)
    loop = asyncio.get_running_loop()
    until = loop.time() + 2
    # Several leases long.
    await eventually(lambda: loop.time() > until)
    assert began == [1]
    released.set()


async def test_an_event_without_its_history_is_skipped(
    redis: Redis, keys: Keys, start: Start, publisher: Publisher
) -> None:
    seen: list[int] = []
    await start(recording(seen, once=False), recording(seen))
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.xadd(keys.event_clock(), {"channel": "broadcast"})
        pipeline.xadd(keys.event_clock(), {"tick": ""})
        pipeline.xadd(keys.event_clock(), {"junk": b"\xff"})
        await pipeline.execute()
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: seen == [1, 1])


async def test_stopping_lets_running_handlers_finish(start: Start, publisher: Publisher) -> None:
    released = asyncio.Event()
    states: list[str] = []

    @on_event("tick", once=False)
    async def handle(resources: None, event: Event) -> None:
        states.append("began")
        await released.wait()
        states.append("finished")

    subscriber = await start(handle)
    await publisher.publish("broadcast", "tick", None)
    await eventually(lambda: states)
    subscriber.stop()
    await publisher.publish("broadcast", "tick", None)
    released.set()
    await eventually(lambda: len(states) > 1)
    assert states == ["began", "finished"]


async def test_what_does_not_finish_is_cancelled_and_handled_elsewhere(start: Start, publisher: Publisher) -> None:
    states: list[str] = []
    seen: list[int] = []

    @on_event("tick")
    async def handle(resources: None, event: Event) -> None:
        states.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            states.append("cancelled")

    subscriber = await start(handle, grace_seconds=0.05, lease_seconds=0.6)
    await publisher.publish("broadcast", "tick", 1)
    await eventually(lambda: states)
    subscriber.stop()
    await eventually(lambda: states == ["began", "cancelled"])
    await start(recording(seen), lease_seconds=0.6)
    await eventually(lambda: seen == [1])


@both
async def test_no_more_events_than_allowed_are_handled_at_once(start: Start, publisher: Publisher, once: bool) -> None:
    running = 0
    most = 0
    done = 0

    @on_event("tick", once=once)
    async def handle(resources: None, event: Event) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1

    await start(handle, concurrency=3)
    for number in range(20):
        await publisher.publish("broadcast", "tick", number)
    await eventually(lambda: done == 20)
    assert most <= 3


@pytest.mark.parametrize(
    "given", [{"type": "a b"}, {"type": "open"}, {"topics": []}, {"topics": ["A"]}, {"attempts": 0}]
)
def test_a_handler_that_could_never_be_called_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"type|topic|channel|attempt"):
        on_event(**{"type": "tick", **given})


NODE = """
import asyncio, sys
from app.kit.client.connect import connect
from app.kit.events.handler import on_event
from app.kit.events.subscriber import Subscriber
from app.kit.keys import Keys

@on_event("tick")
async def handle(resources, event):
    print(event.data, flush=True)
    await asyncio.Event().wait()

asyncio.run(Subscriber(connect(sys.argv[1], name="node", timeout_seconds=5), Keys(sys.argv[2]), [handle]).run())
"""


def start_node(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", NODE, *arguments], cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.server
async def test_an_event_whose_process_was_killed_is_handled_by_another(redis_server: RedisServer, keys: Keys) -> None:
    client = connect(redis_server.url, name="test", timeout_seconds=5)
    seen: list[int] = []
    log = EventLog(client, keys, group="subscriber", lease_seconds=1)
    await log.create_group(after="0-0")
    await Publisher(client, keys).publish("broadcast", "tick", 7)
    node = start_node(redis_server.url, keys.namespace)
    try:
        assert node.stdout is not None
        assert await asyncio.to_thread(node.stdout.readline) == b"7\n"
    finally:
        node.send_signal(signal.SIGKILL)
        node.wait()
        assert node.stdout is not None
        node.stdout.close()
    other = Subscriber(client, keys, [recording(seen)], lease_seconds=1)
    running = asyncio.create_task(other.run())
    await eventually(lambda: seen == [7])
    other.stop()
    await running
    await client.aclose()


async def test_an_event_that_ends_every_process_is_given_up(redis: Redis, keys: Keys, start: Start) -> None:
    seen: list[int] = []
    log = EventLog(redis, keys, group="subscriber", lease_seconds=0)
    await log.create_group(after="0-0")
    publisher = Publisher(redis, keys)
    await publisher.publish("broadcast", "tick", 1)
    for _ in range(3):
        # Claimed by processes that die before they have handled it.
        assert await log.claim(10, handled=())
    await start(recording(seen), lease_seconds=0.03)
    await publisher.publish("broadcast", "tick", 2)
    await eventually(lambda: seen == [2])

    async def acknowledged() -> bool:
        pending = await redis.xpending(keys.event_clock(), "subscriber")
        return bool(pending["pending"] == 0)

    await eventually(acknowledged)
    assert seen == [2]


@pytest.mark.server
async def test_it_goes_on_after_lost_connections_and_lost_data(own_server: RedisServer, keys: Keys) -> None:
    client = connect(own_server.url, name="test", timeout_seconds=1)
    seen: list[int] = []
    every: list[int] = []
    subscriber = Subscriber(client, keys, [recording(seen), recording(every, once=False)], lease_seconds=1)
    publisher = Publisher(client, keys)
    running = asyncio.create_task(subscriber.run())

    async def handled() -> bool:
        await publisher.publish("broadcast", "tick", len(seen))
        return bool(seen and every)

    await eventually(handled)

    async def kill() -> bool:
        return bool(await client.client_kill_filter(_type="normal", skipme=False))

    async def flush() -> bool:
        return bool(await client.flushall())

    for lose in (kill, flush):
        await _done(lose)
        seen.clear()
        every.clear()
        await eventually(lambda: _done(handled), seconds=20)
    subscriber.stop()
    await running
    await client.aclose()


async def _done(call: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
    """Whether a call succeeds, with a true value."""
    try:
        return bool(await call())
    except RedisError:
        return False


async def test_a_defect_ends_it_instead_of_leaving_it_deaf(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(log: EventLog, *arguments: Any, **options: Any) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(EventLog, "read", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(Subscriber(redis, keys, []).run(), 5)


async def test_cancelling_it_ends_everything(redis: Redis, keys: Keys) -> None:
    running = asyncio.create_task(Subscriber(redis, keys, [recording([])]).run())
    await asyncio.sleep(0)
    await end_tasks([running])
    assert running.cancelled()
