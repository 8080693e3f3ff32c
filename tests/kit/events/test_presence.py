"""Who is online, over several nodes, some of which die."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.events.grant import Grant
from app.kit.events.hub import Hub
from app.kit.events.presence import PRESENCE, Presence
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from tests.commands import ROOT
from tests.kit.events.event_streams import Reader, live_reader
from tests.services import RedisServer
from tests.waiting import eventually

MakePresence = Callable[..., Presence]


@pytest.fixture
async def make_presence(redis: Redis, keys: Keys) -> AsyncIterator[MakePresence]:
    """Makes the presence of one node, and runs it."""
    running: list[tuple[Presence, asyncio.Task[None]]] = []

    def make(**options: Any) -> Presence:
        given = {"lease_seconds": 0.6, "offline_seconds": 0.1, **options}
        presence = Presence(redis, keys, Publisher(redis, keys), **given)
        running.append((presence, asyncio.create_task(presence.run())))
        return presence

    yield make
    for presence, task in running:
        presence.stop()
        await asyncio.wait_for(task, 5)


@pytest.fixture
async def watcher(redis: Redis, keys: Keys) -> AsyncIterator[Reader]:
    """A stream of the presence."""
    hub = Hub(redis, keys)
    await hub.start()
    yield await live_reader(hub, PRESENCE)
    await hub.close()


def changes(reader: Reader) -> list[tuple[str, int]]:
    return [(event.type, event.data["data"]["user_id"]) for event in reader.events]


async def online(presence: Presence) -> set[int]:
    _, users = await presence.online()
    return {user.user_id for user in users}


async def test_a_user_is_online_while_one_node_has_them(make_presence: MakePresence, watcher: Reader) -> None:
    one, two = make_presence(), make_presence()
    one.add(7)
    two.add(7)
    two.add(8)
    await eventually(lambda: len(changes(watcher)) == 2)
    assert set(changes(watcher)) == {("user_online", 7), ("user_online", 8)}
    assert await one.is_online(7)
    assert not await one.is_online(9)
    two.discard(7)
    two.discard(8)
    await eventually(lambda: len(changes(watcher)) == 3)
    assert changes(watcher)[2] == ("user_offline", 8)
    assert await online(two) == {7}
    one.discard(7)
    await eventually(lambda: len(changes(watcher)) == 4)
    assert changes(watcher)[3] == ("user_offline", 7)
    assert await online(one) == set()


async def test_a_reload_of_a_page_changes_nothing(make_presence: MakePresence, watcher: Reader) -> None:
    presence = make_presence(offline_seconds=0.3)
    presence.add(7)
    await eventually(lambda: changes(watcher))
    for _ in range(5):
        presence.discard(7)
        await asyncio.sleep(0)
        presence.add(7)
    presence.add(8)
    presence.discard(8)
    await eventually(lambda: ("user_offline", 8) in changes(watcher))
    assert [user for _, user in changes(watcher)] == [7, 8, 8]


async def test_users_of_a_node_that_stops_go_over_to_another(make_presence: MakePresence, watcher: Reader) -> None:
    one, two = make_presence(offline_seconds=0.5), make_presence()
    one.add(7)
    one.add(8)
    await eventually(lambda: len(changes(watcher)) == 2)
    one.stop()
    two.add(7)
    await eventually(lambda: len(changes(watcher)) == 3)
    assert changes(watcher)[2] == ("user_offline", 8)
    assert await online(two) == {7}


async def test_a_node_that_was_counted_out_returns(
    redis: Redis, keys: Keys, make_presence: MakePresence, watcher: Reader
) -> None:
    one = make_presence()
    one.add(7)
    await eventually(lambda: changes(watcher))
    # As after a pause longer than its lease, or after FLUSHALL.
    await redis.unlink(keys.presence("nodes"), keys.presence("since"), keys.presence("users"))

    async def is_back() -> bool:
        return await one.is_online(7)

    await eventually(is_back)


async def test_thousands_come_and_go(make_presence: MakePresence) -> None:
    one = make_presence(offline_seconds=0.05)
    for user in range(1100):
        one.add(user)

    async def count() -> int:
        return (await one.online(limit=1))[0]

    async def all_there() -> bool:
        return await count() == 1100

    async def all_gone() -> bool:
        return await count() == 0

    await eventually(all_there, seconds=30)
    for user in range(1100):
        one.discard(user)
    await eventually(all_gone, seconds=30)


async def test_every_key_expires(redis: Redis, keys: Keys, make_presence: MakePresence, watcher: Reader) -> None:
    make_presence().add(7)
    await eventually(lambda: changes(watcher))
    names = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:events*presence*")]
    assert len(names) >= 3
    assert all([await redis.pttl(name) > 0 for name in names])


async def test_the_hub_says_who_has_a_stream(redis: Redis, keys: Keys, make_presence: MakePresence) -> None:
    presence = make_presence()
    hub = Hub(redis, keys, presence=presence)
    await hub.start()
    pages = [Reader(hub.subscribe(["broadcast"], grant=Grant(user_id=7))) for _ in range(2)]
    visitor = await live_reader(hub, "broadcast")

    async def is_online() -> bool:
        return await online(presence) == {7}

    async def is_offline() -> bool:
        return not await online(presence)

    await eventually(is_online)
    await pages[0].close()
    await visitor.close()
    assert await is_online()
    await pages[1].close()
    await eventually(is_offline)
    await hub.close()


NODE = """
import asyncio, sys
from app.kit.client.connect import connect
from app.kit.events.presence import Presence
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys

async def main() -> None:
    redis, keys = connect(sys.argv[1], name="node", timeout_seconds=5), Keys(sys.argv[2])
    presence = Presence(redis, keys, Publisher(redis, keys), lease_seconds=1.0)
    for user in sys.argv[3:]:
        presence.add(int(user))
    await presence.run()

asyncio.run(main())
"""


def start_node(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", NODE, *arguments], cwd=ROOT)


@pytest.mark.server
async def test_a_node_that_dies_leaves_nobody_online(redis_server: RedisServer, keys: Keys) -> None:
    node = start_node(redis_server.url, keys.namespace, "7", "8")
    client = connect(redis_server.url, name="test", timeout_seconds=5)
    hub = Hub(client, keys)
    await hub.start()
    reader = await live_reader(hub, PRESENCE)
    survivor = Presence(client, keys, Publisher(client, keys), lease_seconds=1.0)
    survivor.add(8)
    running = asyncio.create_task(survivor.run())
    try:
        await eventually(lambda: len(changes(reader)) == 2, seconds=30)
        assert await online(survivor) == {7, 8}
    finally:
        node.send_signal(signal.SIGKILL)
        node.wait()
    await eventually(lambda: len(changes(reader)) == 3, seconds=30)
    assert changes(reader)[2] == ("user_offline", 7)
    assert await online(survivor) == {8}
    survivor.stop()
    await running
    await hub.close()
    await client.aclose()
