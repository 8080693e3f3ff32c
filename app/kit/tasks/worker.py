"""Worker: claims tasks and runs them in this process's own loop until it is stopped."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.aio import Backoff
from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.tasks.executor import Executor
from app.kit.tasks.leases import Leases
from app.kit.tasks.model import Report
from app.kit.tasks.progress import PublishTaskEvent, TaskEventPublisher
from app.kit.tasks.queue import Queue
from app.kit.tasks.running import RunningTasks
from app.kit.tasks.schedule import Entry, Scheduler
from app.kit.tasks.step import Stepper, StepReply
from app.kit.tasks.task import Task
from app.kit.tasks.wakeup import Wakeup
from app.kit.telemetry import NoTelemetry, Telemetry

# How long cancelled tasks may clean up, and how long sending the last reports and events may take.
CLEANUP_SECONDS = 1.0
LAST_SECONDS = 2.0
STEP_RETRY_FIRST_SECONDS, STEP_RETRY_LONGEST_SECONDS = 0.1, 1.0


@dataclass(eq=False)
class Worker:
    """Runs up to `concurrency` of `tasks` at once, and enqueues the tasks of the `schedule`.

    `resources` goes to every task. `blocking` is the client of the BLPOP; its socket timeout must exceed
    `idle_seconds`; by default it is the queue's own client, which gives a blocking command a dedicated connection.
    `connect_leases` makes the client of the thread that renews leases (see Leases). A task whose worker died
    `max_deaths` times is dead. `fair_every`: every n-th claim takes the lowest priority first; 0: strict.
    `publish_event` is given the progress and the end of tasks with `events=True`. `outages`: the errors that say that
    a backend is down; a task that fails by one is logged in a line, by any other with its traceback.
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
    blocking: Redis | None = None
    connect_leases: Callable[[], Redis] | None = None
    publish_event: PublishTaskEvent | None = None
    outages: tuple[type[Exception], ...] = UNAVAILABLE
    telemetry: Telemetry = field(default_factory=NoTelemetry)

    def __post_init__(self) -> None:
        queue, telemetry = self.queue, self.telemetry
        self._executor = Executor(self.tasks, threads=self.threads, processes=self.processes, outages=self.outages)
        self._scheduler = Scheduler(queue, self.schedule, telemetry=telemetry)
        self._events = TaskEventPublisher(self.publish_event, telemetry=telemetry)
        self._wakeup = Wakeup(self.blocking or queue.redis, queue, seconds=self.idle_seconds, telemetry=telemetry)
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
            uuid.uuid4().hex,
            lease_seconds=self.lease_seconds,
            max_deaths=self.max_deaths,
            fair_every=self.fair_every,
            idle_seconds=self.idle_seconds,
        )
        self._backoff = Backoff(first_seconds=STEP_RETRY_FIRST_SECONDS, longest_seconds=STEP_RETRY_LONGEST_SECONDS)
        self._stopping = False

    def stop(self) -> None:
        """Stop claiming; run() returns within the grace and a few seconds. Call it from the loop's thread."""
        self._stopping = True
        self._wakeup.wake()

    async def run(self) -> None:
        """Serve until stop(). Unfinished tasks are then released without spending an attempt, as on cancellation."""
        async with asyncio.TaskGroup() as group:
            companions = (self._leases.beat(), self._leases.renew(), self._scheduler.run(), self._events.run())
            tasks = [group.create_task(companion) for companion in companions]
            try:
                while not self._stopping:
                    await self._turn(limit=self.concurrency - len(self._running), seconds=self.idle_seconds)
                await self._drain()
            finally:
                await self._close()
                for task in tasks:
                    task.cancel()

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
        if limit > 0 and len(self._running) < self.concurrency:
            # All that is ready has been claimed: a token of the wake list, or the clock, says when there is more.
            self._wakeup.listen()
            if reply.next_seconds is not None:
                seconds = min(seconds, reply.next_seconds)
        if seconds > 0:
            await self._wakeup.wait(seconds)

    async def _step(self, *, limit: int) -> StepReply:
        reports = self._running.take_reports()
        try:
            reply = await self._stepper.step(reports, limit=limit)
        except BaseException:
            # Reports that were applied although the reply is lost are refused by their token when repeated.
            self._running.keep_reports(reports)
            raise
        self._settle(reports, reply)
        self._running.abort(reply.aborts)
        for claim in reply.claims:
            self._leases.add(claim)
            self._running.start(claim)
            if self._executor.has_events(claim.name):
                self._events.follow(claim.token)
        self._count(reply)
        return reply

    def _settle(self, reports: Iterable[Report], reply: StepReply) -> None:
        refused = set(reply.refused)
        for report in reports:
            if report.kind != "progress":
                self._leases.remove(report.token)
            self._events.add(report, refused=report.id in refused)

    def _count(self, reply: StepReply) -> None:
        for place, size in zip(("high", "normal", "low", "scheduled", "running", "dead"), reply.depth, strict=True):
            self.telemetry.gauge("task_queue_depth", size, place=place)
        for name, amount in (
            ("task_reports_refused", len(reply.refused)),
            ("task_worker_deaths", reply.expired),
            ("task_poisoned", reply.poisoned),
        ):
            if amount:
                self.telemetry.count(name, amount)

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
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._report_last()
                await self._events.drain()

    async def _report_last(self) -> None:
        self._backoff.reset()
        while True:
            try:
                await self._step(limit=0)
            except RedisError as error:
                # Fails towards running twice: the leases end, and other workers take the tasks.
                await self._step_failed(error)
            else:
                return

    async def _step_failed(self, error: RedisError) -> None:
        record_failure(error, block="tasks", telemetry=self.telemetry)
        self.telemetry.count("task_step_errors")
        await self._backoff.wait()
