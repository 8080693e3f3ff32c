"""The outbox: events, tasks and invalidations are rows of the caller's transaction, and leave after its commit.

What is committed leaves at least once, whatever dies in between; ids make the repeats no-ops where they arrive.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec
from redis.exceptions import RedisError

from app.db.database import Database, WriteSession
from app.db.outbox import OutboxRow, Waiting, claim_due, create_row, delete_rows, postpone_row
from app.errors import Unavailable
from app.kit.cache.cache import Cache
from app.kit.client.errors import UNAVAILABLE
from app.kit.events.event import validate_channel, validate_type
from app.kit.events.publisher import MAX_PAYLOAD_BYTES, Publisher
from app.kit.tasks.model import Call
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)
Payload = TypeVar("Payload")

BATCH = 100
# Handed over in memory between a commit and the relay. What does not fit is found in the table a little later.
MOST_FRESH = 10_000
LONGEST_PAUSE_SECONDS = 300.0
DOWN: tuple[type[Exception], ...] = (*UNAVAILABLE, Unavailable)


class Event(msgspec.Struct, frozen=True, tag="event"):
    channel: str
    name: str
    data: Any
    id: str


class Submission(msgspec.Struct, frozen=True, tag="task"):
    call: Call


class Invalidation(msgspec.Struct, frozen=True, tag="invalidation"):
    tags: tuple[str, ...]


Message = Event | Submission | Invalidation
_decode = msgspec.json.Decoder(Message).decode


class Outbox:
    """Takes messages into transactions, and relays them when they are committed."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        queue: Queue,
        cache: Cache,
        *,
        telemetry: Telemetry | None = None,
        poll_seconds: float = 1.0,
        retry_seconds: float = 5.0,
    ) -> None:
        """Every `poll_seconds` the table is searched for what a crash, or a Redis that was down, has left there.

        A row is left to the process that committed it for `retry_seconds`, and then to each that finds it for as long.
        """
        self._database = database
        self._publisher = publisher
        self._queue = queue
        self._cache = cache
        self._telemetry = telemetry or NoTelemetry()
        self._poll_seconds = poll_seconds
        self._retry = timedelta(seconds=retry_seconds)
        self._fresh: deque[Waiting] = deque(maxlen=MOST_FRESH)
        self._sent: list[int] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._waits = False

    def event(self, session: WriteSession, channel: str, type: str, data: Any, *, event_id: str = "") -> None:
        """Publish after the commit. Events of one `event_id` within an hour are one.

        ValueError, before anything is committed, for what the publisher would refuse.
        """
        event = Event(validate_channel(channel), validate_type(type), data, event_id or secrets.token_hex(16))
        if len(msgspec.json.encode(event)) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"an event has at most {MAX_PAYLOAD_BYTES} bytes")
        self._relay_after_commit(session, event)

    def task(self, session: WriteSession, task: Task[Payload], payload: Payload, **options: Any) -> str:
        """Enqueue after the commit; returns the task's id. `options` are fields of app.kit.tasks.model.Call."""
        call = task.call(payload, **options)
        self._relay_after_commit(session, Submission(call))
        return call.id

    def invalidate(self, session: WriteSession, *tags: str) -> None:
        """Invalidate cache tags after the commit and before `Database.write()` returns: the answer to it is fresh.

        While Redis does not answer this fails open, and the relay makes it good as soon as it does.
        """
        message = Invalidation(tags)
        # Before what was listed so far: who hears of the change shall not read what was cached before it.
        session.after_commit.insert(0, partial(self._invalidate_now, self._add(session, message), message))

    async def run(self) -> None:
        """Relay until stop(), and at the end what this process has committed last."""
        search_at = 0.0
        while not self._stopping:
            try:
                await self._relay_fresh()
                if time.monotonic() >= search_at and not await self._relay_found():
                    search_at = time.monotonic() + self._poll_seconds
            except Exception:
                # A defect, or a schema that is not there yet: to give up would strand every later row too.
                logger.exception("the outbox's relay failed, and goes on")
                search_at = time.monotonic() + self._poll_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, search_at - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
        await self.drain()

    def stop(self) -> None:
        """Let run() return."""
        self._stopping = True
        self._wake.set()

    async def drain(self) -> None:
        """Relay what this process has committed. What cannot leave now stays in the table, for any node to find."""
        await self._relay_fresh()

    def _add(self, session: WriteSession, message: Message) -> OutboxRow:
        return create_row(session, msgspec.json.encode(message).decode(), due_in=self._retry)

    def _relay_after_commit(self, session: WriteSession, message: Message) -> None:
        session.after_commit.append(partial(self._hand_over, self._add(session, message)))

    async def _hand_over(self, row: OutboxRow) -> None:
        self._fresh.append(Waiting(row.id, row.message))
        self._wake.set()

    async def _invalidate_now(self, row: OutboxRow, message: Invalidation) -> None:
        try:
            await self._cache.invalidate_tags(*message.tags)
        except RedisError as error:
            self._delayed(error)
            await self._hand_over(row)
        else:
            self._sent.append(row.id)
            self._wake.set()

    async def _relay_fresh(self) -> None:
        """What cannot leave now stays in memory too, and so leaves sooner when Redis is back."""
        if self._fresh or self._sent:
            await self._relay(self._fresh)

    async def _relay_found(self) -> bool:
        """Relay what the table has. True: it may have more."""
        try:
            async with self._database.write() as session:
                rows = deque(await claim_due(session, limit=BATCH, lease=self._retry))
        except Unavailable:
            return False
        full = len(rows) == BATCH
        return await self._relay(rows) and full

    async def _relay(self, rows: deque[Waiting]) -> bool:
        """Send the rows in their order and delete them. False: Redis or the database is down, and some are left."""
        try:
            while rows:
                row = rows.popleft()
                try:
                    await self._send(row)
                except DOWN:
                    rows.appendleft(row)
                    raise
                self._resumed()
            return True
        except DOWN as error:
            self._delayed(error)
            return False
        finally:
            await self._delete_sent()

    async def _send(self, row: Waiting) -> None:
        """Raises only what stops the next row too. A row that is refused waits, longer each time, and is never lost."""
        try:
            await self._deliver(_decode(row.message))
        except UNAVAILABLE:
            raise
        except Exception as error:
            pause = min(LONGEST_PAUSE_SECONDS, self._retry.total_seconds() * 2 ** min(row.attempts, 16))
            self._telemetry.count("outbox_refused")
            logger.error("outbox row %d cannot leave, next attempt in %d s", row.id, pause, exc_info=error)
            async with self._database.write() as session:
                await postpone_row(session, row, pause=timedelta(seconds=pause))
        else:
            self._sent.append(row.id)

    async def _deliver(self, message: Message) -> None:
        match message:
            case Event(channel, name, data, id):
                await self._publisher.publish(channel, name, data, event_id=id)
            case Submission(call):
                await self._queue.submit([call])
            case Invalidation(tags):
                await self._cache.invalidate_tags(*tags)

    async def _delete_sent(self) -> None:
        """Where the database is down they are sent again from the table, and deleted then: repeats change nothing."""
        ids, self._sent = self._sent, []
        if not ids:
            return
        try:
            async with self._database.write() as session:
                await delete_rows(session, ids)
        except Unavailable as error:
            self._delayed(error)
        else:
            self._telemetry.count("outbox_sent", len(ids))

    def _delayed(self, error: Exception) -> None:
        self._telemetry.count("outbox_delayed")
        if not self._waits:
            self._waits = True
            logger.warning("the outbox waits: %s", type(error).__name__)

    def _resumed(self) -> None:
        if self._waits:
            self._waits = False
            logger.warning("the outbox goes on")
