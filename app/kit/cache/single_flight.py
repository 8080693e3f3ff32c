"""One run of a computation serves every caller in this process who asks for it meanwhile."""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A run under way."""

    __slots__ = ("_moments", "reads_at", "task")

    task: asyncio.Task[T]

    def __init__(self, moments: "itertools.count[int]") -> None:
        self._moments = moments
        self.reads_at = math.inf

    def reads(self) -> None:
        """From now on the run reads what its result rests on; who comes later is not to get that result."""
        self.reads_at = next(self._moments)

    def will_read_again(self) -> None:
        """What the run has read does not count: it reads anew before it ends."""
        self.reads_at = math.inf


# The runs of which the running task is a part.
_computing: ContextVar[frozenset[Flight[Any]]] = ContextVar("computing", default=frozenset())


class SingleFlight:
    """Runs by key. A caller joins a run only if it began to read after the caller came.

    So whatever changed before a caller came is in the result that it gets. Later callers share the next run, which
    begins when the one under way has ended, or after `max_wait_seconds`. Moments are counted, not measured.
    """

    def __init__(self, *, max_wait_seconds: float) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._moments = itertools.count()
        self._flights: dict[str, Flight[Any]] = {}
        # The event loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[Any]] = set()

    def moment(self) -> int:
        """When a caller came: a number greater than every one before."""
        return next(self._moments)

    def alone(self) -> Flight[Any]:
        """For a run that nobody joins."""
        return Flight(self._moments)

    def is_flying(self, key: str) -> bool:
        return key in self._flights

    async def run(self, key: str, work: Callable[[Flight[T]], Awaitable[T]], *, since: int) -> T:
        """The result of a run of `work` that read nothing before `since`; `work` tells its flight when it reads.

        RecursionError where the run would wait for itself.

        A caller who is cancelled leaves the run, which goes on for the others.
        """
        flight = self._flights.get(key)
        if flight in _computing.get():
            raise RecursionError("what is being computed asks for itself")
        if flight is None or flight.reads_at < since:
            flight = self._start(key, work, previous=flight)
        result: T = await asyncio.shield(flight.task)
        return result

    def _start(self, key: str, work: Callable[[Flight[T]], Awaitable[T]], *, previous: Flight[Any] | None) -> Flight[T]:
        flight: Flight[T] = Flight(self._moments)

        async def fly() -> T:
            _computing.set(_computing.get() | {flight})
            if previous is not None:
                await asyncio.wait([previous.task], timeout=self._max_wait_seconds)
            return await work(flight)

        def land(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled():
                # All callers may have left. An error that nobody awaits is fetched here, or asyncio would log it.
                task.exception()

        self._flights[key] = flight
        flight.task = asyncio.create_task(fly())
        flight.task.add_done_callback(land)
        self._tasks.add(flight.task)
        return flight
