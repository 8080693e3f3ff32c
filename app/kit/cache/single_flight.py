"""Single flight: one run of a computation serves all callers in this process that ask for it meanwhile."""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A run under way. `read_at` is the logical time at which it began to read what its result depends on."""

    __slots__ = ("_clock", "read_at", "task")

    task: asyncio.Task[T]

    def __init__(self, clock: "itertools.count[int]") -> None:
        self._clock = clock
        self.read_at = math.inf

    def begin_reading(self) -> None:
        """Callers that come after this cannot join: the result may be older than they are."""
        self.read_at = next(self._clock)

    def discard_reads(self) -> None:
        """The result will not depend on what was read so far: callers can join again."""
        self.read_at = math.inf


# The runs that the running task is part of.
_computing: ContextVar[frozenset[Flight[Any]]] = ContextVar("computing", default=frozenset())


class SingleFlight:
    """Runs by key. A caller joins a run only if the run began to read after the caller came.

    So a result holds every change that was made before its callers came. Later callers share the next run, which
    begins when the one under way has ended, or after `max_wait_seconds`. `clock` is a logical clock (Lamport 1978):
    it counts events in this process.
    """

    def __init__(self, clock: "itertools.count[int]", *, max_wait_seconds: float) -> None:
        self._clock = clock
        self._max_wait_seconds = max_wait_seconds
        self._flights: dict[str, Flight[Any]] = {}
        # The event loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[Any]] = set()

    def is_under_way(self, key: str) -> bool:
        return key in self._flights

    async def run(self, key: str, work: Callable[[Flight[T]], Awaitable[T]], *, since: int) -> T:
        """The result of a run of `work` that read nothing before the logical time `since`.

        `work` calls begin_reading() on its flight. RecursionError if the run would wait for itself. A caller that is
        cancelled leaves the run, which goes on for the others.
        """
        flight = self._flights.get(key)
        if flight in _computing.get():
            raise RecursionError("what is being computed asks for itself")
        if flight is None or flight.read_at < since:
            flight = self._start(key, work, previous=flight)
        result: T = await asyncio.shield(flight.task)
        return result

    def _start(self, key: str, work: Callable[[Flight[T]], Awaitable[T]], *, previous: Flight[Any] | None) -> Flight[T]:
        flight: Flight[T] = Flight(self._clock)

        async def run() -> T:
            _computing.set(_computing.get() | {flight})
            if previous is not None:
                await asyncio.wait([previous.task], timeout=self._max_wait_seconds)
            return await work(flight)

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled():
                # All callers may have left. Their run's error is retrieved here, or asyncio would log it.
                task.exception()

        self._flights[key] = flight
        flight.task = asyncio.create_task(run())
        flight.task.add_done_callback(ended)
        self._tasks.add(flight.task)
        return flight
