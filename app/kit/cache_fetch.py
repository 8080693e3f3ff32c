"""Finds a value in the cache, or joins the run that computes it."""

from collections.abc import Awaitable

from redis.exceptions import RedisError

from app.kit.cache_entries import Entries
from app.kit.cache_envelope import State, Stored
from app.kit.cache_fill import Filled, Filler
from app.kit.cache_passes import Passes
from app.kit.cache_wanted import Found, Uncacheable, Wanted
from app.kit.single_flight import Flight, SingleFlight
from app.kit.telemetry import Telemetry


class Fetcher:
    """Looks, and where nothing of use is found lets one run at a time fill the entry."""

    def __init__(self, entries: Entries, filler: Filler, flights: SingleFlight, *, telemetry: Telemetry) -> None:
        self._entries = entries
        self._filler = filler
        self._flights = flights
        self._telemetry = telemetry
        self._passes = Passes()

    async def fetch(self, wanted: Wanted) -> Found:
        """The value, one of its own for each caller. What `wanted.compute` raises, every caller of that run gets."""
        since = self._flights.moment()
        try:
            [stored] = await self._entries.read([wanted.entry], tags=wanted.tags, graced=wanted.grace_ms > 0)
        except RedisError:
            # Fails open: the caller goes past the cache.
            stored = Stored("unreachable")
        state, value = wanted.codec.open(stored)
        self._count(state, wanted)
        if state == "fresh":
            return Found(value, "hit")
        if not wanted.fills:
            raise Uncacheable
        if self._passes.lets_by(wanted.entry):
            return await self._pass_by(wanted)
        filled = None
        if state != "stale" or not self._flights.is_flying(wanted.entry):
            filled = await self._fill(wanted, stored, since=since, waits=state != "stale")
        if filled is None:
            # Past its time, but another computes the next one: within its grace this one serves.
            self._telemetry.count("cache_stale", name=wanted.name)
            return Found(value, "stale")
        if filled.how == "bypass":
            self._telemetry.count("cache_bypassed", name=wanted.name)
        return Found(wanted.codec.decode(filled.value), filled.how)

    async def _pass_by(self, wanted: Wanted) -> Found:
        """Compute for this caller alone: what the last runs gave was not to be stored."""
        self._telemetry.count("cache_bypassed", name=wanted.name)
        flight: Flight[Filled | None] = self._flights.alone()
        found = Found(wanted.codec.decode((await self._filler.bypass(flight, wanted)).value), "bypass")
        # It may be stored after all: the next one goes the long way.
        self._passes.forget(wanted.entry)
        return found

    async def _fill(self, wanted: Wanted, stored: Stored, *, since: int, waits: bool) -> Filled | None:
        """The result of a run; None only where `waits` is off and another process computes."""

        def work(flight: Flight[Filled | None]) -> Awaitable[Filled | None]:
            if stored.state == "unreachable":
                return self._filler.bypass(flight, wanted)
            return self._filler.fill(flight, wanted, seen=stored.mark, waits=waits)

        if self._flights.is_flying(wanted.entry):
            self._telemetry.count("cache_waits", name=wanted.name)
        while True:
            try:
                filled = await self._flights.run(wanted.entry, work, since=since)
            except Uncacheable:
                self._passes.note(wanted.entry)
                raise
            # A caller with a stale value may have begun this run, and left it where it had to wait.
            if filled is not None or not waits:
                return filled

    def _count(self, state: State, wanted: Wanted) -> None:
        if state == "fresh":
            self._telemetry.count("cache_hits", name=wanted.name)
        elif state not in ("stale", "unreachable"):
            self._telemetry.count("cache_misses", name=wanted.name)
        if state == "corrupt":
            self._telemetry.count("cache_corrupt", name=wanted.name)
