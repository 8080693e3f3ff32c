"""TaskEventPublisher: publishes what happens to tasks as events, in order, without delaying the worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.tasks.model import Claim, Report
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# (task id, type, data): queued {}, started {"attempt"}, progress {"progress": 0..100}, retry {"error", "attempt",
# "delay_seconds"}, done {}, failed {"error"}, aborted {}
PublishTaskEvent = Callable[[str, str, dict[str, Any]], Awaitable[object]]

MAX_WAITING_EVENTS = 10_000


class TaskEventPublisher:
    """An event is published after its report has been applied: at `done` the result is readable.

    The worker that starts the first attempt publishes `queued` and then `started`, so that they are in order.
    """

    def __init__(self, publish: PublishTaskEvent | None, *, telemetry: Telemetry) -> None:
        self._publish = publish
        self._telemetry = telemetry
        self._followed: dict[int, Claim] = {}
        self._waiting: asyncio.Queue[tuple[str, str, dict[str, Any]]] = asyncio.Queue(MAX_WAITING_EVENTS)

    def follow(self, claim: Claim) -> None:
        """Publish that the claim has started, and the reports on it."""
        if self._publish is None:
            return
        self._followed[claim.token] = claim
        if claim.attempt == 1:
            self.add(claim.id, "queued", {})
        self.add(claim.id, "started", {"attempt": claim.attempt})

    def add_report(self, report: Report, *, refused: bool) -> None:
        """Publish the report's event in the background, where its claim is followed and the queue did not refuse it."""
        claim = self._followed.get(report.token)
        if claim is None:
            return
        if report.kind != "progress":
            del self._followed[report.token]
        event = _event(report, claim)
        if event is not None and not refused:
            self.add(report.id, *event)

    def add(self, task_id: str, type: str, data: dict[str, Any]) -> None:
        """Publish an event in the background."""
        if self._publish is None:
            return
        try:
            self._waiting.put_nowait((task_id, type, data))
        except asyncio.QueueFull:
            # Fails open: subscribers miss the event; the task's state is right.
            self._telemetry.count("task_events_dropped")

    async def run(self) -> None:
        """Publish until cancelled."""
        while self._publish is not None:
            event = await self._waiting.get()
            try:
                await self._publish(*event)
            except RedisError as error:
                # Fails open, as above.
                record_failure(error, block="tasks", telemetry=self._telemetry)
                self._telemetry.count("task_events_dropped")
            except ValueError:
                # What the publisher refuses, such as an id that is no channel: the task itself goes on.
                logger.exception("an event of a task cannot be published", extra={"task_id": event[0]})
                self._telemetry.count("task_events_dropped")
            finally:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Return when all events have been published."""
        await self._waiting.join()


def _event(report: Report, claim: Claim) -> tuple[str, dict[str, Any]] | None:
    """None: the task is given back, which is no event."""
    if report.kind == "progress":
        return "progress", {"progress": report.text}
    if report.kind == "dead":
        return "failed", {"error": report.text}
    if report.kind == "retry":
        return "retry", {"error": report.text, "attempt": claim.attempt, "delay_seconds": report.ms / 1000}
    ends = {"done": "done", "abort": "aborted"}
    return (ends[report.kind], {}) if report.kind in ends else None
