"""A Redis Cluster client with one automatic pipeline a node, which follows MOVED, ASK and TRYAGAIN."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from redis.asyncio.cluster import ClusterNode, RedisCluster
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
from redis.typing import EncodableT

from app.kit.client.commands import (
    DEDICATED_SECONDS,
    REPEATABLE,
    blocks_for_seconds,
    first_key,
    is_repeatable,
    needs_dedicated_connection,
)
from app.kit.client.deadline import Deadline
from app.kit.client.dedicated import BoundedClusterPipeline, PubSubConnections, run_dedicated
from app.kit.client.errors import NotSent
from app.kit.client.redispy import BufferedReply
from app.kit.client.slot_map import SlotMap
from app.kit.client.url import Address

# How long a command waits before it tries again: a slot under migration, a failover under way.
RETRY_PAUSE_SECONDS = 0.05
# So many redirections are followed at once. Nodes that go on sending a command about are asked more slowly.
REDIRECTIONS = 3


class PipelinedCluster(RedisCluster):
    """RedisCluster whose commands share round trips, one batch a node.

    Commands to several nodes at once, blocking ones, pub/sub and transactions go the way of the plain client, with its
    connections and its own map of the cluster, within the budget of the work that is running.
    """

    def __init__(self, *, seeds: Sequence[Address], timeout_seconds: float, **options: Any) -> None:
        super().__init__(startup_nodes=[ClusterNode(host, port) for host, port in seeds], **options)
        self._timeout_seconds = timeout_seconds
        self._map = SlotMap(seeds, self._make_connection, timeout_seconds=timeout_seconds)
        self._bound = partial(run_dedicated, gate=self._map)
        self._pubsub_connections = PubSubConnections()
        self._moves = 0
        self._asks = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        repeatable = options.pop(REPEATABLE, None)
        flag = self.command_flags.get(args[0])
        if needs_dedicated_connection(args) or "target_nodes" in options or flag not in {None, self.DEFAULT_NODE}:
            return await self._plain(args, options)
        key = None if flag else first_key(args)
        slot = None if key is None else self.keyslot(key)
        if repeatable is None:
            repeatable = is_repeatable(args)
        with Deadline(self._timeout_seconds) as deadline:
            try:
                reply = await self._route(slot, args, repeatable=repeatable, deadline=deadline)
            except ResponseError as error:
                reply = error
        result = await self.startup_nodes[0].parse_response(cast(Any, BufferedReply(reply)), args[0], **options)
        if (callback := self.result_callbacks.get(args[0])) is not None:
            # For commands that several nodes may have answered: one has.
            return callback(args[0], {"": result}, **options)
        return result

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> BoundedClusterPipeline:
        made = BoundedClusterPipeline(self, transaction)  # type: ignore[abstract]
        made.bound = partial(self._bound, seconds=DEDICATED_SECONDS)
        return made

    async def pubsub_connection(self, key: str) -> AbstractConnection:
        """An unconnected connection for pub/sub, to the node that has `key`."""
        with Deadline(self._timeout_seconds) as deadline:
            await self._know(deadline)
            return self._pubsub_connections.add(self._make_connection(self._map.owner(self.keyslot(key))))

    async def aclose(self) -> None:
        await self._map.aclose()
        await super().aclose()
        # After an error redis-py takes itself for not begun, and leaves open what it has.
        for nodes in ("nodes_cache", "startup_nodes"):
            with suppress(RedisError, OSError):
                await self.nodes_manager.aclose(nodes)

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters by node, for metrics and health; `cluster` is about the map of them."""
        nodes = self.nodes_manager.nodes_cache.values()
        dedicated = sum(len(node._connections) for node in nodes) + self._pubsub_connections.count()
        whole = {"breaker": self._map.breaker.state, "refreshes": self._map.refreshes, "dedicated": dedicated}
        return {"cluster": whole | {"moves": self._moves, "asks": self._asks}, **self._map.stats()}

    async def _execute_pipeline_by_slot(  # type: ignore[override]
        self, command: str, slots_to_args: Mapping[int, Iterable[EncodableT]]
    ) -> list[Any]:
        """What delete(), unlink(), exists() and touch() come to: a command a slot, each by its node's pipeline."""
        return await asyncio.gather(*(self.execute_command(command, *args) for args in slots_to_args.values()))

    async def _plain(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        plain = super().execute_command
        try:
            return await self._bound(
                lambda: plain(*args, **options), seconds=blocks_for_seconds(args) + DEDICATED_SECONDS
            )
        except RedisClusterException as error:
            # No RedisError, though it tells of nodes that do not answer.
            raise RedisConnectionError(str(error)) from error

    async def _route(self, slot: int | None, args: tuple[Any, ...], *, repeatable: bool, deadline: Deadline) -> Any:
        """The raw reply of whichever node has the slot, or for None of any; within the deadline."""
        redirected: Address | None = None
        asking, redirections = False, 0
        while True:
            await self._know(deadline)
            address = redirected or (self._map.any_node() if slot is None else self._map.owner(slot))
            pipeline = self._map.pipeline(address)
            try:
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
                    await self._again(deadline, error)
            except (TryAgainError, NotSent, ClusterDownError) as error:
                redirected, asking = None, False
                await self._again(deadline, error)
            except (RedisConnectionError, RedisTimeoutError):
                self._map.refresh_soon()
                raise

    async def _know(self, deadline: Deadline) -> None:
        """Have a map of the cluster, be it an old one."""
        if not self._map.is_known:
            deadline.check(self._map.breaker)
            await self._map.fetch(deadline.at)

    async def _again(self, deadline: Deadline, error: RedisError) -> None:
        """Wait a moment before the next try; raise where it makes no sense or no time is left for one."""
        if not isinstance(error, TryAgainError):
            self._map.refresh_soon()
        if isinstance(error, ClusterDownError) and deadline.is_budgeted:
            # Until a failover is done each request would wait for it; so none does.
            raise error
        if asyncio.get_running_loop().time() + RETRY_PAUSE_SECONDS > deadline.at:
            raise RedisTimeoutError("no node of the cluster took the command in time") from error
        await asyncio.sleep(random.uniform(0, RETRY_PAUSE_SECONDS))  # noqa: S311  jitter, no secret

    def _make_connection(self, address: Address) -> AbstractConnection:
        node = self.startup_nodes[0]
        host, port = address
        return node.connection_class(**node.connection_kwargs | {"host": host, "port": port})
