"""RunningTasks: the claims that run in this process, and the reports on them that are not in the queue yet."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from app.kit.tasks.attempt import Attempt
from app.kit.tasks.child import describe
from app.kit.tasks.context import TaskContext
from app.kit.tasks.executor import Executor
from app.kit.tasks.model import Claim, Report
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# A task's progress is reported so often at most.
PROGRESS_SECONDS = 0.1

Reason = Literal["abort", "release", "lost"]


@dataclass(slots=True, eq=False)
class _Running:
    """A claim that runs. `reason`: why this worker has cancelled it."""

    claim: Claim
    attempt: Attempt
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
        # What tasks have said, by token, since the loop last looked: a beat, or the latest progress.
        self._signs: dict[int, int | None] = {}
        self._lock = threading.Lock()
        self._ends: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def start(self, claims: Iterable[Claim]) -> None:
        starts: Counter[str] = Counter()
        for claim in claims:
            self._start(claim)
            label = self._executor.label(claim.name)
            starts[label] += 1
            self._telemetry.observe("task_wait_seconds", claim.waited_seconds, task=label)
        for label, amount in starts.items():
            self._telemetry.count("task_starts", amount, task=label)

    def _start(self, claim: Claim) -> None:
        loop = asyncio.get_running_loop()
        attempt = self._executor.make_attempt(claim)
        run = self._executor.run(claim, attempt, self._make_context(claim, attempt, loop))
        running = _Running(claim, attempt, time.monotonic(), loop.create_task(run))
        self._running[claim.token] = running
        # Not inside the coroutine: one that is cancelled before its first step never runs.
        running.task.add_done_callback(partial(self._ended, running))

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
        """Cancel all, and wait `seconds` for their cleanup. One that does not end is abandoned, and not reported."""
        for running in self._running.values():
            running.end("release")
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()], timeout=seconds)
        for running in self._running.values():
            claim = running.claim
            fields = {"task_id": claim.id, "request_id": claim.options.correlation_id}
            logger.error("task %s does not end when cancelled: abandoned with its lease", claim.name, extra=fields)
            # The loop's runner waits for every task that asyncio knows, and so for this one for ever ("Extending
            # asyncio" in Python's documentation names this function for tasks that are done with).
            asyncio._unregister_task(running.task)

    def take_reports(self) -> list[Report]:
        reports, self._reports = self._reports, []
        for (label, outcome), amount in self._ends.items():
            self._telemetry.count("task_ends", amount, task=label, outcome=outcome)
        self._ends.clear()
        return reports

    def keep_reports(self, reports: Iterable[Report]) -> None:
        """Keep reports that did not reach the queue for the next step, without progress: newer will follow."""
        self._reports[:0] = [report for report in reports if report.kind != "progress"]

    def _make_context(self, claim: Claim, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> TaskContext:
        options = claim.options
        return TaskContext(
            id=claim.id,
            name=claim.name,
            attempt=claim.attempt,
            owner=options.owner,
            metadata=options.metadata,
            correlation_id=options.correlation_id,
            traceparent=options.traceparent,
            resources=self._resources,
            report=partial(self._report, loop, claim.token),
            run_in_process=partial(self._executor.run_in_process, claim, attempt),
        )

    def _ended(self, running: _Running, task: "asyncio.Task[Report]") -> None:
        claim = running.claim
        del self._running[claim.token]
        progress, report = self._progress.pop(claim.token, None), self._outcome(running, task)
        if report is not None:
            self._reports += [report] if progress is None else [progress, report]
        label, seconds = self._executor.label(claim.name), time.monotonic() - running.began
        outcome = "lost" if report is None else report.kind
        self._ends[label, outcome] += 1
        self._telemetry.observe("task_seconds", seconds, task=label)
        fields = {"task_id": claim.id, "attempt": claim.attempt, "request_id": claim.options.correlation_id}
        if report is not None and report.kind == "dead":
            logger.error("task %s is dead: %s", claim.name, report.text, extra=fields)
        else:
            logger.info("task %s %s, %.3f s", claim.name, outcome, seconds, extra=fields)
        self._changed()

    def _outcome(self, running: _Running, task: "asyncio.Task[Report]") -> Report | None:
        claim = running.claim
        if running.reason == "lost":
            return None
        if not task.cancelled():
            error = task.exception()
            return task.result() if error is None else self._executor.spent(claim, describe(error))
        if running.reason is None:
            return self._executor.spent(claim, "cancelled itself")
        return Report(claim.id, claim.token, running.reason)

    def _report(self, loop: asyncio.AbstractEventLoop, token: int, percent: int | None) -> None:
        """From any thread, as often as it likes: one callback waits in the loop, with the latest of each task."""
        with self._lock:
            is_first = not self._signs
            self._signs[token] = self._signs.get(token) if percent is None else percent
        if is_first:
            loop.call_soon_threadsafe(self._take_signs)

    def _take_signs(self) -> None:
        with self._lock:
            signs, self._signs = self._signs, {}
        for token, percent in signs.items():
            running = self._running.get(token)
            if running is None:
                continue
            running.attempt.beat()
            if percent is not None:
                if not self._progress:
                    asyncio.get_running_loop().call_later(PROGRESS_SECONDS, self._report_progress)
                self._progress[token] = Report(running.claim.id, token, "progress", text=percent)

    def _report_progress(self) -> None:
        if self._progress:
            self._reports += self._progress.values()
            self._progress.clear()
            self._changed()
