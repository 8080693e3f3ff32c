"""What a running task is given besides its payload."""

import logging
import threading
from collections.abc import Callable, MutableMapping
from typing import Any


class TaskContext:
    """The first argument of every task that runs in the worker's own process.

    `attempt` counts from 1. `resources` is what the worker was given; a task in a thread must not use what belongs
    to the loop. `owner` is the user for whom the task runs.
    """

    __slots__ = ("_report", "_unwanted", "attempt", "id", "logger", "name", "owner", "resources")

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
        self._unwanted = threading.Event()

    def report_progress(self, percent: int) -> None:
        """Make 0 to 100 readable to whoever asks for the task, within a fraction of a second. Any thread may call."""
        self._report(min(100, max(0, int(percent))))

    @property
    def unwanted(self) -> bool:
        """True once nobody takes the result: aborted, timed out, lost to another worker, or the worker stops.

        A coroutine is cancelled then. A thread cannot be: a long `def` task asks this between its steps, and returns.
        """
        return self._unwanted.is_set()

    def let_go(self) -> None:
        """Make `unwanted` true."""
        self._unwanted.set()


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's id and attempt to every record, beside what the call itself adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
