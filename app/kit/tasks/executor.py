"""Executor: runs one claimed task in the loop, a thread or a child process, and reports its outcome."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from app.kit.tasks.attempt import Attempt, Deadlines
from app.kit.tasks.child import describe, trace_of
from app.kit.tasks.children import ChildFailed, ChildPool
from app.kit.tasks.context import TaskContext
from app.kit.tasks.model import MAX_TASK_BYTES, Claim, Report, milliseconds
from app.kit.tasks.outcome import Fail, Retry, Undecodable
from app.kit.tasks.task import Task
from app.kit.tasks.threads import ThreadSlots

# Called around each attempt with its context; call_next() runs the rest and gives the result, or raises.
Middleware = Callable[[TaskContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]


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
        middleware: Sequence[Middleware] = (),
        outages: tuple[type[Exception], ...] = (),
        child_formatter: logging.Formatter | None = None,
    ) -> None:
        self._outages = outages
        self._middleware = middleware
        self._tasks: dict[str, Task[Any]] = {}
        for task in tasks:
            if self._tasks.setdefault(task.name, task) is not task:
                raise ValueError(f"two tasks are called {task.name}")
            task.decoder  # noqa: B018  an annotation that cannot be decoded stops the start, not the first task
        self._deadlines = Deadlines()
        self._threads = ThreadSlots(threads)
        self._children = ChildPool(processes or os.cpu_count() or 1, child_formatter)

    def label(self, name: str) -> str:
        """The task's name as a metric label. Unknown names share one: junk in the queue makes no new series."""
        return name if name in self._tasks else "unknown"

    def has_events(self, name: str) -> bool:
        return name in self._tasks and self._tasks[name].events

    def limits(self) -> list[str | int]:
        """Name, most that run, most that start, window in ms of each task that has a limit, one after the other."""
        return [part for task in self._tasks.values() if task.limits for part in (task.name, *task.limits)]

    async def close(self) -> None:
        """End the child processes."""
        self._deadlines.close()
        await self._children.close()

    def make_attempt(self, claim: Claim) -> Attempt:
        """With the times that the call, or else its task, allows."""
        task = self._tasks.get(claim.name)
        if task is None:
            return Attempt(self._deadlines, None)
        seconds = claim.options.timeout_seconds or task.timeout_seconds
        return Attempt(self._deadlines, seconds, heartbeat_seconds=task.heartbeat_seconds)

    def run_in_process(
        self, claim: Claim, attempt: Attempt, function: Callable[..., Any], *args: Any
    ) -> Awaitable[Any]:
        """TaskContext.run_in_process() of this attempt."""
        return self._children.call(attempt, claim, function, *args)

    async def run(self, claim: Claim, attempt: Attempt, context: TaskContext) -> Report:
        """Run the task. The caller reports a cancellation, of which it knows the reason."""
        task = self._tasks.get(claim.name)
        if task is None:
            return Report.dead(claim, f"unknown task: {claim.name}")
        try:
            payload = task.decode(claim.payload)
        except Undecodable as error:
            return Report.dead(claim, str(error))
        context.enter()
        try:
            with attempt:
                if self._middleware:
                    value = await self._through(0, task, attempt, context, payload, claim)
                else:
                    value = await self._call(task, attempt, context, payload, claim)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Whatever a handler raises is its own failure, and never the worker's end.
            return self._failed(task, claim, context, error)
        finally:
            context.cancel()
        return _done(task, claim, value)

    def spent(self, claim: Claim, reason: str, trace: str = "", *, after_seconds: float | None = None) -> Report:
        """The report on a failed attempt: retry, or dead if no attempt is left."""
        task = self._tasks.get(claim.name)
        if task is None or claim.attempt >= (claim.options.max_attempts or task.max_attempts):
            return Report.dead(claim, reason, trace)
        try:
            delay_seconds = task.retry_delay_seconds(claim.attempt) if after_seconds is None else after_seconds
        except Exception as error:
            return Report.dead(claim, f"{reason}; its retry_delay failed: {describe(error)}", trace)
        return Report.retry(claim, reason, trace, delay_seconds=delay_seconds)

    def _failed(self, task: Task[Any], claim: Claim, context: TaskContext, error: BaseException) -> Report:
        reason = str(error) if isinstance(error, ChildFailed) else describe(error)
        trace = trace_of(error)
        if isinstance(error, Fail):
            return Report.dead(claim, reason, trace)
        if isinstance(error, Retry):
            return self.spent(claim, reason, trace, after_seconds=error.after_seconds)
        if isinstance(error, self._outages):
            context.logger.warning("task %s failed: %s", claim.name, reason)
        else:
            context.logger.warning("task %s failed", claim.name, exc_info=error)
        return self.spent(claim, reason, trace)

    async def _through(
        self, layer: int, task: Task[Any], attempt: Attempt, context: TaskContext, payload: Any, claim: Claim
    ) -> Any:
        """The rest of the middleware from `layer` on, and the task."""
        if layer == len(self._middleware):
            return await self._call(task, attempt, context, payload, claim)
        rest = partial(self._through, layer + 1, task, attempt, context, payload, claim)
        return await self._middleware[layer](context, rest)

    def _call(
        self, task: Task[Any], attempt: Attempt, context: TaskContext, payload: Any, claim: Claim
    ) -> Awaitable[Any]:
        if task.mode == "process":
            return self._call_child(task, attempt, claim)
        arguments = (context,) if task.payload_parameter is None else (context, payload)
        if task.mode == "loop":
            # The handler's own coroutine: one more around it would cost each task.
            coroutine: Awaitable[Any] = task.function(*arguments)
            return coroutine
        return self._threads.run(attempt, task.function, *arguments)

    async def _call_child(self, task: Task[Any], attempt: Attempt, claim: Claim) -> Any:
        where = (task.function.__module__, task.function.__qualname__)
        return msgspec.Raw(await self._children.call_task(attempt, claim, *where))


def _done(task: Task[Any], claim: Claim, value: Any) -> Report:
    try:
        result = task.encode(value)
    except Undecodable as error:
        # Not repeated: the task has done its work.
        return Report.dead(claim, f"result: {error}")
    if len(result) > MAX_TASK_BYTES:
        return Report.dead(claim, f"result: {len(result)} bytes; {MAX_TASK_BYTES} are allowed")
    return Report(claim.id, claim.token, "done", milliseconds(task.keep_seconds), result)
