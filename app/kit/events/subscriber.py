"""Calls handlers for published events, in the event loop of its process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import end_tasks, side_by_side
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.client.pubsub import PubSubConnection, Received, reconnect_backoff
from app.kit.events.event import Event, Malformed, parse_message, validate_topic
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

Handler = Callable[[Event], Awaitable[None]]

CONCURRENT_HANDLERS = 100
GRACE_SECONDS = 5.0

_decode_event = msgspec.json.Decoder(Event).decode


class Subscriber:
    """Calls `handlers[type]` with each event on `topics`, at most `concurrency` of them at a time.

    At most once: events that are published while there is no connection are missed. Every subscriber receives every
    event, so a handler that must act once for all processes enqueues a task with the event's id as the task's id.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        handlers: Mapping[str, Handler],
        *,
        topics: Iterable[str] = ("*",),
        concurrency: int = CONCURRENT_HANDLERS,
        grace_seconds: float = GRACE_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._handlers = handlers
        self._topics = [validate_topic(topic) for topic in topics]
        self._slots = asyncio.Semaphore(concurrency)
        self._telemetry = telemetry or NoTelemetry()
        self._grace_seconds = grace_seconds
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Receive events until stop(). Running handlers then have `grace_seconds` to finish, and are cancelled.

        Ends by the error of a defect.
        """
        try:
            async with side_by_side(self._receive(), self._stopped()) as tasks:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await ended.pop()
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_seconds)
        finally:
            await end_tasks(list(self._running))

    def stop(self) -> None:
        """Receive no more events. run() returns when the last handler has ended."""
        self._stopping.set()

    async def _stopped(self) -> None:
        await self._stopping.wait()

    async def _receive(self) -> None:
        backoff = reconnect_backoff()
        while True:
            # On a cluster beside the events' keys: to the node that publishes.
            near = self._keys.event_clock()
            pubsub = PubSubConnection(self._redis, prefix=self._keys.event_channel(""), near=near)
            try:
                await pubsub.open()
                await pubsub.subscribe(self._topics)
                while True:
                    reply = await pubsub.next()
                    backoff.reset()
                    if isinstance(reply, Received) and not self._stopping.is_set():
                        await self._start_handler(reply)
            except RedisError as error:
                # Fails open: events that are published before the next connection are missed.
                record_failure(error, block="events", telemetry=self._telemetry)
                self._telemetry.count("events_feed_lost")
                if isinstance(error, UNAVAILABLE):
                    logger.warning("the subscriber's connection to redis ended: %r", error)
            finally:
                await pubsub.close()
            await backoff.wait()

    async def _start_handler(self, received: Received) -> None:
        """Waits for a free slot; until then the connection is not read."""
        try:
            message = parse_message(received.channel, received.wire)
            handler = self._handlers.get(message.type)
            if handler is None:
                return
            event = msgspec.structs.replace(_decode_event(message.payload), id=str(message.cursor))
        except (Malformed, msgspec.DecodeError) as error:
            # Fails open: a message that no Publisher wrote must not stop the others.
            self._telemetry.count("events_malformed")
            logger.warning("message skipped: %s", error)
            return
        await self._slots.acquire()
        task = asyncio.create_task(self._handle(handler, event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, handler: Handler, event: Event) -> None:
        try:
            await handler(event)
        except Exception:
            # Fails open: the other handlers continue.
            self._telemetry.count("events_handler_failed", type=event.type)
            logger.exception("the handler of %s failed", event.type)
        finally:
            self._slots.release()
