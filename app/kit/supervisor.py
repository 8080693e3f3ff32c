"""Runs a job beside a block of code, and restarts it when it ends by an error."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)
RESTART_SECONDS = 1.0


class Job(Protocol):
    """run() returns soon after stop()."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


@asynccontextmanager
async def supervised(
    name: str, make: Callable[[], Job], *, telemetry: Telemetry, restart_seconds: float = RESTART_SECONDS
) -> AsyncIterator[None]:
    """Run a job for the duration of the block, and stop it at its end.

    An error that ends it is a defect: it is logged and counted (`job_restarts`), and `make` makes the next job after
    `restart_seconds`. Otherwise the service would answer requests while its background work has stopped.
    """
    job, stopping = make(), asyncio.Event()

    async def supervise() -> None:
        nonlocal job
        while not stopping.is_set():
            try:
                await job.run()
            except Exception:
                logger.critical("%s ended by a defect, and is restarted", name, exc_info=True)
                telemetry.count("job_restarts", job=name)
            try:
                await asyncio.wait_for(stopping.wait(), restart_seconds)
            except TimeoutError:
                job = make()

    task = asyncio.create_task(supervise())
    try:
        yield
    finally:
        stopping.set()
        job.stop()
        await task
