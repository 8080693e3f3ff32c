"""A worker that runs during a block, its telemetry, and tasks that several tests run."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from app.kit.scripts import Argument
from app.kit.tasks.context import TaskContext
from app.kit.tasks.handle import Handle
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.model import Claim, Report, ReportKind
from app.kit.tasks.queue import Queue
from app.kit.tasks.step import Stepper
from app.kit.tasks.task import Task, task
from app.kit.tasks.worker import Worker
from tests.waiting import eventually


class UnreliableQueue(Queue):
    """A queue whose scripts run, but whose replies are lost while `loses_replies` is true."""

    loses_replies = False
    lost_reply: Any = None

    async def run(self, script: str, *args: Argument, repeatable: bool = False) -> Any:
        reply = await super().run(script, *args, repeatable=repeatable)
        if self.loses_replies:
            self.lost_reply = reply
            raise RedisConnectionError("the reply was lost")
        return reply


class Counted:
    """A telemetry that keeps counters by name, and by name and outcome."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.largest: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.counters[":".join([name, *labels.values()])] += int(amount)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        self.seen.add(name)
        self.largest[name] = max(value, self.largest.get(name, value))

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self.seen.add(name)


@asynccontextmanager
async def working(queue: Queue, *tasks: Task[Any], **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs within the block; at its end it stops with no grace."""
    worker = Worker(queue, tasks, **{"grace_seconds": 0, "idle_seconds": 0.5, **options})
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


def id_of(task: str | Handle) -> str:
    return task if isinstance(task, str) else task.id


async def ended(queue: Queue, task: str | Handle) -> TaskInfo:
    """The task once it is done, failed or aborted."""

    async def look() -> TaskInfo | None:
        info = await queue.get(id_of(task))
        return info if info is not None and info.finished_at is not None else None

    info = await eventually(look)
    assert info is not None
    return info


async def in_state(queue: Queue, task: str | Handle, state: str) -> TaskInfo:
    async def look() -> TaskInfo | None:
        info = await queue.get(id_of(task))
        return info if info is not None and info.state == state else None

    info = await eventually(look)
    assert info is not None
    return info


def stepper(queue: Queue, name: str = "worker", *, lease_seconds: float = 60, fair_every: int = 0) -> Stepper:
    """A worker without a loop. With a lease of 0 its claims have expired at once."""
    return Stepper(queue, name, lease_seconds=lease_seconds, max_deaths=3, fair_every=fair_every, idle_seconds=2)


async def claim(worker: Stepper, limit: int = 1) -> list[Claim]:
    return (await worker.step([], limit=limit)).claims


def report(claim: Claim, kind: ReportKind, *, ms: int = 60_000, text: str = "null") -> Report:
    return Report(claim.id, claim.token, kind, ms, text)


async def info_of(queue: Queue, task: str | Handle) -> TaskInfo:
    info = await queue.get(id_of(task))
    assert info is not None
    return info


@task(max_attempts=1)
async def double(context: TaskContext, number: int) -> int:
    return 2 * number


@task(timeout_seconds=None)
async def forever(context: TaskContext) -> None:
    await asyncio.Event().wait()


@task(process=True, max_attempts=1)
def in_child(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return number + 1


@task(process=True, timeout_seconds=0.3, max_attempts=1)
def endless() -> None:
    while True:
        pass
