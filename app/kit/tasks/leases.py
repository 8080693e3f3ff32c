"""The leases that a worker holds, renewed from a thread with its own loop and connection."""

import asyncio
import threading
import time
from collections.abc import Callable

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.tasks.model import Claim
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry

BEAT_SECONDS = 0.25


class Leases:
    """Renews every lease three times in its life, however busy the worker's loop is.

    A loop that has stood still for `stall_seconds` is taken for dead: its leases are renewed no more, and others run
    its tasks. `connect` makes the thread's client. Without it (the embedded store lives in the loop's own thread, and
    nobody else could take a lease over) the loop itself renews. `lost` is told the tokens of leases that others took.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        lease_seconds: float,
        stall_seconds: float,
        connect: Callable[[], Redis] | None,
        lost: Callable[[list[int]], None],
        telemetry: Telemetry,
    ) -> None:
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._stall_seconds = stall_seconds
        self._connect = connect
        self._lost = lost
        self._telemetry = telemetry
        self._held: dict[int, str] = {}
        self._lock = threading.Lock()
        self._beat = time.monotonic()

    def hold(self, claim: Claim) -> None:
        with self._lock:
            self._held[claim.token] = claim.id

    def drop(self, token: int) -> None:
        with self._lock:
            self._held.pop(token, None)

    async def beat(self) -> None:
        """Show, until cancelled, that the loop runs; measure how late it comes to it."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._beat = time.monotonic()
            self._telemetry.observe("task_loop_lag_seconds", max(0.0, self._beat - due))

    async def renew(self) -> None:
        """Renew until cancelled."""
        if self._connect is None:
            await self._renew(self._queue, self._told)
            return
        loop = asyncio.get_running_loop()

        def tell(what: str, tokens: list[int]) -> None:
            loop.call_soon_threadsafe(self._told, what, tokens)

        with start_blocking_portal(name="task-leases") as portal:
            renewing = portal.start_task_soon(self._renew_apart, self._connect, tell)
            try:
                await asyncio.wrap_future(renewing)
            finally:
                renewing.cancel()

    async def _renew_apart(self, connect: Callable[[], Redis], tell: Callable[[str, list[int]], None]) -> None:
        redis = connect()
        try:
            await self._renew(Queue(redis, self._queue.keys, name=self._queue.name), tell)
        finally:
            with CancelScope(shield=True):
                await redis.aclose()

    async def _renew(self, queue: Queue, tell: Callable[[str, list[int]], None]) -> None:
        pause = self._lease_seconds / 3
        while True:
            await asyncio.sleep(pause)
            pause = self._lease_seconds / 3
            if time.monotonic() - self._beat > self._stall_seconds:
                tell("stalled", [])
                continue
            with self._lock:
                held = [argument for token, id in self._held.items() for argument in (id, token)]
            if not held:
                continue
            try:
                lost = await queue.run("tasks/renew", round(self._lease_seconds * 1000), *held, repeatable=True)
            except RedisError:
                # Fails towards running twice: a lease that cannot be renewed is another worker's once it has ended.
                tell("failed", [])
                pause = self._lease_seconds / 30
            else:
                tell("renewed", [int(token) for token in lost])

    def _told(self, what: str, lost: list[int]) -> None:
        self._telemetry.count("task_lease_renewals", outcome=what)
        for token in lost:
            self.drop(token)
        self._lost(lost)
