"""Announcer: tells the outside of a task's progress and end, in order, without holding up the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from app.kit.tasks.model import Report
from app.kit.telemetry import Telemetry

# (task id, type, data): progress {"progress": 0..100}, done {}, failed {"error": text}, aborted {}
Announce = Callable[[str, str, dict[str, Any]], Awaitable[object]]

WAITING = 10_000


class Announcer:
    """What is announced has been applied: whoever hears `done` can read the result."""

    def __init__(self, announce: Announce | None, *, telemetry: Telemetry) -> None:
        self._announce = announce
        self._telemetry = telemetry
        self._followed: set[int] = set()
        self._waiting: asyncio.Queue[tuple[str, str, dict[str, Any]]] = asyncio.Queue(WAITING)

    def follow(self, token: int) -> None:
        """Announce what is told of this claim."""
        if self._announce is not None:
            self._followed.add(token)

    def tell(self, report: Report, *, refused: bool) -> None:
        if report.token not in self._followed:
            return
        if report.kind != "progress":
            self._followed.discard(report.token)
        message = _message(report)
        if message is None or refused:
            return
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            # Fails open: who listens misses it, who asks the queue does not.
            self._telemetry.count("task_announcements_dropped")

    async def run(self) -> None:
        """Until cancelled."""
        while self._announce is not None:
            message = await self._waiting.get()
            try:
                await self._announce(*message)
            except RedisError:
                # Fails open, as above.
                self._telemetry.count("task_announcements_dropped")
            finally:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Until all has been announced."""
        await self._waiting.join()


def _message(report: Report) -> tuple[str, str, dict[str, Any]] | None:
    """None: the task will run again, which nobody needs to hear."""
    if report.kind == "progress":
        return report.id, "progress", {"progress": report.text}
    if report.kind == "dead":
        return report.id, "failed", {"error": report.text}
    ends = {"done": "done", "abort": "aborted"}
    return (report.id, ends[report.kind], {}) if report.kind in ends else None
