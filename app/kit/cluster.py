"""A Redis Cluster client with one automatic pipeline a node, which follows MOVED, ASK and TRYAGAIN."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import Any, cast

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisClusterException, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

from app.kit.answered import Answered
from app.kit.breaker import Breaker, CircuitOpen, NotSent
from app.kit.budget import current_budget
from app.kit.commands import REPEATABLE, is_alone, is_repeatable
from app.kit.ending import end_tasks
from app.kit.pipeline import Pipeline

# How long a command waits before it tries again: a slot under migration, a failover under way.
AGAIN_SECONDS = 0.05


class PipelinedCluster(RedisCluster):
    """RedisCluster whose commands with keys share round trips, one batch a node.

    Commands without a key, blocking ones and pub/sub go the way of the plain client.
    """

    def __init__(self, *, timeout_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._timeout_seconds = timeout_seconds
        self._pipelines: dict[str, Pipeline] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self.breaker = Breaker()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        repeatable = options.pop(REPEATABLE, None)
        if is_alone(args) or "target_nodes" in options or args[0] in self.command_flags:
            await self._topology()
            return await super().execute_command(*args, **options)
        await self._topology()
        try:
            slot = await self._determine_slot(*args)
        except RedisClusterException:
            # No key, or keys of several slots: the plain client knows which is an error and which is not.
            return await super().execute_command(*args, **options)
        reply = await self._route(slot, args, repeatable=is_repeatable(args) if repeatable is None else repeatable)
        node = self.nodes_manager.get_node_from_slot(slot)
        return await node.parse_response(cast(Any, Answered(reply)), cast(str, args[0]), **options)

    async def _execute_pipeline_by_slot(  # type: ignore[override]
        self, command: str, slots_to_args: Mapping[int, Iterable[EncodableT]]
    ) -> list[Any]:
        """What delete(), unlink(), exists() and touch() come to: a command a slot, each by its node's pipeline."""
        return await asyncio.gather(*(self.execute_command(command, *args) for args in slots_to_args.values()))

    async def aclose(self) -> None:
        if self._refreshing is not None:
            await end_tasks([self._refreshing])
        await self._close_pipelines()
        await super().aclose()

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters by node, for metrics and health."""
        return {name: pipeline.stats() for name, pipeline in self._pipelines.items()}

    async def _route(self, slot: int, args: tuple[Any, ...], *, repeatable: bool) -> Any:
        """The raw reply of whichever node has the slot, within the work's patience."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience()
        asked: ClusterNode | None = None
        while True:
            await self._topology()
            node = asked or self.nodes_manager.get_node_from_slot(slot)
            pipeline = self._pipeline(node)
            try:
                return await pipeline.execute(args, repeatable=repeatable, asking=asked is not None)
            except MovedError as error:
                asked = None
                await self.nodes_manager.move_slot(error)
            except AskError as error:
                asked = self.get_node(host=error.host, port=error.port)
                self._initialize = self._initialize or asked is None
            except (TryAgainError, ClusterDownError) as error:
                await self._again(deadline, error)
            except NotSent as error:
                asked, self._initialize = None, True
                await self._again(deadline, error)
            except (RedisConnectionError, RedisTimeoutError):
                self._initialize = True
                raise

    async def _again(self, deadline: float, error: RedisError) -> None:
        """Wait a moment before the next try; raise where no time is left for one."""
        if asyncio.get_running_loop().time() + AGAIN_SECONDS > deadline:
            raise RedisTimeoutError("no node of the cluster took the command in time") from error
        await asyncio.sleep(random.uniform(0, AGAIN_SECONDS))  # noqa: S311  jitter, no secret

    async def _topology(self) -> None:
        """Know which node has which slot. One refresh at a time; it goes on until a node answers, as the probe."""
        if not self._initialize:
            return
        if current_budget() is not None and self.breaker.state == "open":
            raise CircuitOpen("no node of the cluster answers; not tried again until one does")
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        try:
            async with asyncio.timeout(self._patience()):
                await asyncio.shield(self._refreshing)
        except TimeoutError as error:
            if (budget := current_budget()) is not None:
                budget.charge(budget.remaining_seconds)
            raise RedisTimeoutError("no node of the cluster answers") from error

    async def _refresh(self) -> None:
        while True:
            try:
                await self.initialize()
            except (RedisError, RedisClusterException, OSError):
                self.breaker.failed()
                await asyncio.sleep(random.uniform(0, 4 * AGAIN_SECONDS))  # noqa: S311  jitter, no secret
            else:
                self.breaker.succeeded()
                return

    def _patience(self) -> float:
        budget = current_budget()
        return self._timeout_seconds if budget is None else budget.remaining_seconds

    def _pipeline(self, node: ClusterNode) -> Pipeline:
        pipeline = self._pipelines.get(node.name)
        if pipeline is None:

            def make_connection() -> AbstractConnection:
                return node.connection_class(**node.connection_kwargs)

            pipeline = Pipeline(make_connection, timeout_seconds=self._timeout_seconds, waits_for_server=False)
            self._pipelines[node.name] = pipeline
        return pipeline

    async def _close_pipelines(self) -> None:
        pipelines, self._pipelines = list(self._pipelines.values()), {}
        await asyncio.gather(*(pipeline.aclose() for pipeline in pipelines))
