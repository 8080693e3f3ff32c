"""Queue: accepts tasks, reads their state, aborts and requeues them. The worker runs them."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis

from app.kit.keys import Keys, digest
from app.kit.scripts import Argument, run_script
from app.kit.tasks.model import Call, Depth, Priority, Receipt, TaskInfo, is_task_id
from app.kit.tasks.task import Task

Payload = TypeVar("Payload")

# Tasks in one script call: it keeps the server busy for no more than a few milliseconds.
SUBMIT_BATCH = 500
# How long a task that was aborted while it waited stays readable.
KEEP_ABORTED_SECONDS = 3600


class Queue:
    """One queue by name.

    Fails closed: while Redis is down each call raises an error of app.kit.client.errors.UNAVAILABLE, and no task is
    accepted.
    """

    def __init__(self, redis: Redis, keys: Keys, *, name: str = "default") -> None:
        self.redis = redis
        self.keys = keys
        self.name = name
        self._places = keys.task_places(name)
        self._prefix = keys.task_prefix(name)

    async def enqueue(
        self,
        task: Task[Payload],
        payload: Payload,
        *,
        task_id: str | None = None,
        delay_seconds: float = 0,
        at: float = 0,
        priority: Priority = "normal",
        unique: str | None = None,
        owner: int | None = None,
    ) -> str:
        """Enqueue one task in one round trip; returns its Receipt's id. The parameters are the fields of Call."""
        given = {} if task_id is None else {"id": task_id}
        call = task.call(
            payload, delay_seconds=delay_seconds, at=at, priority=priority, unique=unique, owner=owner, **given
        )
        return (await self.submit([call]))[0].id

    async def submit(self, calls: Sequence[Call]) -> list[Receipt]:
        """Enqueue many tasks, 500 in a round trip. May be repeated after an error: a known id is a no-op."""
        receipts: list[Receipt] = []
        for start in range(0, len(calls), SUBMIT_BATCH):
            batch = calls[start : start + SUBMIT_BATCH]
            arguments = [argument for call in batch for argument in _arguments(call)]
            reply = await self.run("tasks/enqueue", *arguments, repeatable=True)
            pairs = zip(reply[::2], reply[1::2], strict=True)
            receipts += [Receipt(id.decode(), position if position >= 0 else None) for id, position in pairs]
        return receipts

    async def get(self, task_id: str) -> TaskInfo | None:
        """The task's state. None: never accepted, or ended more than its task's `keep_seconds` ago."""
        if not is_task_id(task_id):
            return None
        record: Any = await self.redis.hgetall(self.keys.task_record(self.name, task_id))
        return TaskInfo.from_record(task_id, record) if record else None

    async def abort(self, task_id: str) -> bool:
        """End a task that waits, or ask its worker to. False: no task of this id waits, runs, or has been aborted.

        A worker learns of it within its idle wait (2 s). A coroutine is cancelled, a child process is killed, and in
        a thread `context.cancelled` becomes true.
        """
        if not is_task_id(task_id):
            return False
        return bool(await self.run("tasks/abort", task_id, int(KEEP_ABORTED_SECONDS * 1000), repeatable=True))

    async def depth(self) -> Depth:
        sizes = await self.run("tasks/depth", repeatable=True)
        high, normal, low, scheduled, running, dead, oldest_ms = sizes
        return Depth(
            high=high,
            normal=normal,
            low=low,
            scheduled=scheduled,
            running=running,
            dead=dead,
            oldest_seconds=oldest_ms / 1000,
        )

    async def totals(self) -> dict[str, int]:
        """How many tasks were done, failed, aborted and retried, and how many leases expired (`lost`), so far."""
        counted: Any = await self.redis.hgetall(self.keys.task_totals(self.name))
        names = ("done", "failed", "aborted", "retried", "lost")
        return {name: int(counted.get(name.encode(), 0)) for name in names}

    async def dead(self, *, offset: int = 0, limit: int = 100) -> list[TaskInfo]:
        """Dead letters, the latest first; `error` is the reason."""
        ids: Any = await self.redis.zrevrange(self.keys.task_dead(self.name), offset, offset + limit - 1)
        found = await asyncio.gather(*(self.get(id.decode()) for id in ids))
        return [info for info in found if info is not None]

    async def requeue(self, task_id: str | None = None) -> int:
        """Enqueue one dead letter again, or all, with all attempts before them; returns how many.

        One whose unique key another task holds stays dead.
        """
        return await self._each_dead("tasks/requeue", task_id)

    async def purge(self, task_id: str | None = None) -> int:
        """Delete one dead letter, or all; returns how many."""
        return await self._each_dead("tasks/purge", task_id)

    async def run(self, script: str, *args: Argument, repeatable: bool = False) -> Any:
        """Run one of the task scripts on this queue's keys."""
        return await run_script(
            self.redis, script, keys=self._places, args=[self._prefix, *args], repeatable=repeatable
        )

    async def _each_dead(self, script: str, task_id: str | None) -> int:
        ids: Any = [task_id] if task_id is not None and is_task_id(task_id) else []
        if task_id is None:
            ids = await self.redis.zrange(self.keys.task_dead(self.name), 0, -1)
        batches = [ids[start : start + SUBMIT_BATCH] for start in range(0, len(ids), SUBMIT_BATCH)]
        return sum([await self.run(script, *batch) for batch in batches])


def _arguments(call: Call) -> tuple[Argument, ...]:
    return (
        call.id,
        call.name,
        call.payload,
        call.priority,
        round(call.delay_seconds * 1000),
        round(call.at * 1000),
        "" if call.unique is None else digest(f"{call.name}:{call.unique}"),
        "" if call.owner is None else call.owner,
    )
