"""TaskContext: what a running task is given beside its payload."""

import logging
import threading
from collections.abc import Callable, MutableMapping
from typing import Any


class TaskContext:
    """The first argument of every task that runs in the worker's own process.

    `attempt` counts from 1. `resources` are the worker's; a task in a thread must not use those that belong to the
    loop. `owner` is the id of the user for whom the task runs.
    """

    __slots__ = ("_cancelled", "_report", "attempt", "id", "logger", "name", "owner", "resources")

    def __init__(
        self,
        *,
        id: str,
        name: str,
        attempt: int,
        owner: int | None,
        resources: Any,
        report: Callable[[int], None],
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.owner = owner
        self.resources = resources
        self.logger = TaskLogger(logging.getLogger(f"tasks.{name}"), {"task_id": id, "attempt": attempt})
        self._report = report
        self._cancelled = threading.Event()

    def report_progress(self, percent: int) -> None:
        """Set the task's progress, 0 to 100; it is readable within a fraction of a second. Thread-safe."""
        self._report(min(100, max(0, int(percent))))

    @property
    def cancelled(self) -> bool:
        """True once the result is no longer taken: aborted, timed out, lease lost, or the worker stops.

        A coroutine is cancelled then. A thread cannot be: a long `def` task reads this between its steps, and returns.
        """
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Make `cancelled` true."""
        self._cancelled.set()


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's id and attempt to every record, beside the `extra` of the call."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
