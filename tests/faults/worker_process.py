"""A worker that tests kill: python -m tests.faults.worker_process URL NAMESPACE MAX_DEATHS [LEASE_SECONDS]."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task, task
from app.kit.tasks.worker import Worker

LEASE_SECONDS = 0.3
# As a program does that reads its arguments where it stands.
ARGUMENTS = tuple(sys.argv[1:])


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


@task(timeout_seconds=None)
async def swallow(context: TaskContext) -> None:
    """Does not end when it is cancelled."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@task(timeout_seconds=None)
def sleep_in_thread(context: TaskContext) -> None:
    time.sleep(40)


@task(process=True, timeout_seconds=None)
def sleep_in_child() -> None:
    time.sleep(40)


@task(process=True)
def use_streams() -> str:
    """Reads fd 0, writes fd 1, and starts a process that keeps both open after the task."""
    os.write(1, b"from a child\n")
    subprocess.Popen(["sleep", "3"])
    subprocess.run(["echo", "from its own child"], check=True)
    return os.read(0, 10).decode()


@task(process=True)
def read_arguments() -> tuple[str, ...]:
    return ARGUMENTS


TASKS: list[Task[Any]] = [work, stay, kill, swallow, sleep_in_thread, sleep_in_child, use_streams, read_arguments]


async def serve(url: str, namespace: str, max_deaths: int, lease_seconds: float) -> None:
    redis = connect(url, name="worker", timeout_seconds=5)
    worker = Worker(
        Queue(redis, Keys(namespace)),
        TASKS,
        concurrency=8,
        lease_seconds=lease_seconds,
        grace_seconds=0.1,
        idle_seconds=0.05,
        max_deaths=max_deaths,
        connect_leases=lambda: connect(url, name="leases", timeout_seconds=5),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop)
    await worker.run()
    await redis.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(
        serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else LEASE_SECONDS)
    )
