"""Hands the events of one pub/sub connection to all streams of this process, and catches up when it was lost."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from redis.asyncio import Redis

from app.kit.aio import end_tasks
from app.kit.events.event import Malformed, Message, is_pattern, parse_message
from app.kit.events.history import History, Page
from app.kit.events.pubsub import CONNECTION_LOST, PubSubConnection, Received, back_off
from app.kit.events.sse import encode_message
from app.kit.events.stream import Stream
from app.kit.events.subscription import Gap, Subscription
from app.kit.keys import Keys
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# How long clients are served before the loop gets its turn.
FANOUT_TURN_SECONDS = 0.008
# Messages read ahead of their delivery. Beyond it they wait in Redis, which bounds what it keeps for us.
INBOX = 256
# So much is offered of what was missed before the streams' writers get a turn.
FANOUT_TURN_BYTES = 64 * 1024
# Errors that end a connection in normal operation.
CONNECTION_ENDED: tuple[type[Exception], ...] = (*CONNECTION_LOST, Gap)


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
        self._subscriptions: dict[str, Subscription] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._failures = 0
        self._turn_ends = 0.0
        self.generation = 0

    def add(self, stream: Stream, names: Iterable[str]) -> list[Subscription]:
        """Offer the client all that is published on `names` from when ready() has returned; some of it may be older."""
        subscriptions = []
        for name in names:
            subscription = self._subscriptions.setdefault(name, Subscription(name))
            subscription.streams.add(stream)
            if not subscription.requested:
                self._mark(name)
            subscriptions.append(subscription)
        return subscriptions

    def discard(self, stream: Stream, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            subscription.streams.discard(stream)
            if not subscription.streams:
                asyncio.get_running_loop().call_later(self._linger_seconds, self._mark, subscription.name)

    async def ready(self, subscriptions: Iterable[Subscription]) -> int:
        """Wait until Redis has confirmed the topics and older clients have what they missed.

        Returns the generation of the connection. What it promises holds as long as `generation` is the same.
        """
        events = [self._caught_up, *(subscription.confirmed for subscription in subscriptions)]
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
            except CONNECTION_ENDED as error:
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
        pubsub = PubSubConnection(self._redis, self._keys)
        inbox: asyncio.Queue[Received] = asyncio.Queue(INBOX)
        self._dirty = set(self._subscriptions)
        self._changed.set()
        parts = []
        try:
            await pubsub.open()
            parts = [
                asyncio.create_task(part)
                for part in (self._read(pubsub, inbox), self._subscribe(pubsub), self._deliver(inbox))
            ]
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            await done.pop()
        finally:
            await pubsub.close()
            await end_tasks(parts)
            self.generation += 1
            self._caught_up.clear()
            for subscription in self._subscriptions.values():
                subscription.requested = False
                subscription.confirmed.clear()

    def _mark(self, name: str) -> None:
        self._dirty.add(name)
        self._changed.set()

    async def _subscribe(self, pubsub: PubSubConnection) -> None:
        """Tell Redis of each change in what is listened to, many in one command. At first everything is a change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            dirty, self._dirty = self._dirty, set()
            subscriptions = [self._subscriptions[name] for name in dirty if name in self._subscriptions]
            left = [subscription.name for subscription in subscriptions if not subscription.streams]
            new = [
                subscription.name
                for subscription in subscriptions
                if subscription.streams and not subscription.requested
            ]
            for name in left:
                del self._subscriptions[name]
            for name in new:
                self._subscriptions[name].requested = True
            await pubsub.unsubscribe(left)
            await pubsub.subscribe(new)

    async def _read(self, pubsub: PubSubConnection, inbox: asyncio.Queue[Received]) -> None:
        while True:
            found = await pubsub.next()
            if isinstance(found, Received):
                await inbox.put(found)
            elif found.topic in self._subscriptions:
                self._subscriptions[found.topic].confirmed.set()

    async def _deliver(self, inbox: asyncio.Queue[Received]) -> None:
        """First what was missed, then what comes. What is in both reaches no client twice."""
        await self._catch_up()
        self._caught_up.set()
        while True:
            received = await inbox.get()
            subscription = self._subscriptions.get(received.topic)
            if subscription is None:
                continue
            try:
                message = parse_message(received.channel, received.wire)
            except Malformed as error:
                # Fails open: one message that nobody here wrote must not stop the others.
                self._telemetry.count("events_malformed")
                logger.warning("passed over: %s", error)
                continue
            if is_pattern(subscription.name):
                await self._offer(message, subscription)
            else:
                subscription.check(message)
                await self._offer(message, subscription)
                # Only now: if the connection ends in the middle of it, the rest is offered when we catch up.
                subscription.advance(message.cursor)

    async def _catch_up(self) -> None:
        """Offer what was published while there was no connection. Where that is lost, tell the clients."""
        subscriptions = {
            name: subscription for name, subscription in self._subscriptions.items() if subscription.streams
        }
        for subscription in self._subscriptions.values():
            if not subscription.streams:
                subscription.forget()
        for subscription in subscriptions.values():
            await subscription.confirmed.wait()
        known = {
            name: subscription.cursor for name, subscription in subscriptions.items() if subscription.cursor is not None
        }
        page = await self._history.read(known)
        # A pattern has no history.
        lost = page.unreachable | {name for name in subscriptions if is_pattern(name)}
        while True:
            for stream in {stream for name in lost for stream in subscriptions[name].streams}:
                stream.resync(page.upto, reason="history")
            await self._offer_page(page, subscriptions)
            # Page by page, so that a connection that does not live long enough for all of them is not in vain.
            reached = {name: page.rest.get(name, page.upto) for name in known}
            for name, cursor in reached.items():
                subscriptions[name].advance(cursor)
            # Nor does it wait longer to connect again, or it would fall behind what is published meanwhile.
            self._failures = 0
            if not page.rest:
                return
            page = await self._history.read(page.rest, upto=page.upto)
            lost = page.unreachable

    async def _offer_page(self, page: Page, subscriptions: Mapping[str, Subscription]) -> None:
        offered = 0
        for message in page.messages:
            await self._offer(message, subscriptions[message.channel])
            offered += len(message.payload)
            if offered > FANOUT_TURN_BYTES:
                # Who reads gets a turn, or a page alone would fill what may wait for a stream.
                offered = 0
                await asyncio.sleep(0)

    async def _offer(self, message: Message, subscription: Subscription) -> None:
        """Offer it to all listeners, encoded once. Between any two of them the loop may get its turn."""
        frame = encode_message(message)
        streams = tuple(subscription.streams)
        self._telemetry.count("events_offered", len(streams))
        for stream in streams:
            stream.offer(frame)
            if time.perf_counter() > self._turn_ends:
                await asyncio.sleep(0)
                self._turn_ends = time.perf_counter() + FANOUT_TURN_SECONDS
