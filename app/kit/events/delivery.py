"""Offers events to the streams of this process: live events, and after a lost connection those that were missed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping

from app.kit.client.pubsub import Received
from app.kit.events.event import Malformed, Message, is_pattern, parse_message
from app.kit.events.history import History, Page
from app.kit.events.sse import encode_message
from app.kit.events.subscription import Subscription
from app.kit.events.waker import Waker
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# How long events are offered to streams before other tasks of the loop run.
FANOUT_TURN_SECONDS = 0.008
# How many bytes of events are offered before the streams are written: else their queues would overflow in a burst.
FANOUT_TURN_BYTES = 64 * 1024


class Delivery:
    """Encodes each event once and offers it to all streams of a subscription."""

    def __init__(self, history: History, waker: Waker, *, telemetry: Telemetry) -> None:
        self._history = history
        self._waker = waker
        self._telemetry = telemetry
        self._turn_ends = 0.0
        self._turn_bytes = 0

    async def deliver(self, received: Received, subscription: Subscription) -> None:
        """Offer a live event. Raises SequenceGap when events before it are missing."""
        try:
            message = parse_message(received.channel, received.wire)
        except Malformed as error:
            # Fails open: a message that no Publisher wrote must not stop the others.
            self._telemetry.count("events_malformed")
            logger.warning("message skipped: %s", error)
            return
        if is_pattern(subscription.topic):
            await self._offer(message, subscription)
            return
        subscription.check(message)
        self._telemetry.observe(
            "events_delivery_lag_seconds", max(0.0, time.time() - message.cursor.position[0] / 1000)
        )
        await self._offer(message, subscription)
        # Not before: when the connection ends during the offer, recover() offers the event to the other streams.
        subscription.advance(message.cursor)

    async def recover(self, subscriptions: Mapping[str, Subscription]) -> AsyncIterator[Page]:
        """Offer what was published while there was no connection; yields each page when it has been offered.

        Streams whose topic has no history of that time get a resync. `subscriptions` are by topic. Raises UNAVAILABLE.
        """
        cursors = {
            topic: subscription.cursor
            for topic, subscription in subscriptions.items()
            if subscription.cursor is not None
        }
        page = await self._history.read(cursors)
        # A pattern has no history.
        lost = page.unreachable | {topic for topic in subscriptions if is_pattern(topic)}
        while True:
            for stream in {stream for topic in lost for stream in subscriptions[topic].streams}:
                stream.resync(page.end, reason="history")
            for message in page.messages:
                await self._offer(message, subscriptions[message.channel])
            for topic in cursors:
                subscriptions[topic].advance(page.rest.get(topic, page.end))
            yield page
            if not page.rest:
                return
            page = await self._history.read(page.rest, end=page.end)
            lost = page.unreachable

    async def _offer(self, message: Message, subscription: Subscription) -> None:
        frame = encode_message(message)
        streams = tuple(subscription.streams)
        self._telemetry.count("events_deliveries", len(streams))
        for stream in streams:
            stream.offer(frame)
            if time.perf_counter() > self._turn_ends:
                await asyncio.sleep(0)
                self._turn_ends = time.perf_counter() + FANOUT_TURN_SECONDS
        self._turn_bytes += len(frame.data)
        if self._turn_bytes > FANOUT_TURN_BYTES:
            self._turn_bytes = 0
            await self._waker.all_woken()
