"""Which node of a cluster has which slot, and a pipeline for each node."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import Backoff, backoff_seconds, end_tasks, side_by_side
from app.kit.client.breaker import Breaker
from app.kit.client.errors import is_permanent
from app.kit.client.pipeline import Pipeline
from app.kit.client.url import Address

logger = logging.getLogger(__name__)

SLOTS = 16384
# How many nodes are asked for the map at once, so that one that hangs delays nothing; how long each may take.
ASKED_AT_ONCE = 3
ASK_SECONDS = 1.0
# The mean time between two refreshes: while a node is down every caller asks for one.
SLOT_REFRESH_SECONDS = 0.1


class SlotMap:
    """The last map that a node gave. A new one is fetched beside the callers, who use the old one meanwhile.

    `make_connection` gives an unconnected redis-py connection to an address.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        make_connection: Callable[[Address], AbstractConnection],
        *,
        timeout_seconds: float,
    ) -> None:
        self._seeds = seeds
        self._make_connection = make_connection
        self._timeout_seconds = timeout_seconds
        self._slots: list[Address | None] = []
        self._pipelines: dict[Address, Pipeline] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_at = 0.0
        self._error: BaseException | None = None
        self._closed = False
        self.refreshes = 0
        # Of the cluster as a whole: open while no node answers with a map.
        self.breaker = Breaker()

    @property
    def is_known(self) -> bool:
        return bool(self._slots)

    async def fetch(self, deadline: float) -> None:
        """Wait for a map until `deadline` (loop time). Raises why there is none."""
        self.refresh_soon()
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing], timeout=deadline - asyncio.get_running_loop().time())
        if self._closed:
            raise RedisConnectionError("the client is closed")
        if not self._slots:
            if self._error is not None and is_permanent(self._error):
                raise self._error
            raise RedisTimeoutError("no node of the cluster answers") from self._error

    def owner(self, slot: int) -> Address:
        """The node that has the slot. ClusterDownError where none has it."""
        address = self._slots[slot]
        if address is None:
            self.refresh_soon()
            raise ClusterDownError("Hash slot not served")
        return address

    def any_node(self) -> Address:
        """A node for a command without a key: always the same one, unless it has failed just now."""
        primaries = self._primaries()
        return next((address for address in primaries if self.pipeline(address).breaker.is_healthy), primaries[0])

    def moved(self, slot: int, address: Address) -> None:
        """A node has answered that `address` has the slot; other slots may have moved with it."""
        self._slots[slot] = address
        self.refresh_soon()

    def pipeline(self, address: Address) -> Pipeline:
        if self._closed:
            raise RedisConnectionError("the client is closed")
        pipeline = self._pipelines.get(address)
        if pipeline is None:
            pipeline = self._pipelines[address] = Pipeline(
                lambda: self._make_connection(address), timeout_seconds=self._timeout_seconds, waits_for_server=False
            )
        return pipeline

    def refresh_soon(self) -> None:
        """Fetch a new map, unless that is under way; a moment later where one has just been fetched."""
        idle = self._refreshing is None or self._refreshing.done()
        if not self._closed and (idle or self._of_another_loop(self._refreshing)):
            self._refreshing = self._start(self._refresh_until_known())

    async def aclose(self) -> None:
        self._closed = True
        await end_tasks([task for task in self._tasks if not self._of_another_loop(task)])
        pipelines, self._pipelines = list(self._pipelines.values()), {}
        await asyncio.gather(*(pipeline.aclose() for pipeline in pipelines))

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters by node."""
        return {f"{host}:{port}": self._pipelines[host, port].stats() for host, port in sorted(self._pipelines)}

    def _of_another_loop(self, task: asyncio.Task[None] | None) -> bool:
        return task is not None and task.get_loop() is not asyncio.get_running_loop()

    def _primaries(self) -> list[Address]:
        return sorted({address for address in self._slots if address is not None})

    def _start(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refresh_until_known(self) -> None:
        """Repeat until a node answers: this is the probe of a cluster that is down."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=SLOT_REFRESH_SECONDS, longest_seconds=2 * SLOT_REFRESH_SECONDS)
        await asyncio.sleep(self._refresh_at - loop.time())
        while True:
            try:
                await self._refresh()
            except (RedisError, OSError) as error:
                self._set_error(error.__cause__ or error)
                if is_permanent(error):
                    # Repeating it mends nothing. The next command that needs the map tries again.
                    return
                self.breaker.failed(error)
                await backoff.wait()
            else:
                self.breaker.succeeded()
                self._error = None
                self.refreshes += 1
                jitter = backoff_seconds(1, first_seconds=SLOT_REFRESH_SECONDS, longest_seconds=SLOT_REFRESH_SECONDS)
                self._refresh_at = loop.time() + SLOT_REFRESH_SECONDS / 2 + jitter
                return

    def _set_error(self, error: BaseException) -> None:
        if str(error) != str(self._error):
            logger.warning("no map of the redis cluster: %s: %s", type(error).__name__, error)
        self._error = error

    async def _refresh(self) -> None:
        asked = [*self._primaries(), *self._seeds]
        # Connected ones first, in random order: the first answer counts, and it must not always be the same node's.
        random.shuffle(asked)
        asked.sort(key=lambda address: not self.pipeline(address).connected)
        errors: list[RedisError] = []
        for start in range(0, len(asked), ASKED_AT_ONCE):
            try:
                self._replace(*await self._first_answer(asked[start : start + ASKED_AT_ONCE]))
            except RedisError as error:
                errors.append(error)
            else:
                return
        raise errors[0]

    async def _first_answer(self, addresses: Iterable[Address]) -> tuple[Address, list[Any]]:
        """The first of these nodes that knows a map, and its CLUSTER SLOTS. Raises an error of theirs."""
        deadline = asyncio.get_running_loop().time() + ASK_SECONDS
        failure: RedisError = ClusterDownError("no slot is served")
        async with side_by_side(*(self._ask(address, deadline) for address in dict.fromkeys(addresses))) as asking:
            for next_answer in asyncio.as_completed(asking):
                try:
                    address, ranges = await next_answer
                except RedisError as error:
                    failure = error
                else:
                    if ranges:
                        return address, ranges
        raise failure

    async def _ask(self, address: Address, deadline: float) -> tuple[Address, list[Any]]:
        return address, await self.pipeline(address).send(("CLUSTER", "SLOTS"), repeatable=True, deadline=deadline)

    def _replace(self, source: Address, ranges: Iterable[Any]) -> None:
        """`ranges`: [first slot, last slot, [host, port, ...], replicas, ...] each, as `source` answered."""
        slots: list[Address | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # A node that does not know its own address leaves the host empty.
            slots[first : last + 1] = [((host or b"").decode() or source[0], int(port))] * (last + 1 - first)
        self._slots = slots
        for address in self._pipelines.keys() - set(slots):
            self._start(self._pipelines.pop(address).retire())
