"""What a worker reports: its health, and the settlement of the reports on its tasks."""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

import msgspec
from redis.exceptions import RedisError

from app.kit.client.errors import UNAVAILABLE
from app.kit.tasks.executor import Executor
from app.kit.tasks.info import WorkerHealth
from app.kit.tasks.leases import Leases
from app.kit.tasks.model import Report
from app.kit.tasks.progress import TaskEventPublisher
from app.kit.tasks.step import Stepper, StepReply
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

HEALTH_SECONDS = 5.0
NOT_STORED = "the queue cannot store its report"
PLACES = ("high", "normal", "low", "scheduled", "running", "dead")


class HealthReport:
    """The worker's health as JSON, every 5 s: it travels with a step, and costs no round trip of its own."""

    def __init__(self, concurrency: int, *, take_lag: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._take_lag = take_lag
        self._started_at = time.time()
        self._due = 0.0

    def take(self, running: int, *, stopping: bool, last: bool) -> bytes | str:
        """Empty while none is due; `last`: the worker has gone."""
        if last:
            return "gone"
        now = time.monotonic()
        if now < self._due:
            return ""
        self._due = now + HEALTH_SECONDS
        health = WorkerHealth(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            concurrency=self._concurrency,
            running=running,
            stopping=stopping,
            loop_lag_seconds=round(self._take_lag(), 3),
        )
        return msgspec.json.encode(health)


class Settlement:
    """What follows from a step: reports are settled, deaths are logged, events and metrics go out."""

    def __init__(
        self,
        stepper: Stepper,
        executor: Executor,
        events: TaskEventPublisher,
        leases: Leases,
        *,
        telemetry: Telemetry,
    ) -> None:
        self._stepper = stepper
        self._executor = executor
        self._events = events
        self._leases = leases
        self._telemetry = telemetry

    def settle(self, reports: Sequence[Report], reply: StepReply) -> None:
        self._settle_reports(reports, reply)
        for task_id, name in reply.poisoned:
            reason = f"its worker died {self._stepper.max_deaths} times"
            logger.error("task %s is dead: %s", name, reason, extra={"task_id": task_id})
            if self._executor.has_events(name):
                self._events.add(task_id, "failed", {"error": reason})
        for task_id, name in reply.overdue:
            logger.warning("task %s expired before it could start", name, extra={"task_id": task_id})
            if self._executor.has_events(name):
                self._events.add(task_id, "aborted", {})
        for key in reply.moved:
            logger.error("the key %s of queue %s was of a wrong type: now wrong:%s", key, self._stepper.queue.name, key)
        for place, size in zip(PLACES, reply.depth, strict=True):
            self._telemetry.gauge("task_queue_depth", size, queue=self._stepper.queue.name, place=place)
        for counter, amount in (
            ("task_reports_refused", len(reply.refused)),
            ("task_worker_deaths", reply.expired),
            ("task_poisoned", len(reply.poisoned)),
            ("task_expired", len(reply.overdue)),
        ):
            if amount:
                self._telemetry.count(counter, amount)

    async def one_by_one(self, reports: Sequence[Report]) -> list[Report]:
        """Report each alone, after a step that the server refused as a defect; returns those to be sent again.

        What it refuses of one task is that task's failure. The caller records the error of the step.
        """
        try:
            self.settle([], await self._stepper.step([], limit=0))
        except RedisError:
            # The reports are not the reason.
            return list(reports)
        kept: list[Report] = []
        for number, report in enumerate(reports):
            fields = {"task_id": report.id}
            try:
                self.settle([report], await self._stepper.step([report], limit=0))
            except UNAVAILABLE:
                return [*kept, *reports[number:]]
            except RedisError as error:
                if str(report.text).startswith(NOT_STORED):
                    logger.error("a task keeps its lease until that ends: %s", report.text, extra=fields)
                    self._leases.remove([report.token])
                    continue
                reason = f"{NOT_STORED}: {type(error).__name__}"
                logger.error("a task is dead: %s", reason, extra=fields)
                kept.append(Report(report.id, report.token, "dead", 0, reason))
        return kept

    def _settle_reports(self, reports: Sequence[Report], reply: StepReply) -> None:
        refused = set(reply.refused)
        self._leases.remove(report.token for report in reports if report.kind != "progress")
        for report in reports:
            self._events.add_report(report, refused=report.id in refused)
