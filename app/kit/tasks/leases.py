"""Leases: keeps the leases of a worker's claims, by renewing them from a thread with its own loop and connection."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import Backoff
from app.kit.client.errors import record_failure
from app.kit.tasks.model import Claim
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry

BEAT_SECONDS = 0.25

RenewalOutcome = Literal["renewed", "stalled", "failed"]
# What came of a renewal: the tokens of lost leases, and the error of one that failed.
RecordRenewal = Callable[[RenewalOutcome, list[int], RedisError | None], None]


class Leases:
    """Renews every lease three times in its lifetime, even while the worker's loop is busy.

    A loop that has been blocked for `stall_seconds` counts as dead: its leases are no longer renewed, and other
    workers run its tasks. `connect` makes the thread's client. Without it the loop itself renews: the embedded store
    belongs to the loop's thread, and no other worker could take a lease. `on_lost` is called with the tokens of the
    leases that other workers took.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        lease_seconds: float,
        stall_seconds: float,
        connect: Callable[[], Redis] | None,
        on_lost: Callable[[list[int]], None],
        telemetry: Telemetry,
    ) -> None:
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._stall_seconds = stall_seconds
        self._connect = connect
        self._on_lost = on_lost
        self._telemetry = telemetry
        self._held: dict[int, str] = {}
        self._lock = threading.Lock()
        self._beat = time.monotonic()
        self._longest_lag = 0.0

    def add(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            self._held.update((claim.token, claim.id) for claim in claims)

    def remove(self, tokens: Iterable[int]) -> None:
        with self._lock:
            for token in tokens:
                self._held.pop(token, None)

    async def beat(self) -> None:
        """Record until cancelled that the loop runs, and measure its lag."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._beat = time.monotonic()
            lag = max(0.0, self._beat - due)
            self._longest_lag = max(self._longest_lag, lag)
            self._telemetry.observe("task_loop_lag_seconds", lag)

    def take_lag(self) -> float:
        """How late the loop was at most since the last call, in seconds."""
        lag, self._longest_lag = self._longest_lag, 0.0
        return lag

    async def renew(self) -> None:
        """Renew until cancelled."""
        if self._connect is None:
            await self._renew(self._queue, self._record)
            return
        loop = asyncio.get_running_loop()

        def record(outcome: RenewalOutcome, lost: list[int], error: RedisError | None) -> None:
            loop.call_soon_threadsafe(self._record, outcome, lost, error)

        with start_blocking_portal(name="task-leases") as portal:
            renewing = portal.start_task_soon(self._renew_in_thread, self._connect, record)
            try:
                await asyncio.wrap_future(renewing)
            finally:
                renewing.cancel()

    async def _renew_in_thread(self, connect: Callable[[], Redis], record: RecordRenewal) -> None:
        redis = connect()
        try:
            await self._renew(Queue(redis, self._queue.keys, name=self._queue.name), record)
        finally:
            with CancelScope(shield=True):
                await redis.aclose()

    async def _renew(self, queue: Queue, record: RecordRenewal) -> None:
        backoff = Backoff(first_seconds=self._lease_seconds / 30, longest_seconds=self._lease_seconds / 10)
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            while not await self._renew_once(queue, record):
                await backoff.wait()
            backoff.reset()

    async def _renew_once(self, queue: Queue, record: RecordRenewal) -> bool:
        """False: to be tried again soon."""
        if time.monotonic() - self._beat > self._stall_seconds:
            record("stalled", [], None)
            return True
        with self._lock:
            held = [argument for token, id in self._held.items() for argument in (id, token)]
        if not held:
            return True
        try:
            lost = await queue.run("tasks/renew", round(self._lease_seconds * 1000), *held, repeatable=True)
        except RedisError as error:
            # Fails towards running twice: a lease that cannot be renewed ends, and another worker takes the task.
            record("failed", [], error)
            return False
        record("renewed", [int(token) for token in lost], None)
        return True

    def _record(self, outcome: RenewalOutcome, lost: list[int], error: RedisError | None) -> None:
        self._telemetry.count("task_lease_renewals", outcome=outcome)
        if error is not None:
            record_failure(error, block="tasks", telemetry=self._telemetry)
        self.remove(lost)
        self._on_lost(lost)
