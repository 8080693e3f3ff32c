"""Which node of a cluster has which slot, and a pipeline for each node."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.aio import end_tasks
from app.kit.client.breaker import Breaker
from app.kit.client.errors import is_permanent
from app.kit.client.pipeline import Pipeline
from app.kit.client.url import Address

logger = logging.getLogger(__name__)

SLOTS = 16384
# How many nodes are asked for the map at once, and how long each may take; one that hangs delays nothing.
ASKED_AT_ONCE = 3
ASK_SECONDS = 1.0
# The time between two refreshes, with jitter: a node that is down makes every caller ask for one.
SLOT_REFRESH_SECONDS = 0.1


class SlotMap:
    """The last map that a node gave. A new one is fetched beside the callers, who go on with the one there is.

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
        self.closed = False
        self.refreshes = 0
        # Of the cluster as a whole: open while no node says what the map is.
        self.breaker = Breaker()

    @property
    def is_known(self) -> bool:
        return bool(self._slots)

    async def fetch(self, deadline: float) -> None:
        """Have a map by `deadline` (loop time), or raise why there is none."""
        self.refresh_soon()
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing], timeout=deadline - asyncio.get_running_loop().time())
        if self.closed:
            raise RedisConnectionError("the client is closed")
        if not self._slots:
            if self._error is not None and is_permanent(self._error):
                raise self._error
            raise RedisTimeoutError("no node of the cluster answers") from self._error

    def owner(self, slot: int) -> Address:
        """The node that has the slot. ClusterDownError when none has."""
        address = self._slots[slot]
        if address is None:
            self.refresh_soon()
            raise ClusterDownError("Hash slot not served")
        return address

    def any_node(self) -> Address:
        """A node for what has no key: always the same, unless it has failed just now."""
        primaries = self._primaries()
        return next((address for address in primaries if self.pipeline(address).breaker.is_healthy), primaries[0])

    def moved(self, slot: int, address: Address) -> None:
        """A node has said that the slot is another's now; there may be more of them."""
        self._slots[slot] = address
        self.refresh_soon()

    def pipeline(self, address: Address) -> Pipeline:
        if self.closed:
            raise RedisConnectionError("the client is closed")
        pipeline = self._pipelines.get(address)
        if pipeline is None:
            pipeline = self._pipelines[address] = Pipeline(
                lambda: self._make_connection(address), timeout_seconds=self._timeout_seconds, waits_for_server=False
            )
        return pipeline

    def refresh_soon(self) -> None:
        """Fetch the map anew, unless that is under way; a moment later where it has just been done."""
        idle = self._refreshing is None or self._refreshing.done()
        if not self.closed and (idle or self._of_another_loop(self._refreshing)):
            self._refreshing = self._start(self._refresh_until_known())

    async def aclose(self) -> None:
        self.closed = True
        await end_tasks([task for task in self._tasks if not self._of_another_loop(task)])
        pipelines, self._pipelines = list(self._pipelines.values()), {}
        await asyncio.gather(*(pipeline.aclose() for pipeline in pipelines))

    def stats(self) -> dict[str, dict[str, Any]]:
        """State and counters by node."""
        return {f"{host}:{port}": self._pipelines[host, port].stats() for host, port in sorted(self._pipelines)}

    def _of_another_loop(self, task: asyncio.Task[None] | None) -> bool:
        """Whether it was left behind by a loop that has ended."""
        return task is not None and task.get_loop() is not asyncio.get_running_loop()

    def _primaries(self) -> list[Address]:
        return sorted({address for address in self._slots if address is not None})

    def _start(self, run: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refresh_until_known(self) -> None:
        """Go on until a node answers: this is what probes a cluster that is down."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._refresh_at - loop.time())
        while True:
            try:
                await self._refresh()
            except (RedisError, OSError) as error:
                self._note(error.__cause__ or error)
                if is_permanent(error):
                    # Whoever needs the map next tries again; to go on by itself would mend nothing.
                    return
                self.breaker.failed(error)
                await asyncio.sleep(random.uniform(0, 2 * SLOT_REFRESH_SECONDS))  # noqa: S311  jitter, no secret
            else:
                self.breaker.succeeded()
                self._error = None
                self.refreshes += 1
                self._refresh_at = loop.time() + random.uniform(0.5, 1.5) * SLOT_REFRESH_SECONDS  # noqa: S311
                return

    def _note(self, error: BaseException) -> None:
        if str(error) != str(self._error):
            logger.warning("no map of the redis cluster: %s: %s", type(error).__name__, error)
        self._error = error

    async def _refresh(self) -> None:
        asked = [*self._primaries(), *self._seeds]
        # Those that are connected first, in random order: one that is wrong is not always the one that is heard.
        random.shuffle(asked)
        asked.sort(key=lambda address: not self.pipeline(address).connected)
        errors: list[RedisError] = []
        for start in range(0, len(asked), ASKED_AT_ONCE):
            try:
                self._use(*await self._first_answer(asked[start : start + ASKED_AT_ONCE]))
            except RedisError as error:
                errors.append(error)
            else:
                return
        raise errors[0]

    async def _first_answer(self, addresses: Iterable[Address]) -> tuple[Address, list[Any]]:
        """CLUSTER SLOTS as the quickest of these nodes gives it, and whose it is. Raises an error of theirs."""
        deadline = asyncio.get_running_loop().time() + ASK_SECONDS
        asking = {}
        for address in dict.fromkeys(addresses):
            asked = self.pipeline(address).send(("CLUSTER", "SLOTS"), repeatable=True, deadline=deadline)
            asking[asyncio.ensure_future(asked)] = address
        pending = set(asking)
        try:
            while True:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None and task.result():
                        return asking[task], task.result()
                if not pending:
                    raise next(iter(done)).exception() or ClusterDownError("no slot is served")
        finally:
            await end_tasks(list(asking))

    def _use(self, source: Address, ranges: Iterable[Any]) -> None:
        """Take the map that `source` gave: [first slot, last slot, [host, port, ...], replicas, ...] for each range."""
        slots: list[Address | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # A node that does not know its own name leaves it empty.
            slots[first : last + 1] = [((host or b"").decode() or source[0], int(port))] * (last + 1 - first)
        self._slots = slots
        for address in self._pipelines.keys() - set(slots):
            self._start(self._pipelines.pop(address).retire())
