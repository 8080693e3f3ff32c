"""One pub/sub connection for all streams of this process: what it subscribes to, and how it is replaced when lost."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import first_of
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.client.pubsub import PubSubConnection, Received, reconnect_backoff
from app.kit.events.delivery import Delivery
from app.kit.events.history import History
from app.kit.events.sse import encode_interrupted, encode_live
from app.kit.events.stream import Stream
from app.kit.events.subscription import SequenceGap, Subscription
from app.kit.events.waker import Waker
from app.kit.keys import Keys
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# Messages that are read before their delivery. Further ones wait in Redis, which bounds its output buffers.
INBOX = 256
# Streams that are told of the connection's state before other tasks of the loop run.
NOTICES_A_TURN = 250


class Fanout:
    """Subscribes by reference count. When its connection is lost, streams stay open and get the events they missed.

    A topic without a stream stays subscribed for `linger_seconds`, so that reloading a page costs no SUBSCRIBE.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        history: History,
        waker: Waker,
        *,
        telemetry: Telemetry,
        linger_seconds: float,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._delivery = Delivery(history, waker, telemetry=telemetry)
        self._telemetry = telemetry
        self._linger_seconds = linger_seconds
        self._subscriptions: dict[str, Subscription] = {}
        self._changed_topics: set[str] = set()
        # How many SUBSCRIBE of a topic were sent that Redis has not confirmed.
        self._unconfirmed: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._recovered = asyncio.Event()
        self._backoff = reconnect_backoff()
        self._logged = ""
        self.generation = 0

    def add(self, stream: Stream, topics: Iterable[str]) -> list[Subscription]:
        """Offer the stream all events of `topics` that are published after ready() has returned, and some before."""
        subscriptions = []
        for topic in topics:
            subscription = self._subscriptions.setdefault(topic, Subscription(topic))
            subscription.streams.add(stream)
            if not subscription.requested:
                self._mark_changed(topic)
            subscriptions.append(subscription)
        return subscriptions

    def discard(self, stream: Stream, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            subscription.streams.discard(stream)
            if not subscription.streams:
                asyncio.get_running_loop().call_later(self._linger_seconds, self._mark_changed, subscription.topic)

    async def ready(self, subscriptions: Iterable[Subscription]) -> int:
        """Wait until Redis has confirmed the subscriptions and older streams have the events they missed.

        Returns the generation of the connection. The confirmations hold while `generation` stays the same.
        """
        events = [self._recovered, *(subscription.confirmed for subscription in subscriptions)]
        while not all(event.is_set() for event in events):
            for event in events:
                await event.wait()
        return self.generation

    async def run(self) -> None:
        """Keep a connection until cancelled. Fails open: while there is none, streams stay, and are told."""
        while True:
            try:
                await self._run_connection()
            except SequenceGap as error:
                self._telemetry.count("events_gaps")
                self._log_once(error)
            except RedisError as error:
                record_failure(error, block="events", telemetry=self._telemetry)
                if isinstance(error, UNAVAILABLE):
                    self._log_once(error)
            except Exception:
                logger.exception("the fan-out of events failed, and starts over")
            self._telemetry.count("events_connection_lost")
            await self._backoff.wait()

    def _log_once(self, error: Exception) -> None:
        if str(error) != self._logged:
            self._logged = str(error)
            logger.warning("the events' connection to redis ended: %s: %s", type(error).__name__, error)

    async def _run_connection(self) -> None:
        """Open a connection and serve it until it ends by an error."""
        # On a cluster beside the events' keys: to the node that publishes.
        near = self._keys.event_clock()
        pubsub = PubSubConnection(self._redis, prefix=self._keys.event_channel(""), near=near)
        inbox: asyncio.Queue[Received] = asyncio.Queue(INBOX)
        self._changed_topics = set(self._subscriptions)
        self._unconfirmed.clear()
        self._changed.set()
        try:
            await pubsub.open()
            await first_of(self._read(pubsub, inbox), self._subscribe(pubsub), self._deliver(inbox))
        finally:
            await pubsub.close()
            self.generation += 1
            was_live = self._recovered.is_set()
            self._recovered.clear()
            for subscription in self._subscriptions.values():
                subscription.requested = False
                subscription.confirmed.clear()
            if was_live:
                await self._notify(encode_interrupted())

    async def _notify(self, notice: bytes) -> None:
        """Tell the streams whose replay has ended. The others learn at its end how the connection is then."""
        streams = {stream for subscription in self._subscriptions.values() for stream in subscription.streams}
        told = [stream for stream in streams if stream.cursor is not None]
        for start in range(0, len(told), NOTICES_A_TURN):
            for stream in told[start : start + NOTICES_A_TURN]:
                stream.notify(notice)
            await asyncio.sleep(0)

    def _mark_changed(self, topic: str) -> None:
        self._changed_topics.add(topic)
        self._changed.set()

    async def _subscribe(self, pubsub: PubSubConnection) -> None:
        """Send Redis the changes of the subscriptions, many in one command; on a new connection all of them."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            topics, self._changed_topics = self._changed_topics, set()
            changed = [self._subscriptions[topic] for topic in topics if topic in self._subscriptions]
            unused = [subscription.topic for subscription in changed if not subscription.streams]
            new = [subscription for subscription in changed if subscription.streams and not subscription.requested]
            for topic in unused:
                # What waits for its confirmation goes on: none will come.
                self._subscriptions.pop(topic).confirmed.set()
            for subscription in new:
                subscription.requested = True
                self._unconfirmed[subscription.topic] += 1
            self._telemetry.gauge("events_channels", len(self._subscriptions))
            await pubsub.unsubscribe(unused)
            await pubsub.subscribe([subscription.topic for subscription in new])

    async def _read(self, pubsub: PubSubConnection, inbox: asyncio.Queue[Received]) -> None:
        while True:
            reply = await pubsub.next()
            if isinstance(reply, Received):
                await inbox.put(reply)
            else:
                self._confirm(reply.topic)

    def _confirm(self, topic: str) -> None:
        """The last of several confirmations counts: before it, a topic that was left and joined again is left."""
        self._unconfirmed[topic] -= 1
        if self._unconfirmed[topic] <= 0:
            del self._unconfirmed[topic]
            subscription = self._subscriptions.get(topic)
            if subscription is not None and subscription.requested:
                subscription.confirmed.set()

    async def _deliver(self, inbox: asyncio.Queue[Received]) -> None:
        """First the missed events, then the live ones. Streams drop those that are in both."""
        await self._recover()
        self._recovered.set()
        await self._notify(encode_live())
        while True:
            received = await inbox.get()
            subscription = self._subscriptions.get(received.topic)
            if subscription is not None:
                await self._delivery.deliver(received, subscription)

    async def _recover(self) -> None:
        used = {topic: subscription for topic, subscription in self._subscriptions.items() if subscription.streams}
        for subscription in self._subscriptions.values():
            if not subscription.streams:
                subscription.reset()
        for subscription in used.values():
            await subscription.confirmed.wait()
        async for _ in self._delivery.recover(used):
            # Each page is progress that the next connection continues, so connecting again need not wait longer: a
            # longer wait would let more events accumulate than a short-lived connection can recover.
            self._backoff.reset()
