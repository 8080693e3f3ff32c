"""What asyncio lacks: tasks that end for certain, the first of several, work that no cancellation interrupts, backoff
with jitter, an event of few bytes, a stop signal."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

# asyncio.wait_for before Python 3.12, which redis-py calls, loses a cancellation that comes with its result: one is
# repeated until the task has ended.
RECANCEL_SECONDS = 0.1


def backoff_seconds(attempt: int, *, first_seconds: float, longest_seconds: float) -> float:
    """A random delay before attempt `attempt` + 1: up to `first_seconds` after attempt 1, doubled with each, capped.

    Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    """
    ceiling = min(longest_seconds, first_seconds * 2.0 ** min(attempt - 1, 64))
    return random.uniform(0, ceiling)  # noqa: S311  jitter, no secret


class Backoff:
    """The delays between the attempts at one thing that fails in a row."""

    __slots__ = ("_attempts", "_first_seconds", "_longest_seconds")

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._attempts = 0

    def reset(self) -> None:
        """It has succeeded: the next delay is a short one."""
        self._attempts = 0

    async def wait(self) -> None:
        """Sleep before the next attempt."""
        self._attempts += 1
        delay = backoff_seconds(
            self._attempts, first_seconds=self._first_seconds, longest_seconds=self._longest_seconds
        )
        await asyncio.sleep(delay)


@asynccontextmanager
async def side_by_side(*runs: Coroutine[Any, Any, T]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """Run coroutines at once for the duration of the block, as tasks in their order; at its end all have ended."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        yield tasks
    finally:
        await end_tasks(tasks)


async def first_of(*runs: Coroutine[Any, Any, T]) -> T:
    """Run coroutines at once until one ends; its result, or its error. The others are cancelled, and have ended."""
    async with side_by_side(*runs) as tasks:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return ended.pop().result()


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks repeatedly until all have ended, whatever they raise, even while the caller is cancelled."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=RECANCEL_SECONDS)
        except asyncio.CancelledError:
            interrupted = True
    # Retrieves what they raised, of which asyncio would complain otherwise.
    await asyncio.gather(*tasks, return_exceptions=True)
    if interrupted:
        raise asyncio.CancelledError


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, also while the caller is cancelled; then the cancellation is raised.

    For work that leaves something inconsistent where it is interrupted. It must end by itself in a bounded time.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        # Retrieves what it raised, of which asyncio would complain otherwise.
        await asyncio.gather(task, return_exceptions=True)
        raise


def raise_if_cancelled() -> None:
    """Raise the CancelledError that the running task should have had, for a task that is cancelled only once."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Flag:
    """asyncio.Event, whose deque alone takes 760 bytes: for what a process has by the ten thousand."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        """Those that wait go on."""
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Return at once where it is set, otherwise when it is."""
        if self._is_set:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)


def stop_signal() -> asyncio.Event:
    """Is set by SIGTERM or SIGINT, from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
