"""Runs jobs beside a block of code, and restarts each one that ends by an error."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
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
    async with all_supervised({name: make}, telemetry=telemetry, restart_seconds=restart_seconds):
        yield


@asynccontextmanager
async def all_supervised(
    makes: Mapping[str, Callable[[], Job]], *, telemetry: Telemetry, restart_seconds: float = RESTART_SECONDS
) -> AsyncIterator[None]:
    """supervised() for several jobs, by name: a defect restarts its own job only, and at the end all stop at once."""
    supervisors = [
        _Supervisor(name, make, telemetry=telemetry, restart_seconds=restart_seconds) for name, make in makes.items()
    ]
    tasks = [asyncio.create_task(supervisor.run()) for supervisor in supervisors]
    try:
        yield
    finally:
        for supervisor in supervisors:
            supervisor.stop()
        await asyncio.gather(*tasks)


class _Supervisor:
    def __init__(self, name: str, make: Callable[[], Job], *, telemetry: Telemetry, restart_seconds: float) -> None:
        self._name = name
        self._make = make
        self._telemetry = telemetry
        self._restart_seconds = restart_seconds
        self._job = make()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._job.run()
            except Exception:
                logger.critical("%s ended by a defect, and is restarted", self._name, exc_info=True)
                self._telemetry.count("job_restarts", name=self._name)
            try:
                await asyncio.wait_for(self._stopping.wait(), self._restart_seconds)
            except TimeoutError:
                self._job = self._make()

    def stop(self) -> None:
        self._stopping.set()
        self._job.stop()
