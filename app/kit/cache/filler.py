"""Fills an entry that is missing or stale: one process computes it, the others wait for it."""

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from app.kit.aio import raise_if_cancelled
from app.kit.cache.entries import Entries
from app.kit.cache.lease import Lease
from app.kit.cache.model import MISS, CacheStatus, LoadRequest
from app.kit.cache.single_flight import Flight
from app.kit.telemetry import Telemetry

FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.1


class Filled(NamedTuple):
    """A value's bytes, of which each caller makes a value of its own, and how they were come by."""

    value: bytes
    status: CacheStatus


class Filler:
    """Computes once in all processes, as long as the one that computes lives and reaches Redis.

    Who has waited `max_wait_seconds` for another process computes for itself, and stores nothing.
    """

    def __init__(
        self, entries: Entries, *, telemetry: Telemetry, lease_seconds: float, max_wait_seconds: float
    ) -> None:
        self._entries = entries
        self._telemetry = telemetry
        self._lease_seconds = lease_seconds
        self._max_wait_seconds = max_wait_seconds

    async def fill(
        self, flight: Flight[Filled | None], request: LoadRequest, *, seen: bytes, waits: bool
    ) -> Filled | None:
        """Compute the value, or get it from who does. None where another computes and `waits` is off.

        `seen` is the mark of the entry that was found to be of no use.
        """
        lease = Lease(self._entries, request, seconds=self._lease_seconds)
        gives_up_at = time.monotonic() + self._max_wait_seconds
        for number, pause in enumerate(_pauses()):
            flight.reads()
            try:
                attempt = await lease.ask(seen=seen)
            except RedisError:
                return await self.bypass(flight, request)
            if attempt.granted:
                return await self._compute_and_store(request, lease)
            if attempt.found is not None:
                state, value = request.codec.open(attempt.found)
                if value is not MISS:
                    return Filled(attempt.found.value, "hit" if state == "fresh" else "stale")
                seen = attempt.found.mark
            elif not waits:
                return None
            elif time.monotonic() > gives_up_at:
                break
            if number == 0:
                self._telemetry.count("cache_waits", name=request.name)
            flight.will_read_again()
            await asyncio.sleep(pause)
        return await self.bypass(flight, request)

    async def bypass(self, flight: Flight[Filled | None], request: LoadRequest) -> Filled:
        """Compute without Redis. Fails open: without the cache an answer costs more, but it is the same."""
        flight.reads()
        _, value = await self._compute(request)
        return Filled(value, "bypass")

    async def _compute_and_store(self, request: LoadRequest, lease: Lease) -> Filled:
        async with lease.held():
            result, value = await self._compute(request)
            await self._store(request, lease, result, value)
        return Filled(value, "miss")

    async def _compute(self, request: LoadRequest) -> tuple[Any, bytes]:
        self._telemetry.count("cache_computes", name=request.name)
        began = time.perf_counter()
        try:
            result = await request.compute()
        except asyncio.CancelledError as error:
            raise_if_cancelled()
            # Not this run was cancelled but something that it waited for: an error like any other.
            raise RuntimeError(f"{request.name}: what it computes was cancelled") from error
        self._telemetry.observe("cache_compute_seconds", time.perf_counter() - began, name=request.name)
        return result, request.codec.encode(result)

    async def _store(self, request: LoadRequest, lease: Lease, result: Any, value: bytes) -> None:
        if not self._entries.fits(value):
            self._telemetry.count("cache_unstored", name=request.name, reason="oversized")
            return
        try:
            late = await lease.late_versions(request.late_tags(result)) if request.late_tags else {}
            if late is None:
                self._telemetry.count("cache_unstored", name=request.name, reason="young_tag")
            elif await lease.store(value, late=late):
                self._telemetry.count("cache_stored_bytes", len(value), name=request.name)
            else:
                self._telemetry.count("cache_fenced", name=request.name)
        except RedisError:
            # Fails open: the value is known, and the next caller computes it again.
            self._telemetry.count("cache_unstored", name=request.name, reason="unreachable")


def _pauses() -> Iterator[float]:
    """Seconds between two looks at who computes: ever longer, with jitter, so that waiters do not come all at once."""
    longest = FIRST_PAUSE_SECONDS
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311  jitter, no secret
        longest = min(LONGEST_PAUSE_SECONDS, longest * 2)
