"""TaskEventPublisher: publishes the progress and the end of tasks as events, in order, without delaying the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.kit.tasks.model import Report
from app.kit.telemetry import Telemetry

# (task id, type, data): progress {"progress": 0..100}, done {}, failed {"error": text}, aborted {}
PublishTaskEvent = Callable[[str, str, dict[str, Any]], Awaitable[object]]

MAX_WAITING_EVENTS = 10_000


class TaskEventPublisher:
    """An event is published after its report has been applied: at `done` the result is readable."""

    def __init__(self, publish: PublishTaskEvent | None, *, telemetry: Telemetry) -> None:
        self._publish = publish
        self._telemetry = telemetry
        self._followed: set[int] = set()
        self._waiting: asyncio.Queue[tuple[str, str, dict[str, Any]]] = asyncio.Queue(MAX_WAITING_EVENTS)

    def follow(self, token: int) -> None:
        """Publish the reports on this claim."""
        if self._publish is not None:
            self._followed.add(token)

    def add(self, report: Report, *, refused: bool) -> None:
        """Publish the report's event in the background, where its claim is followed and the queue did not refuse it."""
        if report.token not in self._followed:
            return
        if report.kind != "progress":
            self._followed.discard(report.token)
        event = _event(report)
        if event is None or refused:
            return
        try:
            self._waiting.put_nowait(event)
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
            finally:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Return when all events have been published."""
        await self._waiting.join()


def _event(report: Report) -> tuple[str, str, dict[str, Any]] | None:
    """None: the task will run again, which is no event."""
    if report.kind == "progress":
        return report.id, "progress", {"progress": report.text}
    if report.kind == "dead":
        return report.id, "failed", {"error": report.text}
    ends = {"done": "done", "abort": "aborted"}
    return (report.id, ends[report.kind], {}) if report.kind in ends else None
