"""A Redis Cluster client with one automatic pipeline a node, which follows MOVED, ASK and TRYAGAIN."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import backoff_seconds
from app.kit.client.commands import (
    DEDICATED_SECONDS,
    REPEATABLE,
    TRAITS,
    blocks_for_seconds,
    first_key,
    traits_of,
)
from app.kit.client.deadline import Deadline
from app.kit.client.dedicated import BoundedClusterPipeline, DedicatedConnections
from app.kit.client.errors import NotSent
from app.kit.client.redispy import ClusterBase
from app.kit.client.slot_map import SlotMap
from app.kit.client.url import Address

# The longest pause before a command is tried again: a slot migrates, or a failover is under way.
RETRY_PAUSE_SECONDS = 0.05
# Redirections that are followed without a pause. Nodes may name each other in the middle of a failover.
REDIRECTIONS = 3


class PipelinedCluster(ClusterBase):
    """RedisCluster whose commands share round trips, one batch a node.

    Commands to several nodes at once, blocking ones, pub/sub and transactions use redis-py's own connections and slot
    map, within the budget of the running work.
    """

    is_embedded = False
    is_clustered = True

    def __init__(self, *, seeds: Sequence[Address], timeout_seconds: float, **options: Any) -> None:
        super().__init__(seeds=seeds, **options)
        self._timeout_seconds = timeout_seconds
        self._map = SlotMap(seeds, self.make_connection, timeout_seconds=timeout_seconds)
        # redis-py's nodes refuse more connections than these at once; here their callers wait.
        self._dedicated = DedicatedConnections(self._map.breaker, at_once=options.get("max_connections"))
        self._moves = 0
        self._asks = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        repeatable = options.pop(REPEATABLE, None)
        flag = self.node_flag(args[0])
        traits = TRAITS.get(args[0]) or traits_of(args)
        if traits.dedicated or "target_nodes" in options or flag not in {None, self.DEFAULT_NODE}:
            return await self._execute_dedicated(args, options)
        key = None if flag else first_key(args)
        slot = None if key is None else self.keyslot(key)
        if repeatable is None:
            repeatable = traits.repeatable
        with Deadline(self._timeout_seconds) as deadline:
            try:
                reply = await self._route(slot, args, repeatable=repeatable, deadline=deadline)
            except ResponseError as error:
                reply = error
        return await self.parse_reply(reply, args[0], options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> BoundedClusterPipeline:
        pipeline = BoundedClusterPipeline(self, transaction)  # type: ignore[abstract]
        pipeline.bound = self._dedicated.bound
        return pipeline

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        with Deadline(self._timeout_seconds) as deadline:
            await self._ensure_map(deadline)
            return self._dedicated.add_pubsub(self.make_connection(self._map.owner(self.keyslot(key))))

    async def aclose(self) -> None:
        self._dedicated.close()
        await self._map.aclose()
        await super().aclose()
        await self.close_nodes()

    def stats(self) -> dict[str, dict[str, Any]]:
        """By node; `cluster` is about the slot map and the cluster as a whole."""
        dedicated = self.count_node_connections() + self._dedicated.count_pubsub()
        whole = {"breaker": self._map.breaker.state, "refreshes": self._map.refreshes, "dedicated": dedicated}
        return {"cluster": whole | {"moves": self._moves, "asks": self._asks}, **self._map.stats()}

    async def _execute_dedicated(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        plain = super().execute_command
        seconds = blocks_for_seconds(args) + DEDICATED_SECONDS
        try:
            return await self._dedicated.run(lambda: plain(*args, **options), seconds=seconds)
        except RedisClusterException as error:
            # It is no RedisError, though it says that nodes do not answer.
            raise RedisConnectionError(str(error)) from error

    async def _route(self, slot: int | None, args: tuple[Any, ...], *, repeatable: bool, deadline: Deadline) -> Any:
        """The raw reply of the node that has the slot, or for None of any node; within the deadline."""
        redirected: Address | None = None
        asking, redirections = False, 0
        while True:
            await self._ensure_map(deadline)
            try:
                address = redirected or (self._map.any_node() if slot is None else self._map.owner(slot))
                pipeline = self._map.pipeline(address)
                pipeline.check_breaker(deadline)
                return await pipeline.send(args, repeatable=repeatable, deadline=deadline.at, asking=asking)
            except AskError as error:  # MovedError is one
                asking = not isinstance(error, MovedError)
                redirected = (error.host or address[0], error.port)
                self._asks, self._moves = self._asks + asking, self._moves + (not asking)
                if not asking:
                    self._map.moved(error.slot_id, redirected)
                redirections += 1
                if redirections > REDIRECTIONS:
                    await self._pause(deadline, error)
            except (TryAgainError, NotSent, ClusterDownError) as error:
                redirected, asking = None, False
                await self._pause(deadline, error)
            except (RedisConnectionError, RedisTimeoutError):
                self._map.refresh_soon()
                raise

    async def _ensure_map(self, deadline: Deadline) -> None:
        if not self._map.is_known:
            deadline.check(self._map.breaker)
            await self._map.fetch(deadline.at)

    async def _pause(self, deadline: Deadline, error: RedisError) -> None:
        """Wait before the next try. Raises where no time is left for one, or where a request should not wait."""
        if not isinstance(error, TryAgainError):
            self._map.refresh_soon()
        if isinstance(error, ClusterDownError) and deadline.is_budgeted:
            # Each request would wait until the end of the failover.
            raise error
        if asyncio.get_running_loop().time() + RETRY_PAUSE_SECONDS > deadline.at:
            raise RedisTimeoutError("no node of the cluster took the command in time") from error
        await asyncio.sleep(backoff_seconds(1, first_seconds=RETRY_PAUSE_SECONDS, longest_seconds=RETRY_PAUSE_SECONDS))
