"""The transactional outbox: what a change tells Redis is rows of its transaction, sent after the commit.

Each committed row is sent at least once, also when a process is killed in between. Ids make repeats no-ops.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, Unpack

import msgspec
from redis.exceptions import RedisError

from app.db.database import Database, WriteSession
from app.db.outbox import OutboxRow, Waiting, claim_due, create_row, delete_rows, postpone_row
from app.errors import Unavailable
from app.kit.aio import backoff_seconds
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.events.event import encode_event
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import EnqueueOptions, Task
from app.kit.telemetry import NoTelemetry, Telemetry
from app.kit.tracing import Tracing
from app.outbox_delivery import Delivery
from app.outbox_message import CredentialEnd, Invalidation, Message, Publication, SessionsEnd, Submission

logger = logging.getLogger(__name__)
Payload = TypeVar("Payload")

BATCH = 100
# Rows that wait in memory between their commit and the relay. The relay finds those beyond it in the table later.
MAX_FRESH = 10_000
MAX_RETRY_SECONDS = 300.0
DOWN: tuple[type[Exception], ...] = (*UNAVAILABLE, Unavailable)


class Outbox:
    """Adds messages to transactions, and relays them after the commit."""

    def __init__(
        self,
        database: Database,
        delivery: Delivery,
        queue: Queue,
        *,
        telemetry: Telemetry | None = None,
        tracing: Tracing | None = None,
        poll_seconds: float = 1.0,
        retry_seconds: float = 5.0,
    ) -> None:
        """Tasks go to `queue` unless they name another one of the delivery's.

        Every `poll_seconds` the relay searches the table for rows that a crash or an outage of Redis has left there.

        For `retry_seconds` after its commit a row belongs to the process that wrote it. Then the relay that claims it
        has it for as long, and after each failed attempt it waits longer: `retry_seconds`, doubled, with jitter.
        """
        self._database = database
        self._delivery = delivery
        self._queue = queue
        self._telemetry = telemetry or NoTelemetry()
        self._tracing = tracing
        self._poll_seconds = poll_seconds
        self._retry = timedelta(seconds=retry_seconds)
        self._fresh: deque[Waiting] = deque(maxlen=MAX_FRESH)
        self._sent: list[int] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._waits = False

    def event(self, session: WriteSession, channel: str, type: str, data: Any, *, event_id: str = "") -> None:
        """Publish after the commit. Of several events with one `event_id` within an hour the first is published.

        The event is encoded now, so that one that commits can be published. Raises what encode_event() raises.
        """
        traceparent = self._tracing.traceparent() if self._tracing else None
        payload = msgspec.Raw(encode_event(channel, type, data, traceparent=traceparent))
        self._relay_after_commit(session, Publication(channel, payload, event_id or secrets.token_hex(16)))

    def task(
        self,
        session: WriteSession,
        task: Task[Payload],
        payload: Payload,
        *,
        queue: str | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> str:
        """Enqueue after the commit; returns the task's id. `options` are those of Queue.enqueue().

        KeyError: there is no queue of this name.
        """
        target = self._queue if queue is None else self._delivery.queues[queue]
        call = target.with_cause(task.call(payload, **options))
        self._relay_after_commit(session, Submission(call, target.name))
        return call.id

    def invalidate(self, session: WriteSession, *tags: str) -> None:
        """Invalidate cache tags after the commit and before `Database.write()` returns.

        Fails open while Redis does not answer: the relay invalidates them when it answers again.
        """
        # First of all hooks: a client that receives the event of this change must not read the stale entry.
        session.after_commit.insert(0, partial(self._send_now, self._add(session, Invalidation(tags))))

    def end_credential(self, session: WriteSession, user_id: int, credential: str | None = None) -> None:
        """End what is open for an API key's hash, or for all credentials of the user. Fails open as invalidate()."""
        message = CredentialEnd(user_id, credential)
        session.after_commit.append(partial(self._send_now, self._add(session, message)))

    def end_sessions(self, session: WriteSession, user_id: int, *, keep: str | None = None) -> None:
        """End the user's sessions, except the one with the public id `keep`: the last that is called in a transaction.

        Fails closed: while Redis does not answer, `Database.write()` raises Unavailable, after the commit. The relay
        ends the sessions when Redis answers again.
        """
        message = SessionsEnd(user_id, keep, secrets.token_hex(8))
        session.after_commit.append(partial(self._send_now, self._add(session, message), fails_closed=True))

    async def run(self) -> None:
        """Relay until stop(), and then the rows that this process has committed last."""
        search_at = 0.0
        while not self._stopping:
            try:
                await self._relay_fresh()
                if time.monotonic() >= search_at and not await self._relay_found():
                    search_at = time.monotonic() + self._poll_seconds
            except Exception:
                # A defect, or a database that is not migrated yet. Without the relay no later row would be sent.
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
        """Relay the rows that this process has committed. Those that cannot be sent now stay in the table."""
        await self._relay_fresh()

    def _add(self, session: WriteSession, message: Message) -> OutboxRow:
        return create_row(session, msgspec.json.encode(message).decode(), due_in=self._retry)

    def _relay_after_commit(self, session: WriteSession, message: Message) -> None:
        session.after_commit.append(partial(self._hand_over, self._add(session, message)))

    async def _hand_over(self, row: OutboxRow) -> None:
        self._fresh.append(Waiting(row.id, row.message))
        self._wake.set()

    async def _send_now(self, row: OutboxRow, *, fails_closed: bool = False) -> None:
        try:
            await self._delivery.send(row.message)
        except RedisError as error:
            # The relay repeats it.
            record_failure(error, block="outbox", telemetry=self._telemetry)
            self._delayed(error)
            await self._hand_over(row)
            if fails_closed:
                raise Unavailable("The change is stored, and takes full effect when Redis answers again.") from error
        else:
            self._sent.append(row.id)
            self._wake.set()

    async def _relay_fresh(self) -> None:
        if self._fresh or self._sent:
            await self._relay(self._fresh)

    async def _relay_found(self) -> bool:
        """Relay a batch of rows that are due. True: the table may have more."""
        try:
            async with self._database.write() as session:
                rows = deque(await claim_due(session, limit=BATCH, lease=self._retry))
        except Unavailable:
            return False
        full = len(rows) == BATCH
        return await self._relay(rows) and full

    async def _relay(self, rows: deque[Waiting]) -> bool:
        """Send the rows in their order and delete them. False: Redis or the database is down, and rows are left."""
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
        """Raises DOWN alone, which stops the next row too. A row that fails otherwise is postponed and never lost."""
        try:
            await self._delivery.send(row.message)
        except UNAVAILABLE:
            raise
        except RedisError as error:
            record_failure(error, block="outbox", telemetry=self._telemetry)
            await self._postpone(row, error)
        except Exception as error:
            logger.exception("outbox row %d cannot be sent", row.id)
            await self._postpone(row, error)
        else:
            self._sent.append(row.id)

    async def _postpone(self, row: Waiting, error: Exception) -> None:
        pause = backoff_seconds(
            row.attempts + 1, first_seconds=self._retry.total_seconds(), longest_seconds=MAX_RETRY_SECONDS
        )
        self._telemetry.count("outbox_refused")
        logger.warning("outbox row %d waits %d s after %s", row.id, pause, type(error).__name__)
        async with self._database.write() as session:
            await postpone_row(session, row, pause=timedelta(seconds=pause))

    async def _delete_sent(self) -> None:
        """While the database is down the rows stay, to be sent again and deleted then: repeats are no-ops."""
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
