"""Tasks of each kind that tests stop a process in: short ones, and ones without an end."""

import asyncio
import time

from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task

SHORT_SECONDS = 0.5


@task(timeout_seconds=None)
async def short(context: TaskContext) -> str:
    await asyncio.sleep(SHORT_SECONDS)
    return "finished"


@task(timeout_seconds=None)
def short_in_thread(context: TaskContext) -> str:
    time.sleep(SHORT_SECONDS)
    return "finished"


@task(timeout_seconds=None, process=True)
def short_in_process() -> str:
    time.sleep(SHORT_SECONDS)
    return "finished"


@task(timeout_seconds=None)
async def endless(context: TaskContext) -> None:
    await asyncio.Event().wait()


@task(timeout_seconds=None)
def endless_in_thread(context: TaskContext) -> None:
    """Until its process stops."""
    while not context.cancelled:
        time.sleep(0.02)


@task(timeout_seconds=None, process=True)
def endless_in_process() -> None:
    while True:
        time.sleep(60)


SHORT = (short, short_in_thread, short_in_process)
ENDLESS = (endless, endless_in_thread, endless_in_process)
