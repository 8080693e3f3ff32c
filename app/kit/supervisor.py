"""Keeps a job running beside a block of code, and tells loudly when it had to begin again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)
RESTART_SECONDS = 1.0


class Job(Protocol):
    """Serves until it is told to stop."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


@asynccontextmanager
async def supervised(
    name: str, make: Callable[[], Job], *, telemetry: Telemetry, restart_seconds: float = RESTART_SECONDS
) -> AsyncIterator[None]:
    """Run a job for the duration of the block, and stop it at its end.

    One that ends by an error is a defect. It is logged and counted (`job_restarts`), and a new one begins after
    `restart_seconds`: a service that answers but has quietly stopped working would be worse.
    """
    job, stopping = make(), asyncio.Event()

    async def supervise() -> None:
        nonlocal job
        while not stopping.is_set():
            try:
                await job.run()
            except Exception:
                logger.critical("%s ended by a defect, and begins again", name, exc_info=True)
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
