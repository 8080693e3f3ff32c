"""Executor: runs one claimed task in the loop, a thread or a child process, and reports its outcome."""

import asyncio
import importlib
import logging
import os
from collections.abc import Iterable
from functools import reduce
from typing import Any

from anyio import CapacityLimiter, to_process, to_thread

from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import Claim, Report
from app.kit.tasks.task import Task, Undecodable

logger = logging.getLogger(__name__)

ERROR_CHARACTERS = 2000


class ChildFailed(Exception):
    """The error of a task in a child process, as text: not every exception can be pickled."""


class Executor:
    """`threads` and `processes` bound how many tasks of those modes run at once; the others wait and keep their lease.

    A task that fails by one of `outages` is logged without a traceback.
    """

    def __init__(
        self,
        tasks: Iterable[Task[Any]],
        *,
        threads: int,
        processes: int | None,
        outages: tuple[type[Exception], ...] = (),
    ) -> None:
        self._outages = outages
        self._tasks: dict[str, Task[Any]] = {}
        for task in tasks:
            if self._tasks.setdefault(task.name, task) is not task:
                raise ValueError(f"two tasks are called {task.name}")
            task.decoder  # noqa: B018  an annotation that cannot be decoded stops the start, not the first task
        processes = processes or os.cpu_count() or 1
        # The wait for a slot must not count towards the task's timeout, so anyio's own limiters cannot do it.
        self._threads, self._processes = asyncio.Semaphore(threads), asyncio.Semaphore(processes)
        self._thread_limiter, self._process_limiter = CapacityLimiter(threads), CapacityLimiter(processes)

    def label(self, name: str) -> str:
        """The task's name as a metric label. Unknown names share one: junk in the queue makes no new series."""
        return name if name in self._tasks else "unknown"

    def has_events(self, name: str) -> bool:
        return name in self._tasks and self._tasks[name].events

    async def run(self, claim: Claim, context: TaskContext) -> Report:
        """Run the task. The caller reports a cancellation, of which it knows the reason."""
        task = self._tasks.get(claim.name)
        if task is None:
            return _dead(claim, f"unknown task: {claim.name}")
        try:
            payload = task.decode(claim.payload)
        except Undecodable as error:
            return _dead(claim, str(error))
        try:
            value = await self._call(task, context, payload, claim.payload)
        except (Exception, SystemExit) as error:
            if isinstance(error, self._outages):
                context.logger.warning("task %s failed: %s: %s", claim.name, type(error).__name__, error)
            else:
                context.logger.warning("task %s failed", claim.name, exc_info=error)
            return self.spent(claim, str(error) if isinstance(error, ChildFailed) else _describe(error))
        finally:
            context.cancel()
        try:
            result = value if task.mode == "process" else task.encode(value)
        except Undecodable as error:
            # Not repeated: the task has done its work.
            return _dead(claim, f"result: {error}")
        return Report(claim.id, claim.token, "done", round(task.keep_seconds * 1000), result)

    def spent(self, claim: Claim, error: str) -> Report:
        """The report on a failed attempt: retry, or dead if no attempt is left."""
        task = self._tasks.get(claim.name)
        if task is None or claim.attempt >= task.max_attempts:
            return _dead(claim, error)
        delay_ms = round(task.retry_delay_seconds(claim.attempt) * 1000)
        return Report(claim.id, claim.token, "retry", delay_ms, error[:ERROR_CHARACTERS])

    async def _call(self, task: Task[Any], context: TaskContext, payload: Any, raw: bytes) -> Any:
        arguments = (context,) if task.payload_parameter is None else (context, payload)
        if task.mode == "loop":
            async with _AttemptTimeout(task.timeout_seconds):
                return await task.function(*arguments)
        if task.mode == "thread":
            async with self._threads, _AttemptTimeout(task.timeout_seconds):
                return await to_thread.run_sync(
                    task.function, *arguments, abandon_on_cancel=True, limiter=self._thread_limiter
                )
        where = (task.function.__module__, task.function.__qualname__)
        async with self._processes, _AttemptTimeout(task.timeout_seconds):
            result, error = await to_process.run_sync(
                _in_child, *where, raw, cancellable=True, limiter=self._process_limiter
            )
        if error is not None:
            raise ChildFailed(error)
        return result


def _in_child(module: str, qualname: str, raw: bytes) -> tuple[bytes | None, str | None]:
    """Runs in the child. The result is encoded here, at no cost to the loop."""
    task: Task[Any] = reduce(getattr, qualname.split("."), importlib.import_module(module))  # type: ignore[arg-type]
    try:
        payload = task.decode(raw)
        value = task.function() if task.payload_parameter is None else task.function(payload)
        return task.encode(value), None
    except (Exception, SystemExit) as error:
        return None, _describe(error)


class TimedOut(Exception):
    """The attempt took longer than its task allows."""


class _AttemptTimeout:
    """asyncio.timeout() whose own expiry differs from a TimeoutError that the task raises."""

    __slots__ = ("_seconds", "_timeout")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(self._seconds)
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError as late:
            raise TimedOut(f"after {self._seconds} s") from late


def _dead(claim: Claim, reason: str) -> Report:
    return Report(claim.id, claim.token, "dead", 0, reason[:ERROR_CHARACTERS])


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
