"""Wakeup: what ends a worker's wait: a token in the wake list, a task that has ended, or the clock."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import end_tasks
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry


class Wakeup:
    """An event that a nudge or, while somebody listens, a token sets.

    The BLPOP is left pending while the worker has other work: cancelling it would cost its connection, and perhaps a
    token. A token is a hint, not a task: it may be lost, and then the next look, at most `seconds` later, finds all.
    """

    def __init__(self, redis: Redis, queue: Queue, *, seconds: float, telemetry: Telemetry) -> None:
        self._redis = redis
        self._key = queue.keys.task_wake(queue.name)
        self._seconds = seconds
        self._telemetry = telemetry
        self._event = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Until there is a nudge or a token, at most `seconds`."""
        timer = asyncio.get_running_loop().call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()

    def listen(self) -> None:
        """Take the next token, unless one is being waited for already."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._take_token())

    async def close(self) -> None:
        if self._listening is not None:
            await end_tasks([self._listening])

    async def _take_token(self) -> None:
        try:
            async with asyncio.timeout(self._seconds + 1):
                await self._redis.blpop([self._key], timeout=self._seconds)
        except (RedisError, TimeoutError):
            # Fails towards delay: until a BLPOP succeeds again, the worker looks every `seconds`.
            self._telemetry.count("task_wake_errors")
            await asyncio.sleep(self._seconds)
        finally:
            self._event.set()
