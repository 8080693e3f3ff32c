"""Quartet's queue and one worker, with leases, results and metrics; events with EVENTS=1.

A queue in NAMESPACE may hold more tasks, of a lower priority: they are not worked off.
"""

import asyncio
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from app import __version__
from app.kit.client.connect import connect
from app.kit.events.publisher import Publisher
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker
from app.web.telemetry import PrometheusTelemetry
from bench.queue_load import CONCURRENCY, SETTLE_SECONDS, TALLY, URL, Figures, finish, measure
from tests.waiting import eventually

EVENTS = os.environ.get("EVENTS") == "1"
NAMESPACE = os.environ.get("NAMESPACE", f"bench{os.getpid()}")
# How often each time is measured, once all tasks are done.
TIMES = int(os.environ.get("TIMES", "0"))


@task(events=EVENTS)
async def noop(context: TaskContext, number: int) -> int:
    TALLY()
    return number


@task()
async def started(context: TaskContext, due: float) -> None:
    """Tells how long after its time, in epoch seconds, it has started."""
    context.resources.put_nowait(time.time() - due)


@task(timeout_seconds=None)
async def endless(context: TaskContext) -> None:
    """Tells when it began, and when it was cancelled."""
    context.resources.put_nowait(0)
    try:
        await asyncio.Event().wait()
    finally:
        context.resources.put_nowait(time.time())


@task(timeout_seconds=None, process=True)
def endless_process(path: str) -> None:
    """Writes its process id."""
    Path(path).write_text(f"{os.getpid()}\n")
    time.sleep(600)


async def measure_times(queue: Queue, told: "asyncio.Queue[float]") -> Figures:
    """p99 of an idle worker's times; `told` is what the tasks tell, in seconds."""

    async def p99() -> float:
        return sorted([await told.get() for _ in range(TIMES)])[TIMES * 99 // 100] * 1000

    for _ in range(TIMES):
        await asyncio.sleep(SETTLE_SECONDS)
        handle = await queue.enqueue(started, time.time())
        await handle.wait()
    wake = await p99()
    dues = [time.time() + 0.1 + number * 0.005 for number in range(TIMES)]
    await asyncio.gather(*(queue.enqueue(started, due, at=due) for due in dues))
    eta = await p99()
    aborts = []
    for _ in range(TIMES // 10):
        handle = await queue.enqueue(endless)
        await told.get()
        began = time.time()
        await handle.abort()
        aborts.append(await told.get() - began)
    return {
        "ms to wake, p99": wake,
        "ms late of an eta, p99": eta,
        "ms to abort a coroutine, longest": max(aborts) * 1000,
        "ms to abort a process, longest": max([await abort_process(queue) for _ in range(TIMES // 30)]) * 1000,
    }


async def abort_process(queue: Queue) -> float:
    """Seconds until the child process of an aborted task has ended."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "pid"
        handle = await queue.enqueue(endless_process, str(told))
        await eventually(lambda: told.exists() and told.read_text().endswith("\n"))
        began = time.time()
        await handle.abort()
        with suppress(ProcessLookupError):
            while True:
                os.kill(int(told.read_text()), 0)
                await asyncio.sleep(0.0005)
        return time.time() - began


async def main() -> None:
    redis = connect(URL, name="bench", timeout_seconds=5)
    keys = Keys(NAMESPACE)
    queue, publisher = Queue(redis, keys), Publisher(redis, keys)

    async def publish_event(task_id: str, type: str, data: Any) -> None:
        await publisher.publish(f"task:{task_id}", type, data)

    told: asyncio.Queue[float] = asyncio.Queue()
    worker = Worker(
        queue,
        [noop, started, endless, endless_process],
        resources=told,
        concurrency=CONCURRENCY,
        connect_leases=lambda: connect(URL, name="leases", timeout_seconds=5),
        publish_event=publish_event,
        telemetry=PrometheusTelemetry(version=__version__),
    )
    found = await measure(lambda number: queue.enqueue(noop, number), worker.run)
    finish(found | (await measure_times(queue, told) if TIMES else {}))


if __name__ == "__main__":
    uvloop.run(main())
