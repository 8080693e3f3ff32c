"""Streams that join while events are published: each sees every event of its channels once, in order."""

import asyncio
import random

import pytest
from redis.asyncio import Redis

from app.kit.events.event import Cursor
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from tests.kit.events.event_streams import Reader
from tests.waiting import eventually

CHANNELS = ["broadcast", "user:1", "task:1"]
EVENTS = 40
JOINS = 20
ROUNDS = 5


class Round:
    """Some streams join at random moments of a burst of events, fresh or from a random event on."""

    def __init__(self, hub: Hub, publisher: Publisher, dice: random.Random) -> None:
        self.hub = hub
        self.publisher = publisher
        self.dice = dice
        self.published: list[tuple[str, str]] = []
        self.joined: list[tuple[Reader, list[str], str | None]] = []

    async def play(self) -> None:
        await self.publish(CHANNELS[0])
        await asyncio.gather(self.publish_all(), *(self.join() for _ in range(JOINS)))
        # A stream without a cursor starts with the event after its join.
        await eventually(lambda: all(reader.is_live for reader, _, _ in self.joined))
        for channel in CHANNELS:
            await self.publish(channel)
        for reader, channels, start in self.joined:
            await self.check(reader, channels, start)
            await reader.close()

    async def publish(self, channel: str) -> None:
        self.published.append((channel, await self.publisher.publish(channel, "tick", None)))

    async def publish_all(self) -> None:
        for _ in range(EVENTS):
            await self.pause(4)
            await self.publish(self.dice.choice(CHANNELS))

    async def join(self) -> None:
        await self.pause(150)
        channels = self.dice.sample(CHANNELS, self.dice.randint(1, len(CHANNELS)))
        start = self.dice.choice([None, self.dice.choice(self.published)[1]])
        self.joined.append((Reader(self.hub.subscribe(channels, last_event_id=start)), channels, start))
        if self.dice.random() < 0.2:
            # One that leaves in the middle of it, for the subscriptions to change.
            await self.pause(20)
            await self.joined.pop()[0].close()

    async def pause(self, most: int) -> None:
        for _ in range(self.dice.randrange(most)):
            await asyncio.sleep(0)

    async def check(self, reader: Reader, channels: list[str], start: str | None) -> None:
        last = [text for channel, text in self.published if channel in channels][-1]
        await eventually(lambda: last in reader.ids)
        begin = Cursor.parse(start or reader.first_id)
        ids = [text for channel, text in self.published if channel in channels]
        assert begin is not None
        assert reader.ids == [text for text in ids if (cursor := Cursor.parse(text)) and cursor > begin]
        assert reader.resyncs == []


@pytest.mark.parametrize("seed", range(5))
async def test_no_event_is_lost_or_doubled_by_joining(redis: Redis, keys: Keys, seed: int) -> None:
    hub = Hub(redis, keys, linger_seconds=0)
    await hub.start()
    for number in range(ROUNDS):
        await Round(hub, Publisher(redis, keys), random.Random(seed * ROUNDS + number)).play()
    await hub.close()
