"""Handle: one accepted task, to wait for, to follow and to abort."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.kit.tasks.info import TaskInfo
from app.kit.tasks.model import TaskState
from app.kit.tasks.outcome import TaskAborted, TaskFailed, TaskUnknown

ENDED: frozenset[TaskState] = frozenset({"done", "failed", "aborted"})
# A wait looks again after half the time that has passed, between these.
POLL_FIRST_SECONDS, POLL_LONGEST_SECONDS = 0.005, 0.25


class TaskStore(Protocol):
    """What a handle asks of its queue."""

    async def get(self, task_id: str) -> TaskInfo | None: ...
    async def abort(self, task_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Handle:
    """`id`: of this task, or of the one that holds its `unique` key.

    `status`: the task is new, was known before, or was restarted; `state`: the task's when it was enqueued;
    `position`: how many waited before it, None unless it was queued just now.
    """

    id: str
    status: Literal["new", "known", "restarted"]
    state: TaskState
    position: int | None
    queue: TaskStore = field(repr=False)

    async def info(self) -> TaskInfo | None:
        """The task as it stands. None: it ended more than its task's `keep_seconds` ago."""
        return await self.queue.get(self.id)

    async def abort(self) -> bool:
        """As Queue.abort()."""
        return await self.queue.abort(self.id)

    async def wait(self, timeout_seconds: float | None = None) -> Any:
        """The result, as decoded JSON, once the task is done.

        TaskFailed, TaskAborted: how it has ended. TaskUnknown: the queue has forgotten it. TimeoutError: it has not
        ended within `timeout_seconds`; it goes on. Of a chain wait for the last task.
        """
        async with asyncio.timeout(timeout_seconds):
            async for info in self.events():
                if info.state == "done":
                    return info.result
                if info.state == "failed":
                    raise TaskFailed(info.id, info.error or "", info.traceback)
                if info.state == "aborted":
                    raise TaskAborted(f"{info.id}: {info.error}")
        raise TaskUnknown(self.id)

    async def events(self) -> AsyncIterator[TaskInfo]:
        """The task as it stands now, and at each change of state, attempt or progress that is seen, to its end.

        Looks every 5 to 250 ms, the more seldom the longer nothing changes: a state that is shorter may be missed.
        """
        before: tuple[object, ...] | None = None
        pause = POLL_FIRST_SECONDS
        while (info := await self.queue.get(self.id)) is not None:
            now = (info.state, info.attempts, info.progress)
            if now != before:
                before, pause = now, POLL_FIRST_SECONDS
                yield info
                if info.state in ENDED:
                    return
            await asyncio.sleep(pause)
            pause = min(POLL_LONGEST_SECONDS, pause * 1.5)
