"""The cache's algorithm: look an entry up; if it is missing, join the run that computes it, or compute and store it."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Any

from redis.exceptions import RedisError

from app.kit.aio import backoff_seconds, raise_if_cancelled
from app.kit.cache.entries import Entries, StoreOutcome
from app.kit.cache.entry import MISS, EntryState, LookupResult
from app.kit.cache.lease import Lease
from app.kit.cache.model import BLOCK, CacheResult, CacheStatus, DoNotStore, EarlyLookup, LoadRequest
from app.kit.cache.single_flight import Flight, SingleFlight
from app.kit.client.errors import record_failure
from app.kit.telemetry import Telemetry

# Delays between two requests for a lease that another process holds.
FIRST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 0.1
# How many leases a caller waits for others before it computes for itself.
MAX_WAIT_LEASES = 3


@dataclass(frozen=True, slots=True)
class LoadedValue:
    """What a run hands to the callers that share it: `data` is the encoded value, None where it is not to be shared.

    `request` is the request that the run computed for, and `value` what its compute returned.
    """

    status: CacheStatus
    data: bytes | None
    request: LoadRequest | None = None
    value: Any = None


class Loader:
    """Computes a missing entry once in all processes, as long as the one that computes is alive and reaches Redis."""

    def __init__(self, entries: Entries, *, telemetry: Telemetry, lease_seconds: float) -> None:
        self._entries = entries
        self._telemetry = telemetry
        self._lease_seconds = lease_seconds
        self._max_wait_seconds = MAX_WAIT_LEASES * lease_seconds
        self._clock = count()
        self._flights = SingleFlight(self._clock, max_wait_seconds=self._max_wait_seconds)
        self._hit_for_pass = HitForPass()

    async def read(self, request: LoadRequest) -> EarlyLookup:
        """What is stored, for a call of load() or look() that follows; nothing is counted before that."""
        since = next(self._clock)
        try:
            [stored] = await self._entries.read([request.entry], tags=request.tags, graced=request.grace_ms > 0)
        except RedisError as error:
            # Fails open: the value is computed without Redis.
            record_failure(error, block=BLOCK, telemetry=self._telemetry)
            stored = LookupResult("unreachable")
        return EarlyLookup(since, stored)

    async def load(self, request: LoadRequest, early: EarlyLookup | None = None) -> CacheResult:
        """The stored value, or the computed one. What the compute raises, every caller of that run gets."""
        since, stored = early or await self.read(request)
        state, value = self._open(request, stored)
        if state == "fresh":
            return CacheResult(value, "hit")
        if self._hit_for_pass.is_marked(request.entry):
            return await self._compute_alone(request)
        loaded = await self._join(request, stored, waits=state != "stale", since=since)
        if loaded is None:
            self._telemetry.count("cache_stale", name=request.name)
            return CacheResult(value, "stale")
        return await self._deliver(loaded, request)

    async def look(self, request: LoadRequest, early: EarlyLookup | None = None) -> CacheResult:
        """The stored value while it is fresh, else MISS. Nothing is computed."""
        _, stored = early or await self.read(request)
        state, value = self._open(request, stored)
        return CacheResult(value, "hit") if state == "fresh" else CacheResult(MISS, "miss")

    def hit(self, request: LoadRequest, early: EarlyLookup) -> Any:
        """The stored value while it is fresh, else MISS: then load() or look() follow, which count it."""
        state, value = request.codec.open(early.stored)
        if state != "fresh":
            return MISS
        self._telemetry.count("cache_hits", name=request.name)
        return value

    def _open(self, request: LoadRequest, stored: LookupResult) -> tuple[EntryState, Any]:
        state, value = request.codec.open(stored)
        if state == "fresh":
            self._telemetry.count("cache_hits", name=request.name)
        elif state not in ("stale", "unreachable"):
            self._telemetry.count("cache_misses", name=request.name)
        if state == "corrupt":
            self._telemetry.count("cache_corrupt", name=request.name)
        return state, value

    async def _join(self, request: LoadRequest, stored: LookupResult, *, waits: bool, since: int) -> LoadedValue | None:
        """The result of this process's run for the entry; None where `waits` is off and another run is under way."""

        async def run(flight: Flight[LoadedValue | None]) -> LoadedValue | None:
            if stored.state == "unreachable":
                return await self._bypass(flight, request)
            return await self._fill(flight, request, mark=stored.mark, waits=waits)

        if self._flights.is_under_way(request.entry):
            if not waits:
                return None
            self._telemetry.count("cache_waits", name=request.name)
        while True:
            loaded = await self._flights.run(request.entry, run, since=since)
            # A caller with a stale value may have started this run, which ended where it would have had to wait.
            if loaded is not None or not waits:
                return loaded

    async def _fill(
        self, flight: Flight[LoadedValue | None], request: LoadRequest, *, mark: bytes, waits: bool
    ) -> LoadedValue | None:
        """Compute and store under a lease, or wait for the process that holds it. `mark`: see Entries.attempt."""
        lease = Lease(self._entries, request, seconds=self._lease_seconds, telemetry=self._telemetry)
        ends_at = time.monotonic() + self._max_wait_seconds
        for attempt_number in count(1):
            flight.begin_reading()
            try:
                attempt = await lease.ask(mark=mark)
            except RedisError as error:
                # Fails open: the value is computed without Redis.
                record_failure(error, block=BLOCK, telemetry=self._telemetry)
                break
            if attempt.granted:
                async with lease.held():
                    loaded = await self._compute(request, "miss")
                    await self._store(loaded, request, lease)
                return loaded
            if attempt.found is not None:
                state, value = request.codec.open(attempt.found)
                if value is not MISS:
                    return LoadedValue("hit" if state == "fresh" else "stale", attempt.found.value)
                mark = attempt.found.mark
            elif not waits:
                return None
            elif time.monotonic() > ends_at:
                break
            if attempt_number == 1:
                self._telemetry.count("cache_waits", name=request.name)
            flight.discard_reads()
            await asyncio.sleep(
                backoff_seconds(attempt_number, first_seconds=FIRST_POLL_SECONDS, longest_seconds=LONGEST_POLL_SECONDS)
            )
        return await self._bypass(flight, request)

    async def _bypass(self, flight: Flight[LoadedValue | None], request: LoadRequest) -> LoadedValue:
        flight.begin_reading()
        return await self._compute(request, "bypass")

    async def _compute(self, request: LoadRequest, status: CacheStatus) -> LoadedValue:
        self._telemetry.count("cache_computes", name=request.name)
        began = time.perf_counter()
        try:
            value = await request.compute()
        except asyncio.CancelledError as error:
            raise_if_cancelled()
            # Not this run was cancelled but something that it waited for: an error like any other.
            raise RuntimeError(f"{request.name}: what it computes was cancelled") from error
        self._telemetry.observe("cache_compute_seconds", time.perf_counter() - began, name=request.name)
        if isinstance(value, DoNotStore):
            self._hit_for_pass.mark(request.entry)
            return LoadedValue("bypass", None, request, value.value)
        self._hit_for_pass.clear(request.entry)
        return LoadedValue(status, request.codec.encode(value), request, value)

    async def _store(self, loaded: LoadedValue, request: LoadRequest, lease: Lease) -> None:
        data = loaded.data
        if data is None:
            return
        if not self._entries.fits(data):
            self._telemetry.count("cache_unstored", name=request.name, reason="oversized")
            return
        try:
            late = await lease.late_versions(request.late_tags(loaded.value)) if request.late_tags else {}
            if late is None:
                self._telemetry.count("cache_unstored", name=request.name, reason="young_tag")
            else:
                self._count_outcome(await lease.store(data, late=late), request, len(data))
        except RedisError as error:
            # Fails open: the value is known, and the next caller computes it again.
            record_failure(error, block=BLOCK, telemetry=self._telemetry)
            self._telemetry.count("cache_unstored", name=request.name, reason="unreachable")

    def _count_outcome(self, outcome: StoreOutcome, request: LoadRequest, size: int) -> None:
        if outcome == "written":
            self._telemetry.count("cache_stored_bytes", size, name=request.name)
        elif outcome == "fenced":
            self._telemetry.count("cache_fenced", name=request.name)
        else:
            self._telemetry.count("cache_unstored", name=request.name, reason="full")

    async def _compute_alone(self, request: LoadRequest) -> CacheResult:
        return await self._deliver(await self._compute(request, "bypass"), request)

    async def _deliver(self, loaded: LoadedValue, request: LoadRequest) -> CacheResult:
        """The caller's own value: no two callers get the same object."""
        is_own = loaded.request is request
        if loaded.data is None and not is_own:
            return await self._compute_alone(request)
        if loaded.status == "bypass":
            self._telemetry.count("cache_bypassed", name=request.name)
        if loaded.data is None or (is_own and request.codec.is_exact):
            return CacheResult(loaded.value, loaded.status)
        return CacheResult(request.codec.decode(loaded.data), loaded.status)


class HitForPass:
    """Entries whose last value was not to be stored: for `seconds` their callers do not wait for each other.

    Varnish's hit-for-pass. Such values cannot be shared, so callers that waited would compute one after the other.
    """

    def __init__(self, *, seconds: float = 2.0, max_keys: int = 10_000) -> None:
        self._seconds = seconds
        self._max_keys = max_keys
        self._until: OrderedDict[str, float] = OrderedDict()

    def is_marked(self, entry: str) -> bool:
        until = self._until.get(entry)
        return until is not None and until > time.monotonic()

    def mark(self, entry: str) -> None:
        self._until[entry] = time.monotonic() + self._seconds
        self._until.move_to_end(entry)
        if len(self._until) > self._max_keys:
            self._until.popitem(last=False)

    def clear(self, entry: str) -> None:
        self._until.pop(entry, None)
