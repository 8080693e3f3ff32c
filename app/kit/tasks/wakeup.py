"""Wakeup: ends a worker's wait by a token of a wake list, by a call in this process, or by the clock."""

import asyncio
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import Backoff, end_tasks
from app.kit.client.errors import record_failure
from app.kit.tasks.queue import Queue
from app.kit.telemetry import Telemetry

# BLPOP takes 0 for ever.
SHORTEST_SECONDS = 0.05


class Wakeup:
    """An event that wake() sets, and after listen() the next token: of this worker's own list, or of all workers'.

    The BLPOP stays pending while the worker has other work: cancelling it would cost its connection, and perhaps a
    token. A token is a hint, not a task: where one is lost, the next step finds the tasks, `seconds` later at most.
    """

    def __init__(self, redis: Redis, queue: Queue, worker_id: str, *, seconds: float, telemetry: Telemetry) -> None:
        self._redis = redis
        self._own = queue.keys.task_wake(queue.name, worker_id)
        self._shared = queue.keys.task_wake(queue.name)
        self._seconds = seconds
        self._telemetry = telemetry
        self._event = asyncio.Event()
        self._backoff = Backoff(first_seconds=seconds / 4, longest_seconds=seconds)
        self._listening: dict[asyncio.Task[None], list[str]] = {}
        self._until = 0.0

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

    def listen(self, *, shared: bool) -> None:
        """Wait in the background for the next token, unless that is done already.

        Not `shared`: a busy worker leaves the tokens of all to the idle ones.
        """
        taken = {key for keys in self._listening.values() for key in keys}
        missing = [key for key in (self._own, self._shared)[: 1 + shared] if key not in taken]
        if not missing:
            return
        now = asyncio.get_running_loop().time()
        if not taken:
            self._until = now + self._seconds
        # Both end together, so that the next BLPOP is one for both.
        seconds = max(SHORTEST_SECONDS, self._until - now)
        listening = asyncio.create_task(self._listen(missing, seconds))
        self._listening[listening] = missing

    async def close(self) -> None:
        await end_tasks(list(self._listening))

    async def _listen(self, keys: list[str], seconds: float) -> None:
        try:
            await self._take_token(keys, seconds)
        finally:
            # Before the event: who waits for it may listen() anew before this task's own callbacks have run.
            del self._listening[cast("asyncio.Task[None]", asyncio.current_task())]
            self._event.set()

    async def _take_token(self, keys: list[str], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds + 1):
                await self._redis.blpop(keys, timeout=seconds)
        except (RedisError, TimeoutError) as error:
            # Fails towards delay: until a BLPOP succeeds again, the worker steps every `seconds` at the latest.
            failure = error if isinstance(error, RedisError) else RedisTimeoutError("BLPOP was not answered")
            record_failure(failure, block="tasks", telemetry=self._telemetry)
            self._telemetry.count("task_wake_errors")
            await self._backoff.wait()
        else:
            self._backoff.reset()
