"""TaskContext: what a running task is given beside its payload."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# The id of the task in whose code this is: for log lines, and for what a task enqueues.
_current: ContextVar["TaskContext | None"] = ContextVar("running_task", default=None)


def running_task() -> "TaskContext | None":
    """The task in whose code this is called; None outside of any."""
    return _current.get()


async def _no_children(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


def _no_report(percent: int | None) -> None:
    return None


class TaskContext:
    """The first argument of every task that runs in the worker's own process.

    `attempt` counts from 1. `resources` are the worker's; a task in a thread must not use those that belong to the
    loop. `owner` is the id of the user for whom the task runs, `metadata` what its call carries, `correlation_id` the
    id of the request, or of whatever else, that caused it, and `traceparent` its trace (W3C Trace Context).
    """

    __slots__ = (
        "_cancelled",
        "_logger",
        "_report",
        "_run_in_process",
        "attempt",
        "correlation_id",
        "id",
        "metadata",
        "name",
        "owner",
        "resources",
        "traceparent",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        attempt: int,
        owner: int | None,
        resources: Any,
        metadata: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        report: Callable[[int | None], None] = _no_report,
        run_in_process: Callable[..., Awaitable[Any]] = _no_children,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.owner = owner
        self.resources = resources
        self.metadata = metadata or {}
        self.correlation_id = correlation_id
        self.traceparent = traceparent
        self._report = report
        self._run_in_process = run_in_process
        self._cancelled = False
        self._logger: TaskLogger | None = None

    @property
    def logger(self) -> "TaskLogger":
        """Its records have `task_id` and `attempt`."""
        if self._logger is None:
            extra = {"task_id": self.id, "attempt": self.attempt}
            self._logger = TaskLogger(logging.getLogger(f"tasks.{self.name}"), extra)
        return self._logger

    def report_progress(self, percent: int) -> None:
        """Set the task's progress, 0 to 100; it is readable within a fraction of a second. Thread-safe.

        Of the calls in a tenth of a second the last one counts.
        """
        if not self._cancelled:
            self._report(min(100, max(0, int(percent))))

    def heartbeat(self) -> None:
        """Say that the attempt is alive (see Policy.heartbeat_seconds). Thread-safe."""
        if not self._cancelled:
            self._report(None)

    async def run_in_process(self, function: Callable[..., T], *args: Any) -> T:
        """Run CPU-bound work in one of the worker's child processes; the wait for one is not the attempt's time.

        The function stands at the top of a module; it, its arguments and its result are pickled. What it raises is
        raised here, or as ChildFailed where it cannot be pickled. An abort or a timeout kills the child.
        """
        result: T = await self._run_in_process(function, *args)
        return result

    def enter(self) -> None:
        """Make this the running task of the current context."""
        _current.set(self)

    @property
    def cancelled(self) -> bool:
        """True once the result is no longer taken: aborted, timed out, lease lost, or the worker stops.

        A coroutine is cancelled then. A thread cannot be: a long `def` task reads this between its steps, and returns.
        """
        return self._cancelled

    def cancel(self) -> None:
        """Make `cancelled` true."""
        self._cancelled = True


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's id and attempt to every record, beside the `extra` of the call."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
