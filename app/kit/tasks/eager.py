"""EagerQueue: runs what is enqueued before enqueue() returns, for tests and scripts."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.tasks.handle import Handle
from app.kit.tasks.model import Call
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task
from app.kit.tasks.worker import Worker


class EagerQueue(Queue):
    """A queue with a worker in it: the same scripts and the same worker, so a test sees what production does.

    A failed attempt is repeated at once. What is delayed waits; work() runs what has become due.
    """

    def __init__(
        self, redis: Redis, keys: Keys, tasks: Iterable[Task[Any]], *, resources: Any = None, name: str = "default"
    ) -> None:
        super().__init__(redis, keys, name=name)
        self._tasks = [replace(task, retry_delay=0.0) for task in tasks]
        self._resources = resources

    async def submit(self, calls: Sequence[Call]) -> list[Handle]:
        handles = await super().submit(calls)
        await self.work()
        return handles

    async def work(self) -> None:
        """Run what is ready, and what that enqueues, until nothing is."""
        queue = Queue(self.redis, self.keys, name=self.name)
        await Worker(queue, self._tasks, resources=self._resources, burst=True).run()
