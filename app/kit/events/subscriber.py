"""Runs handlers for published events, in this process's loop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
from redis.asyncio import Redis

from app.kit.aio import end_tasks
from app.kit.events.event import Event, Malformed, parse_message, validate_topic
from app.kit.events.pubsub import CONNECTION_LOST, PubSubConnection, Received, back_off
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

Handler = Callable[[Event], Awaitable[None]]

CONCURRENT_HANDLERS = 100
GRACE_SECONDS = 5.0

_decode_event = msgspec.json.Decoder(Event).decode


class Subscriber:
    """Calls `handlers[type]` with each event on `patterns` (channels, or patterns such as `user:*`).

    Live and at most once: what is published while there is no connection is not seen. Every subscriber sees every
    event, so a handler that must act once for all processes enqueues a task that takes the event's id as its own.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        handlers: Mapping[str, Handler],
        *,
        patterns: Iterable[str] = ("*",),
        concurrency: int = CONCURRENT_HANDLERS,
        grace_seconds: float = GRACE_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._handlers = handlers
        self._patterns = [validate_topic(pattern) for pattern in patterns]
        self._places = asyncio.Semaphore(concurrency)
        self._telemetry = telemetry or NoTelemetry()
        self._grace_seconds = grace_seconds
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen until stop(). Running handlers then have the grace to finish, before they are cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            await self._stopping.wait()
            await end_tasks([listening])
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_seconds)
        finally:
            await end_tasks([listening, *self._running])

    def stop(self) -> None:
        """Take no more events. run() returns when the last handler has ended."""
        self._stopping.set()

    async def _listen(self) -> None:
        failures = 0
        while True:
            pubsub = PubSubConnection(self._redis, self._keys)
            try:
                await pubsub.open()
                await pubsub.subscribe(self._patterns)
                while True:
                    found = await pubsub.next()
                    failures = 0
                    if isinstance(found, Received):
                        await self._take(found)
            except CONNECTION_LOST as error:
                # Fails open: events published until the connection is back are missed, which the class says.
                self._telemetry.count("events_feed_lost")
                logger.warning("the subscriber's connection to redis ended: %r", error)
            finally:
                await pubsub.close()
            failures += 1
            await back_off(failures)

    async def _take(self, received: Received) -> None:
        """Start the event's handler, as soon as one of the places is free; until then the connection is not read."""
        try:
            message = parse_message(received.channel, received.wire)
            handler = self._handlers.get(message.type)
            if handler is None:
                return
            event = msgspec.structs.replace(_decode_event(message.payload), id=str(message.cursor))
        except (Malformed, msgspec.DecodeError) as error:
            # Fails open: one message that nobody here wrote must not stop the others.
            self._telemetry.count("events_malformed")
            logger.warning("passed over: %s", error)
            return
        await self._places.acquire()
        task = asyncio.create_task(self._handle(handler, event))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, handler: Handler, event: Event) -> None:
        try:
            await handler(event)
        except Exception:
            # Fails open: the other handlers go on.
            self._telemetry.count("events_handler_failed", type=event.type)
            logger.exception("the handler of %s failed", event.type)
        finally:
            self._places.release()
