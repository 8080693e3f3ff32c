"""Worker: claims tasks and runs them in this process's own loop until it is stopped."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import Backoff, end_tasks
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.tasks.executor import Executor, Middleware
from app.kit.tasks.leases import Leases
from app.kit.tasks.progress import PublishTaskEvent, TaskEventPublisher
from app.kit.tasks.queue import Queue
from app.kit.tasks.reporting import HealthReport, Settlement
from app.kit.tasks.running import RunningTasks
from app.kit.tasks.schedule import Entry
from app.kit.tasks.scheduler import Scheduler
from app.kit.tasks.step import Stepper, StepReply
from app.kit.tasks.task import Task
from app.kit.tasks.wakeup import Wakeup
from app.kit.telemetry import NoTelemetry, Telemetry

# How long cancelled tasks may clean up, and how long sending the last reports and events may take.
CLEANUP_SECONDS = 1.0
LAST_SECONDS = 2.0
# The end of the BLPOP is the reason for an idle worker's next step: the clock, which would cause another, comes later.
SPARE_SECONDS = 0.5
STEP_RETRY_FIRST_SECONDS, STEP_RETRY_LONGEST_SECONDS = 0.1, 1.0


@dataclass(eq=False)
class Worker:
    """Runs up to `concurrency` of `tasks` at once, and enqueues the tasks of the `schedule`.

    `resources` goes to every task. `blocking` is the client of the BLPOP; its socket timeout must exceed
    `idle_seconds`; by default it is the queue's own client, which gives a blocking command a dedicated connection.
    `connect_leases` makes the client of the thread that renews leases (see Leases). A task whose worker died
    `max_deaths` times is dead. `fair_every`: every n-th claim takes the lowest priority first; 0: strict.
    `middleware` runs around each attempt, the first one outermost. `publish_event` is given what happens to tasks with
    `events=True`. `burst`: run() returns as soon as nothing is ready or runs. `outages`: the errors that say that a
    backend is down; a task that fails by one is logged in a line, by any other with its traceback. `child_formatter`:
    of the lines that child processes log; it can be pickled.
    """

    queue: Queue
    tasks: Iterable[Task[Any]]
    _: KW_ONLY
    resources: Any = None
    schedule: Iterable[Entry] = ()
    concurrency: int = 16
    threads: int = 8
    processes: int | None = None
    lease_seconds: float = 30
    grace_seconds: float = 10
    stall_seconds: float = 60
    idle_seconds: float = 2
    max_deaths: int = 3
    fair_every: int = 0
    burst: bool = False
    middleware: Sequence[Middleware] = ()
    blocking: Redis | None = None
    connect_leases: Callable[[], Redis] | None = None
    publish_event: PublishTaskEvent | None = None
    outages: tuple[type[Exception], ...] = UNAVAILABLE
    child_formatter: logging.Formatter | None = None
    telemetry: Telemetry = field(default_factory=NoTelemetry)

    def __post_init__(self) -> None:
        queue, telemetry, worker_id = self.queue, self.telemetry, uuid.uuid4().hex
        self.tasks = tuple(self.tasks)
        self._executor = Executor(
            self.tasks,
            threads=self.threads,
            processes=self.processes,
            middleware=self.middleware,
            outages=self.outages,
            child_formatter=self.child_formatter,
        )
        by_name = {task.name: task for task in self.tasks}
        self._scheduler = Scheduler(queue, self.schedule, tasks=by_name, telemetry=telemetry)
        self._events = TaskEventPublisher(self.publish_event, telemetry=telemetry)
        blocking = self.blocking or queue.redis
        self._wakeup = Wakeup(blocking, queue, worker_id, seconds=self.idle_seconds, telemetry=telemetry)
        self._running = RunningTasks(
            self._executor, resources=self.resources, changed=self._wakeup.wake, telemetry=telemetry
        )
        self._leases = Leases(
            queue,
            lease_seconds=self.lease_seconds,
            stall_seconds=self.stall_seconds,
            connect=self.connect_leases,
            on_lost=self._running.lose,
            telemetry=telemetry,
        )
        self._stepper = Stepper(
            queue,
            worker_id,
            lease_seconds=self.lease_seconds,
            max_deaths=self.max_deaths,
            fair_every=self.fair_every,
            idle_seconds=self.idle_seconds,
            limits=self._executor.limits(),
        )
        self._settlement = Settlement(self._stepper, self._executor, self._events, self._leases, telemetry=telemetry)
        self._health = HealthReport(self.concurrency, take_lag=self._leases.take_lag)
        self._backoff = Backoff(first_seconds=STEP_RETRY_FIRST_SECONDS, longest_seconds=STEP_RETRY_LONGEST_SECONDS)
        self._stopping = False

    def stop(self) -> None:
        """Stop claiming; run() returns within the grace and a few seconds. Call it from the loop's thread."""
        self._stopping = True
        self._wakeup.wake()

    async def run(self) -> None:
        """Serve until stop(). Unfinished tasks are then released without spending an attempt, as on cancellation.

        A coroutine that does not end when cancelled, and a thread, are abandoned: neither keeps the process alive.
        """
        async with asyncio.TaskGroup() as group:
            companions = (self._leases.beat(), self._leases.renew(), self._scheduler.run(), self._events.run())
            tasks = [group.create_task(companion) for companion in companions]
            try:
                while not self._stopping:
                    seconds = self.idle_seconds + SPARE_SECONDS
                    await self._turn(limit=self.concurrency - len(self._running), seconds=seconds)
                await self._drain()
            finally:
                await self._close()
                await end_tasks(tasks)

    async def _turn(self, *, limit: int, seconds: float) -> None:
        """Step, start what was claimed, and wait for the next reason to step, `seconds` at most."""
        self._wakeup.clear()
        try:
            reply = await self._step(limit=limit)
        except RedisError as error:
            # Fails towards waiting: nothing is claimed, and the reports are kept until Redis takes them.
            await self._step_failed(error)
            return
        self._backoff.reset()
        if self.burst and not (any(reply.depth[:3]) or self._running or self._running.has_reports):
            self._stopping = True
            return
        is_free = limit > 0 and len(self._running) < self.concurrency
        # Where all that is ready has been claimed, a token of the shared list, or the clock, says when there is more.
        self._wakeup.listen(shared=is_free)
        if is_free and reply.next_seconds is not None:
            seconds = min(seconds, reply.next_seconds)
        if seconds > 0:
            await self._wakeup.wait(seconds)

    async def _step(self, *, limit: int, last: bool = False) -> StepReply:
        reports = self._running.take_reports()
        health = self._health.take(len(self._running), stopping=self._stopping, last=last)
        try:
            reply = await self._stepper.step(reports, limit=limit, health=health)
        except UNAVAILABLE:
            # Reports that were applied although the reply is lost are refused by their token when repeated.
            self._running.keep_reports(reports)
            raise
        except RedisError:
            try:
                reports = await self._settlement.one_by_one(reports)
            finally:
                # All of them where this is cancelled: those that were applied are refused when repeated.
                self._running.keep_reports(reports)
            raise
        except BaseException:
            self._running.keep_reports(reports)
            raise
        self._settlement.settle(reports, reply)
        self._running.abort(reply.aborts)
        self._leases.add(reply.claims)
        self._running.start(reply.claims)
        for claim in reply.claims:
            if self._executor.has_events(claim.name):
                self._events.follow(claim)
        self._scheduler.notice(reply.schedules)
        return reply

    async def _drain(self) -> None:
        """Let running tasks finish within the grace; claim nothing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.grace_seconds
        while len(self._running) and loop.time() < deadline:
            await self._turn(limit=0, seconds=min(self.idle_seconds, deadline - loop.time()))

    async def _close(self) -> None:
        """Release what still runs. A task that does not end when cancelled keeps its lease until that expires."""
        await self._running.release(CLEANUP_SECONDS)
        await self._wakeup.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._report_last()
                    await self._events.drain()
        finally:
            await self._executor.close()

    async def _report_last(self) -> None:
        self._backoff.reset()
        while True:
            try:
                await self._step(limit=0, last=True)
            except RedisError as error:
                # Fails towards running twice: the leases end, and other workers take the tasks.
                await self._step_failed(error)
            else:
                return

    async def _step_failed(self, error: RedisError) -> None:
        record_failure(error, block="tasks", telemetry=self.telemetry)
        self.telemetry.count("task_step_errors")
        await self._backoff.wait()
