"""Calls handlers for published events, in the event loop of its process."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import Backoff, backoff_seconds, end_tasks, first_of
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.events.event import Event
from app.kit.events.handler import EventHandler
from app.kit.events.log import EventLog, LogEntry
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry, Telemetry
from app.kit.tracing import Tracing

logger = logging.getLogger(__name__)

CONCURRENT_EVENTS = 100
GRACE_SECONDS = 5.0
# How long after the death of its process an event is given to another.
EVENT_LEASE_SECONDS = 30.0
# An event whose handling ended so many processes is not handled again.
MOST_CLAIMS = 3
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 10.0


class Subscriber:
    """Calls the handlers of each event's type and channel, for at most `concurrency` events at a time.

    Those that are `once`: at least once, in one of the processes of the `group`. They get what is published while no
    process runs, as far as the log and the channel's history reach back. The others: what is published while this
    process runs, in every process.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        handlers: Sequence[EventHandler],
        *,
        resources: Any = None,
        group: str = "subscriber",
        concurrency: int = CONCURRENT_EVENTS,
        lease_seconds: float = EVENT_LEASE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        telemetry: Telemetry | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._log = EventLog(redis, keys, group=group, lease_seconds=lease_seconds)
        self._once = [handler for handler in handlers if handler.once]
        self._every = [handler for handler in handlers if not handler.once]
        self._resources = resources
        self._concurrency = concurrency
        self._wait_seconds = lease_seconds / 3
        self._grace_seconds = grace_seconds
        self._telemetry = telemetry or NoTelemetry()
        self._tracing = tracing
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._claimed: set[str] = set()
        self._after = ""

    async def run(self) -> None:
        """Handle events until stop(). Running handlers then have `grace_seconds` to finish, and are cancelled.

        Ends by the error of a defect.
        """
        try:
            await first_of(self._receive(), self._stopping.wait())
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_seconds)
        finally:
            await end_tasks(list(self._running))

    def stop(self) -> None:
        """Receive no more events. run() returns when the last handler has ended."""
        self._stopping.set()

    async def _receive(self) -> None:
        backoff = Backoff(first_seconds=0.1, longest_seconds=2.0)
        while True:
            try:
                await self._begin()
                while True:
                    await self._claim_all()
                    await self._read()
                    backoff.reset()
            except RedisError as error:
                # Fails open: events wait in the log.
                record_failure(error, block="events", telemetry=self._telemetry)
                if isinstance(error, UNAVAILABLE):
                    logger.warning("the subscriber waits for redis: %r", error)
            await backoff.wait()

    async def _begin(self) -> None:
        if not self._after:
            after = await self._log.last_id()
            if self._once:
                await self._log.create_group(after=after)
            self._after = after

    async def _read(self) -> None:
        """Wait for events, and start the handlers that are called in every process."""
        for entry in await self._log.read(self._after, wait_seconds=self._wait_seconds):
            self._after = entry.id
            if any(handler.matches(entry.channel) for handler in self._every):
                await self._free_slots()
                self._start(self._handle(entry, self._every))

    async def _claim_all(self) -> None:
        """Claim what there is, and start the handlers that one process calls."""
        while self._once:
            entries = await self._log.claim(await self._free_slots(), handled=self._claimed)
            if not entries:
                return
            for entry in entries:
                if entry.id not in self._claimed:
                    self._claimed.add(entry.id)
                    self._start(self._handle_claimed(entry))

    async def _free_slots(self) -> int:
        """How many events may be started: waits until it is one."""
        while (free := self._concurrency - len(self._running)) <= 0:
            await asyncio.wait(self._running, timeout=self._wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._claimed:
                await self._log.claim(0, handled=self._claimed)
        return free

    def _start(self, handling: Any) -> None:
        task = asyncio.create_task(handling)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle_claimed(self, entry: LogEntry) -> None:
        """An entry whose handling is cut off stays claimed until its lease ends, and is then claimed again."""
        try:
            if entry.claims > MOST_CLAIMS:
                # Fails closed: it would end one process after another.
                self._telemetry.count("events_poisonous")
                logger.error("event %s on %s is given up: %d processes ended with it", *_of(entry), entry.claims - 1)
            else:
                await self._handle(entry, self._once)
            await self._log.acknowledge(entry.id)
        except RedisError as error:
            # Fails open: the event is handled once more.
            record_failure(error, block="events", telemetry=self._telemetry)
        finally:
            self._claimed.discard(entry.id)

    async def _handle(self, entry: LogEntry, handlers: Sequence[EventHandler]) -> None:
        chosen = [handler for handler in handlers if entry.channel and handler.matches(entry.channel)]
        if not chosen:
            return
        event = await self._log.fetch(entry)
        if event is None:
            self._telemetry.count("events_unhandled")
            logger.warning("event %s on %s is not in its history any more, and was not handled", *_of(entry))
            return
        await asyncio.gather(*(self._call(handler, event) for handler in chosen if handler.type == event.type))

    async def _call(self, handler: EventHandler, event: Event) -> None:
        for attempt in range(1, handler.attempts + 1):
            try:
                async with asyncio.timeout(handler.timeout_seconds):
                    with self._span(handler, event):
                        await handler.handle(self._resources, event)
                return
            except Exception:
                # Fails open: the other handlers go on.
                self._telemetry.count("events_handler_failed", handler=handler.name)
                logger.exception("%s failed at event %s, attempt %d", handler.name, event.id, attempt)
            if attempt < handler.attempts:
                delay = backoff_seconds(attempt, first_seconds=RETRY_SECONDS, longest_seconds=LONGEST_RETRY_SECONDS)
                await asyncio.sleep(delay)
        self._telemetry.count("events_handler_gave_up", handler=handler.name)

    def _span(self, handler: EventHandler, event: Event) -> AbstractContextManager[Any]:
        if self._tracing is None:
            return nullcontext()
        return self._tracing.span(f"event {handler.name}", parent=event.traceparent)


def _of(entry: LogEntry) -> tuple[str, str]:
    return entry.id, entry.channel
