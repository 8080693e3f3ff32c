"""Quartet's queue and one worker, with leases, results and metrics; events with EVENTS=1.

A queue in NAMESPACE may hold more tasks, of a lower priority: they are not worked off.
"""

import os
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
from bench.queue_load import CONCURRENCY, TALLY, URL, finish, measure

EVENTS = os.environ.get("EVENTS") == "1"
NAMESPACE = os.environ.get("NAMESPACE", f"bench{os.getpid()}")


@task(events=EVENTS)
async def noop(context: TaskContext, number: int) -> int:
    TALLY()
    return number


async def main() -> None:
    redis = connect(URL, name="bench", timeout_seconds=5)
    keys = Keys(NAMESPACE)
    queue, publisher = Queue(redis, keys), Publisher(redis, keys)

    async def publish_event(task_id: str, type: str, data: Any) -> None:
        await publisher.publish(f"task:{task_id}", type, data)

    worker = Worker(
        queue,
        [noop],
        concurrency=CONCURRENCY,
        connect_leases=lambda: connect(URL, name="leases", timeout_seconds=5),
        publish_event=publish_event,
        telemetry=PrometheusTelemetry(version=__version__),
    )
    finish(await measure(lambda number: queue.enqueue(noop, number), worker.run))


if __name__ == "__main__":
    uvloop.run(main())
