"""The client of one server, which the URL or the sentinels name."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from app.kit.client.commands import (
    DEDICATED_SECONDS,
    REPEATABLE,
    TRAITS,
    blocks_for_seconds,
    traits_of,
)
from app.kit.client.dedicated import BoundedPipeline, DedicatedConnections
from app.kit.client.pipeline import Pipeline
from app.kit.client.redispy import BufferedReply


class PipelinedRedis(Redis):
    """redis.asyncio.Redis whose commands share round trips; its typed methods and reply parsing are unchanged.

    Blocking commands, pub/sub, WATCH and MULTI use connections of their own, from the pool.
    """

    is_embedded = False
    is_clustered = False

    def __init__(self, *, pool: ConnectionPool, timeout_seconds: float, sentinels: Sequence[Redis] = ()) -> None:
        """A command outside any budget waits `timeout_seconds` at most. aclose() closes the pool and the sentinels."""
        super().__init__(connection_pool=pool)
        self._sentinels = sentinels
        self.auto_close_connection_pool = True
        self._automatic = Pipeline(pool.make_connection, timeout_seconds=timeout_seconds)
        self._dedicated = DedicatedConnections(self._automatic.breaker)

    def execute_command(self, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        repeatable = options.pop(REPEATABLE, None)
        traits = TRAITS.get(args[0]) or traits_of(args)
        if traits.dedicated:
            plain: Callable[..., Awaitable[Any]] = super().execute_command
            seconds = blocks_for_seconds(args) + DEDICATED_SECONDS
            return self._dedicated.run(lambda: plain(*args, **options), seconds=seconds)
        if repeatable is None:
            repeatable = traits.repeatable
        if not options and args[0] not in self.response_callbacks:
            # parse_response() would return the reply as it is.
            return self._automatic.execute(args, repeatable=repeatable)
        return self._execute_and_parse(args, options, repeatable=repeatable)

    async def _execute_and_parse(self, args: tuple[Any, ...], options: dict[str, Any], *, repeatable: bool) -> Any:
        try:
            reply = await self._automatic.execute(args, repeatable=repeatable)
        except ResponseError as error:
            reply = error
        return await self.parse_response(cast(Connection, BufferedReply(reply)), args[0], **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> BoundedPipeline:
        pipeline = BoundedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.bound = self._dedicated.bound
        return pipeline

    def client(self) -> Redis:
        """redis-py's own client with one connection of the pool for itself; its waits are not bounded."""
        return Redis(connection_pool=self.connection_pool, single_connection_client=True)

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        return self._dedicated.add_pubsub(self.connection_pool.make_connection())

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self._dedicated.close()
        await self._automatic.aclose()
        await super().aclose(close_connection_pool)
        for sentinel in self._sentinels:
            await sentinel.aclose()

    def stats(self) -> dict[str, dict[str, Any]]:
        pooled = sum(count for count, _ in self.connection_pool.get_connection_count())
        return {"server": {**self._automatic.stats(), "dedicated": pooled + self._dedicated.count_pubsub()}}
