import asyncio
import logging

import pytest

from app.kit.supervisor import all_supervised, supervised
from app.kit.telemetry import NoTelemetry
from tests.waiting import eventually


class Job:
    """Ends by an error where it is told to, and otherwise serves."""

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails
        self._stop = asyncio.Event()
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self._fails:
            raise ValueError("a defect")
        await self._stop.wait()

    def stop(self) -> None:
        self._stop.set()


async def test_a_job_that_ends_by_a_defect_begins_again_and_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Job] = []

    def make() -> Job:
        made.append(Job(fails=len(made) < 2))
        return made[-1]

    with caplog.at_level(logging.CRITICAL):
        async with supervised("worker", make, telemetry=NoTelemetry(), restart_seconds=0.001):
            await eventually(lambda: len(made) == 3 and made[-1].runs == 1)
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "CRITICAL"]


async def test_the_end_of_the_block_stops_a_job_that_waits_to_begin_again() -> None:
    job = Job(fails=True)
    async with asyncio.timeout(5), supervised("worker", lambda: job, telemetry=NoTelemetry(), restart_seconds=60):
        await eventually(lambda: job.runs == 1)
    assert job.runs == 1


async def test_a_defect_of_one_job_leaves_the_others_alone() -> None:
    healthy, broken = Job(fails=False), Job(fails=True)
    makes = {"worker:default": lambda: healthy, "worker:mail": lambda: broken}
    async with asyncio.timeout(5), all_supervised(makes, telemetry=NoTelemetry(), restart_seconds=0.001):
        await eventually(lambda: broken.runs >= 5)
    assert healthy.runs == 1
