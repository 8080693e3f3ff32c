"""Hands the events of one pub/sub connection to all streams of this process, and catches up when it was lost."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from redis.asyncio import Redis

from app.kit.ending import end_tasks
from app.kit.events.client import Client
from app.kit.events.event import Malformed, Message, is_pattern, parse_message
from app.kit.events.feed import Feed, Lost, Received, back_off
from app.kit.events.frames import encode_message
from app.kit.events.replay import History, Page
from app.kit.events.topic import Gap, Topic
from app.kit.keys import Keys
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# How long clients are served before the loop gets its turn.
TURN_SECONDS = 0.008
# Messages read ahead of their delivery. Beyond it they wait in Redis, which bounds what it keeps for us.
INBOX = 256
# What ends a connection in the course of things.
# So much is offered of what was missed before the streams' writers get a turn.
TURN_BYTES = 64 * 1024
ENDS: tuple[type[Exception], ...] = (*Lost, Gap)


class Fanout:
    """Subscribes by reference count. When its connection is lost, clients stay and are given what they missed.

    A topic that nobody listens to any more is kept for `linger_seconds`, so that reloading a page costs no SUBSCRIBE.
    """

    def __init__(
        self, redis: Redis, keys: Keys, history: History, *, telemetry: Telemetry, linger_seconds: float
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._history = history
        self._telemetry = telemetry
        self._linger_seconds = linger_seconds
        self._topics: dict[str, Topic] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._failures = 0
        self._turn_ends = 0.0
        self.generation = 0

    def add(self, client: Client, names: Iterable[str]) -> list[Topic]:
        """Offer the client all that is published on `names` from when ready() has returned; some of it may be older."""
        topics = []
        for name in names:
            topic = self._topics.setdefault(name, Topic(name))
            topic.clients.add(client)
            if not topic.requested:
                self._mark(name)
            topics.append(topic)
        return topics

    def discard(self, client: Client, topics: Iterable[Topic]) -> None:
        for topic in topics:
            topic.clients.discard(client)
            if not topic.clients:
                asyncio.get_running_loop().call_later(self._linger_seconds, self._mark, topic.name)

    async def ready(self, topics: Iterable[Topic]) -> int:
        """Wait until Redis has confirmed the topics and older clients have what they missed.

        Returns the generation of the connection. What it promises holds as long as `generation` is the same.
        """
        events = [self._caught_up, *(topic.confirmed for topic in topics)]
        while not all(event.is_set() for event in events):
            for event in events:
                await event.wait()
        return self.generation

    async def run(self) -> None:
        """Keep a connection until cancelled. Fails open: while Redis is down streams stay, with heartbeats alone."""
        reason = ""
        while True:
            try:
                await self._connected()
            except ENDS as error:
                if str(error) != reason:
                    reason = str(error)
                    logger.warning("the events' connection to redis ended: %s: %s", type(error).__name__, reason)
            except Exception:
                logger.exception("the fan-out of events failed, and starts over")
            self._telemetry.count("events_feed_lost")
            self._failures += 1
            await back_off(self._failures)

    async def _connected(self) -> None:
        """One connection's life, which ends with an error."""
        feed = Feed(self._redis, self._keys)
        inbox: asyncio.Queue[Received] = asyncio.Queue(INBOX)
        self._dirty = set(self._topics)
        self._changed.set()
        parts = []
        try:
            await feed.open()
            parts = [
                asyncio.create_task(part)
                for part in (self._read(feed, inbox), self._subscribe(feed), self._deliver(inbox))
            ]
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            await done.pop()
        finally:
            await feed.close()
            await end_tasks(parts)
            self.generation += 1
            self._caught_up.clear()
            for topic in self._topics.values():
                topic.requested = False
                topic.confirmed.clear()

    def _mark(self, name: str) -> None:
        self._dirty.add(name)
        self._changed.set()

    async def _subscribe(self, feed: Feed) -> None:
        """Tell Redis of each change in what is listened to, many in one command. At first everything is a change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            dirty, self._dirty = self._dirty, set()
            topics = [self._topics[name] for name in dirty if name in self._topics]
            left = [topic.name for topic in topics if not topic.clients]
            new = [topic.name for topic in topics if topic.clients and not topic.requested]
            for name in left:
                del self._topics[name]
            for name in new:
                self._topics[name].requested = True
            await feed.unsubscribe(left)
            await feed.subscribe(new)

    async def _read(self, feed: Feed, inbox: asyncio.Queue[Received]) -> None:
        while True:
            found = await feed.next()
            if isinstance(found, Received):
                await inbox.put(found)
            elif found.topic in self._topics:
                self._topics[found.topic].confirmed.set()

    async def _deliver(self, inbox: asyncio.Queue[Received]) -> None:
        """First what was missed, then what comes. What is in both reaches no client twice."""
        await self._catch_up()
        self._caught_up.set()
        while True:
            received = await inbox.get()
            topic = self._topics.get(received.topic)
            if topic is None:
                continue
            try:
                message = parse_message(received.channel, received.wire)
            except Malformed as error:
                # Fails open: one message that nobody here wrote must not stop the others.
                self._telemetry.count("events_malformed")
                logger.warning("passed over: %s", error)
                continue
            if is_pattern(topic.name):
                await self._offer(message, topic)
            else:
                topic.check(message)
                await self._offer(message, topic)
                # Only now: if the connection ends in the middle of it, the rest is offered when we catch up.
                topic.advance(message.cursor)

    async def _catch_up(self) -> None:
        """Offer what was published while there was no connection. Where that is lost, tell the clients."""
        topics = {name: topic for name, topic in self._topics.items() if topic.clients}
        for topic in self._topics.values():
            if not topic.clients:
                topic.forget()
        for topic in topics.values():
            await topic.confirmed.wait()
        known = {name: topic.cursor for name, topic in topics.items() if topic.cursor is not None}
        page = await self._history.read(known)
        # A pattern has no history.
        lost = page.unreachable | {name for name in topics if is_pattern(name)}
        while True:
            for client in {client for name in lost for client in topics[name].clients}:
                client.resync(page.upto, reason="history")
            await self._offer_page(page, topics)
            # Page by page, so that a connection that does not live long enough for all of them is not in vain.
            reached = {name: page.rest.get(name, page.upto) for name in known}
            for name, cursor in reached.items():
                topics[name].advance(cursor)
            # Nor does it wait longer to connect again, or it would fall behind what is published meanwhile.
            self._failures = 0
            if not page.rest:
                return
            page = await self._history.read(page.rest, upto=page.upto)
            lost = page.unreachable

    async def _offer_page(self, page: Page, topics: Mapping[str, Topic]) -> None:
        offered = 0
        for message in page.messages:
            await self._offer(message, topics[message.channel])
            offered += len(message.payload)
            if offered > TURN_BYTES:
                # Who reads gets a turn, or a page alone would fill what may wait for a stream.
                offered = 0
                await asyncio.sleep(0)

    async def _offer(self, message: Message, topic: Topic) -> None:
        """Offer it to all listeners, encoded once. Between any two of them the loop may get its turn."""
        frame = encode_message(message)
        clients = tuple(topic.clients)
        self._telemetry.count("events_offered", len(clients))
        for client in clients:
            client.offer(frame)
            if time.perf_counter() > self._turn_ends:
                await asyncio.sleep(0)
                self._turn_ends = time.perf_counter() + TURN_SECONDS
