"""Finds a value in the cache, or joins the run that computes it."""

from collections.abc import Awaitable

from redis.exceptions import RedisError

from app.kit.cache.entries import Entries
from app.kit.cache.entry import EntryState, LookupResult
from app.kit.cache.filler import Filled, Filler
from app.kit.cache.hit_for_pass import HitForPass
from app.kit.cache.model import CacheResult, LoadRequest, Uncacheable
from app.kit.cache.single_flight import Flight, SingleFlight
from app.kit.telemetry import Telemetry


class Loader:
    """Looks, and where nothing of use is found lets one run at a time fill the entry."""

    def __init__(self, entries: Entries, filler: Filler, flights: SingleFlight, *, telemetry: Telemetry) -> None:
        self._entries = entries
        self._filler = filler
        self._flights = flights
        self._telemetry = telemetry
        self._hit_for_pass = HitForPass()

    async def fetch(self, request: LoadRequest) -> CacheResult:
        """The value, one of its own for each caller. What `wanted.compute` raises, every caller of that run gets."""
        since = self._flights.moment()
        try:
            [stored] = await self._entries.read([request.entry], tags=request.tags, graced=request.grace_ms > 0)
        except RedisError:
            # Fails open: the caller goes past the cache.
            stored = LookupResult("unreachable")
        state, value = request.codec.open(stored)
        self._count(state, request)
        if state == "fresh":
            return CacheResult(value, "hit")
        if not request.fills:
            raise Uncacheable
        if self._hit_for_pass.is_marked(request.entry):
            return await self._pass_by(request)
        filled = None
        if state != "stale" or not self._flights.is_flying(request.entry):
            filled = await self._fill(request, stored, since=since, waits=state != "stale")
        if filled is None:
            # Past its time, but another computes the next one: within its grace this one serves.
            self._telemetry.count("cache_stale", name=request.name)
            return CacheResult(value, "stale")
        if filled.status == "bypass":
            self._telemetry.count("cache_bypassed", name=request.name)
        return CacheResult(request.codec.decode(filled.value), filled.status)

    async def _pass_by(self, request: LoadRequest) -> CacheResult:
        """Compute for this caller alone: what the last runs gave was not to be stored."""
        self._telemetry.count("cache_bypassed", name=request.name)
        flight: Flight[Filled | None] = self._flights.alone()
        found = CacheResult(request.codec.decode((await self._filler.bypass(flight, request)).value), "bypass")
        # It may be stored after all: the next one goes the long way.
        self._hit_for_pass.clear(request.entry)
        return found

    async def _fill(self, request: LoadRequest, stored: LookupResult, *, since: int, waits: bool) -> Filled | None:
        """The result of a run; None only where `waits` is off and another process computes."""

        def work(flight: Flight[Filled | None]) -> Awaitable[Filled | None]:
            if stored.state == "unreachable":
                return self._filler.bypass(flight, request)
            return self._filler.fill(flight, request, seen=stored.mark, waits=waits)

        if self._flights.is_flying(request.entry):
            self._telemetry.count("cache_waits", name=request.name)
        while True:
            try:
                filled = await self._flights.run(request.entry, work, since=since)
            except Uncacheable:
                self._hit_for_pass.mark(request.entry)
                raise
            # A caller with a stale value may have begun this run, and left it where it had to wait.
            if filled is not None or not waits:
                return filled

    def _count(self, state: EntryState, request: LoadRequest) -> None:
        if state == "fresh":
            self._telemetry.count("cache_hits", name=request.name)
        elif state not in ("stale", "unreachable"):
            self._telemetry.count("cache_misses", name=request.name)
        if state == "corrupt":
            self._telemetry.count("cache_corrupt", name=request.name)
