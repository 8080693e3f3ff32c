"""Wakeup: ends a worker's wait by a token of the wake list, by a call in this process, or by the clock."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import Backoff, end_tasks
from app.kit.client.errors import record_failure
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry


class Wakeup:
    """An event that wake() sets, and after listen() the next token.

    The BLPOP stays pending while the worker has other work: cancelling it would cost its connection, and perhaps a
    token. A token is a hint, not a task: where one is lost, the next step finds the tasks, `seconds` later at most.
    """

    def __init__(self, redis: Redis, queue: Queue, *, seconds: float, telemetry: Telemetry) -> None:
        self._redis = redis
        self._key = queue.keys.task_wake(queue.name)
        self._seconds = seconds
        self._telemetry = telemetry
        self._event = asyncio.Event()
        self._backoff = Backoff(first_seconds=seconds / 4, longest_seconds=seconds)
        self._listening: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Return at a wake(), at a token, or after `seconds`."""
        timer = asyncio.get_running_loop().call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()

    def listen(self) -> None:
        """Wait in the background for the next token, unless that is done already."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._take_token())

    async def close(self) -> None:
        if self._listening is not None:
            await end_tasks([self._listening])

    async def _take_token(self) -> None:
        try:
            async with asyncio.timeout(self._seconds + 1):
                await self._redis.blpop([self._key], timeout=self._seconds)
        except (RedisError, TimeoutError) as error:
            # Fails towards delay: until a BLPOP succeeds again, the worker steps every `seconds` at the latest.
            failure = error if isinstance(error, RedisError) else RedisTimeoutError("BLPOP was not answered")
            record_failure(failure, block="tasks", telemetry=self._telemetry)
            self._telemetry.count("task_wake_errors")
            await self._backoff.wait()
        else:
            self._backoff.reset()
        finally:
            self._event.set()
