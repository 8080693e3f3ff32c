"""A worker that tests kill: python -m tests.faults.worker_process URL NAMESPACE MAX_DEATHS."""

import asyncio
import os
import signal
import sys

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import task
from app.kit.tasks.worker import Worker

LEASE_SECONDS = 0.3


@task()
async def work(context: TaskContext, number: int) -> int:
    await asyncio.sleep(0.02)
    return number


@task(timeout_seconds=None)
async def stay(context: TaskContext) -> None:
    await asyncio.Event().wait()


@task()
async def kill(context: TaskContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(url: str, namespace: str, max_deaths: int) -> None:
    redis = connect(url, name="worker", timeout_seconds=5)
    worker = Worker(
        Queue(redis, Keys(namespace)),
        [work, stay, kill],
        concurrency=8,
        lease_seconds=LEASE_SECONDS,
        grace_seconds=0.1,
        idle_seconds=0.05,
        max_deaths=max_deaths,
        connect_leases=lambda: connect(url, name="leases", timeout_seconds=5),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
