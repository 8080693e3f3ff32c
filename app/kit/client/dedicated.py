"""Commands that need a connection of their own, and the connections that are held beside the pipeline."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.client.breaker import Breaker
from app.kit.client.commands import DEDICATED_SECONDS
from app.kit.client.deadline import Deadline

T = TypeVar("T")

# Awaits what a function gives, for a bounded time.
Bound = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class DedicatedConnections:
    """Bounds what runs on redis-py's own connections, and counts those in pub/sub mode."""

    def __init__(self, breaker: Breaker, *, at_once: int | None = None) -> None:
        """At most `at_once` run at a time, the others wait; None: the connections' pool sees to it."""
        self._breaker = breaker
        self._turn = asyncio.Semaphore(at_once) if at_once else nullcontext()
        self._closed = False
        self._pubsub: WeakSet[AbstractConnection] = WeakSet()

    async def run(self, run: Callable[[], Awaitable[T]], *, seconds: float) -> T:
        """Run for `seconds` at most, or as long as the budget of the running work lasts.

        Raises redis-py's TimeoutError at the end of that time, CircuitOpen, and a ConnectionError after close().
        """
        if self._closed:
            raise RedisConnectionError("the client is closed")
        with Deadline(seconds) as deadline:
            deadline.check(self._breaker)
            try:
                async with asyncio.timeout_at(None if math.isinf(deadline.at) else deadline.at):
                    async with self._turn:
                        return await run()
            except TimeoutError as error:
                raise RedisTimeoutError("no answer from Redis in time") from error

    @property
    def bound(self) -> Bound:
        """run() for a transaction."""
        return partial(self.run, seconds=DEDICATED_SECONDS)

    def add_pubsub(self, connection: AbstractConnection) -> AbstractConnection:
        """Count this connection while it is open. The caller closes it."""
        self._pubsub.add(connection)
        return connection

    def count_pubsub(self) -> int:
        return sum(connection.is_connected for connection in self._pubsub)

    def close(self) -> None:
        self._closed = True


class BoundedPipeline(Pipeline):
    """Bounds execute(), and each command that runs at once after WATCH."""

    bound: Bound

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        plain = super().execute
        found: list[Any] = await self.bound(lambda: plain(raise_on_error))
        return found

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        plain: Callable[..., Awaitable[Any]] = super().immediate_execute_command
        return await self.bound(lambda: plain(*args, **options))

    async def reset(self) -> None:  # type: ignore[override]
        connection, watching = self.connection, self.watching
        if connection is not None and watching:
            # redis-py would send UNWATCH and wait for its answer, without a bound.
            self.watching = False
            await connection.disconnect(nowait=True)
        plain: Callable[[], Awaitable[None]] = super().reset
        await plain()


class BoundedClusterPipeline(ClusterPipeline):
    """Bounds the fetching of redis-py's slot map, and execute().

    WATCH on a cluster is not bounded: redis-py runs it in a thread, and blocks the event loop meanwhile.
    """

    bound: Bound

    async def initialize(self) -> ClusterPipeline:
        plain = super().initialize
        await self.bound(plain)
        return self

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        plain = super().execute
        found: list[Any] = await self.bound(lambda: plain(raise_on_error, allow_redirections))
        return found
