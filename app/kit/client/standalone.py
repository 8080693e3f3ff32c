"""The client of one server, directly or as the primary that sentinels name."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from app.kit.client.commands import (
    DEDICATED_SECONDS,
    REPEATABLE,
    blocks_for_seconds,
    is_repeatable,
    needs_dedicated_connection,
)
from app.kit.client.dedicated import BoundedPipeline, PubSubConnections, run_dedicated
from app.kit.client.pipeline import Pipeline
from app.kit.client.redispy import BufferedReply


class PipelinedRedis(Redis):
    """redis.asyncio.Redis whose commands share round trips; its typed methods and reply parsing are unchanged.

    Blocking commands, pub/sub, WATCH and MULTI keep connections of their own, from the pool.
    """

    def __init__(self, *, pool: ConnectionPool, timeout_seconds: float, sentinels: Sequence[Redis] = ()) -> None:
        """A command outside any budget waits `timeout_seconds` at most. It closes the pool and the sentinels."""
        super().__init__(connection_pool=pool)
        self._sentinels = sentinels
        self.auto_close_connection_pool = True
        self._automatic = Pipeline(pool.make_connection, timeout_seconds=timeout_seconds)
        self._bound = partial(run_dedicated, gate=self._automatic)
        self._pubsub_connections = PubSubConnections()

    def execute_command(self, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        repeatable = options.pop(REPEATABLE, None)
        if needs_dedicated_connection(args):
            plain: Callable[..., Awaitable[Any]] = super().execute_command
            seconds = blocks_for_seconds(args) + DEDICATED_SECONDS
            return self._bound(lambda: plain(*args, **options), seconds=seconds)
        if repeatable is None:
            repeatable = is_repeatable(args)
        if not options and args[0] not in self.response_callbacks:
            # The reply as it is, which is what parse_response() would come to.
            return self._automatic.execute(args, repeatable=repeatable)
        return self._execute_and_parse(args, options, repeatable=repeatable)

    async def _execute_and_parse(self, args: tuple[Any, ...], options: dict[str, Any], *, repeatable: bool) -> Any:
        try:
            reply = await self._automatic.execute(args, repeatable=repeatable)
        except ResponseError as error:
            reply = error
        return await self.parse_response(cast(Connection, BufferedReply(reply)), args[0], **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> BoundedPipeline:
        made = BoundedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.bound = partial(self._bound, seconds=DEDICATED_SECONDS)
        return made

    def client(self) -> Redis:
        """redis-py's own client with one connection of the pool to itself; what it does is not bounded."""
        return Redis(connection_pool=self.connection_pool, single_connection_client=True)

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        """An unconnected connection for pub/sub, to the server that has `key`."""
        return self._pubsub_connections.add(self.connection_pool.make_connection())

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self._automatic.aclose()
        await super().aclose(close_connection_pool)
        for sentinel in self._sentinels:
            await sentinel.aclose()

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters, for metrics and health. `dedicated`: connections beside the pipeline's."""
        dedicated = (
            sum(count for count, _ in self.connection_pool.get_connection_count()) + self._pubsub_connections.count()
        )
        return {"server": {**self._automatic.stats(), "dedicated": dedicated}}
