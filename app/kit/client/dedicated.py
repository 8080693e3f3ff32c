"""Commands that need a connection of their own, and the connections that are held beside the pipeline."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.client.breaker import Breaker
from app.kit.client.deadline import Deadline

T = TypeVar("T")

# Runs what it is given, and ends the wait for it where the work has no more time.
Bound = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class BoundedPipeline(Pipeline):
    """Bounds execute(), and while WATCHing each command."""

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
            # In place of UNWATCH, for whose answer a server that hangs would be waited for.
            self.watching = False
            await connection.disconnect(nowait=True)
        plain: Callable[[], Awaitable[None]] = super().reset
        await plain()


class BoundedClusterPipeline(ClusterPipeline):
    """Bounds the fetching of the map of the cluster, and execute(). WATCH on a cluster is redis-py's own affair: it
    runs in a thread for which it blocks the event loop."""

    bound: Bound

    async def initialize(self) -> ClusterPipeline:
        plain = super().initialize
        await self.bound(plain)
        return self

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        plain = super().execute
        found: list[Any] = await self.bound(lambda: plain(raise_on_error, allow_redirections))
        return found


class Gate(Protocol):
    """What knows whether its server may be asked at all."""

    closed: bool
    breaker: Breaker


async def run_dedicated(run: Callable[[], Awaitable[T]], *, seconds: float, gate: Gate) -> T:
    """Run what does not go by a pipeline, for `seconds` at most, or as long as the budget of its work has left."""
    if gate.closed:
        raise RedisConnectionError("the client is closed")
    with Deadline(seconds) as deadline:
        deadline.check(gate.breaker)
        try:
            async with asyncio.timeout_at(None if math.isinf(deadline.at) else deadline.at):
                return await run()
        except TimeoutError as error:
            raise RedisTimeoutError("no answer from Redis in time") from error


class PubSubConnections:
    """Whoever takes a connection closes it; here it is only counted for as long as it is open."""

    def __init__(self) -> None:
        self._connections: WeakSet[AbstractConnection] = WeakSet()

    def add(self, connection: AbstractConnection) -> AbstractConnection:
        self._connections.add(connection)
        return connection

    def count(self) -> int:
        return sum(connection.is_connected for connection in self._connections)
