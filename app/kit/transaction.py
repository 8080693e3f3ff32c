"""redis-py's explicit pipelines and transactions, which keep a connection of their own, within the work's budget."""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline

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
