"""RunningTasks: the claims that run in this process, and the reports on them that are not in the queue yet."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from app.kit.tasks.context import TaskContext
from app.kit.tasks.executor import Executor
from app.kit.tasks.model import Claim, Report
from app.kit.telemetry import Telemetry

PROGRESS_SECONDS = 0.1

Reason = Literal["abort", "release", "lost"]


@dataclass(slots=True, eq=False)
class _Running:
    """A claim that runs. `reason`: why this worker has cancelled it."""

    claim: Claim
    began: float
    task: "asyncio.Task[Report]"
    reason: Reason | None = None

    def end(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
            self.task.cancel()


class RunningTasks:
    """`changed` is called when there is something to report. `resources` goes to every task."""

    def __init__(
        self, executor: Executor, *, resources: Any, changed: Callable[[], None], telemetry: Telemetry
    ) -> None:
        self._executor = executor
        self._resources = resources
        self._changed = changed
        self._telemetry = telemetry
        self._running: dict[int, _Running] = {}
        self._reports: list[Report] = []
        self._progress: dict[int, Report] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, claim: Claim) -> None:
        loop = asyncio.get_running_loop()

        def report_progress(percent: int) -> None:
            loop.call_soon_threadsafe(self._set_progress, claim, percent)

        context = TaskContext(
            id=claim.id,
            name=claim.name,
            attempt=claim.attempt,
            owner=claim.owner,
            resources=self._resources,
            report=report_progress,
        )
        running = _Running(claim, time.monotonic(), loop.create_task(self._executor.run(claim, context)))
        self._running[claim.token] = running
        # Not inside the coroutine: one that is cancelled before its first step never runs.
        running.task.add_done_callback(partial(self._ended, running))
        self._telemetry.count("task_starts", task=self._executor.label(claim.name))

    def abort(self, ids: Iterable[str]) -> None:
        """Abort the tasks of these ids that run here."""
        wanted = set(ids)
        for running in self._running.values() if wanted else ():
            if running.claim.id in wanted:
                running.end("abort")

    def lose(self, tokens: Iterable[int]) -> None:
        """Cancel the claims whose leases other workers hold now; they are not reported."""
        for token in tokens:
            if token in self._running:
                self._running[token].end("lost")

    async def release(self, seconds: float) -> None:
        """Cancel all, and wait `seconds` for their cleanup. One that does not end is not reported."""
        for running in self._running.values():
            running.end("release")
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()], timeout=seconds)

    def take_reports(self) -> list[Report]:
        reports = [*self._progress.values(), *self._reports]
        self._progress.clear()
        self._reports.clear()
        return reports

    def keep_reports(self, reports: Iterable[Report]) -> None:
        """Keep reports that did not reach the queue for the next step, without progress: newer will follow."""
        self._reports[:0] = [report for report in reports if report.kind != "progress"]

    def _ended(self, running: _Running, task: "asyncio.Task[Report]") -> None:
        claim = running.claim
        del self._running[claim.token]
        report = self._outcome(running, task)
        if report is not None:
            self._reports.append(report)
        label = self._executor.label(claim.name)
        self._telemetry.count("task_ends", task=label, outcome="lost" if report is None else report.kind)
        self._telemetry.observe("task_seconds", time.monotonic() - running.began, task=label)
        self._changed()

    def _outcome(self, running: _Running, task: "asyncio.Task[Report]") -> Report | None:
        claim = running.claim
        if running.reason == "lost":
            return None
        if not task.cancelled():
            error = task.exception()
            return task.result() if error is None else self._executor.spent(claim, repr(error))
        if running.reason is None:
            return self._executor.spent(claim, "cancelled itself")
        return Report(claim.id, claim.token, running.reason)

    def _set_progress(self, claim: Claim, percent: int) -> None:
        if claim.token in self._running:
            if not self._progress:
                asyncio.get_running_loop().call_later(PROGRESS_SECONDS, self._changed)
            self._progress[claim.token] = Report(claim.id, claim.token, "progress", text=percent)
