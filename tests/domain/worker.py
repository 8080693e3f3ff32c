"""TaskWorker: runs the tasks of a test's application, to the end of what is ready or during a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from app.db.outbox import OutboxRow
from app.kit.tasks.task import Task
from app.kit.tasks.worker import Worker
from app.resources import Resources
from tests.waiting import eventually


@dataclass(frozen=True)
class TaskWorker:
    resources: Resources
    tasks: tuple[Task[Any], ...]

    async def drain(self) -> None:
        """Run what was committed or enqueued, and what that enqueues, until nothing is ready. Delayed tasks stay."""
        while True:
            await eventually(self._outbox_is_empty)
            await self._worker(burst=True).run()
            # In the order in which a task moves: read the other way round, one that is being relayed would be missed.
            is_empty, depth = await self._outbox_is_empty(), await self.resources.queue.depth()
            if is_empty and not (depth["high"] or depth["normal"] or depth["low"]):
                return

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Run tasks during the block; at its end those that run may finish."""
        worker = self._worker()
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await task

    def _worker(self, *, burst: bool = False) -> Worker:
        found = self.resources
        return Worker(found.queue, self.tasks, resources=found, telemetry=found.telemetry, burst=burst)

    async def _outbox_is_empty(self) -> bool:
        async with self.resources.database.read(primary=True) as session:
            return not await session.scalar(select(func.count()).select_from(OutboxRow))
