"""Worker: claims tasks and runs them in this process's own loop until it is told to stop."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.tasks.claims import Answer, Claim, Claimer, Report
from app.kit.tasks.context import TaskContext
from app.kit.tasks.executor import Executor
from app.kit.tasks.lease import Leases
from app.kit.tasks.queue import Queue
from app.kit.tasks.registry import Task
from app.kit.tasks.schedule import Entry, Scheduler
from app.kit.tasks.wake import Wake
from app.kit.telemetry import NoTelemetry, Telemetry

PROGRESS_SECONDS = 0.1
# How long cancelled tasks may clean up, and for how long the last reports are tried.
CLEANUP_SECONDS = 1.0
LAST_SECONDS = 2.0
BACKOFF_SECONDS = (0.05, 1.0)


@dataclass(slots=True, eq=False)
class _Running:
    """A claim at work. `reason`: why this worker has cancelled it."""

    claim: Claim
    began: float
    task: "asyncio.Task[Report]"
    reason: Literal["abort", "release", "lost"] | None = None

    def end(self, reason: Literal["abort", "release", "lost"]) -> None:
        if self.reason is None:
            self.reason = reason
            self.task.cancel()


@dataclass(eq=False)
class Worker:
    """Runs up to `concurrency` of `tasks` at once, and makes the `schedule` happen.

    `resources` goes to every task. `blocking` is the client of the BLPOP; its socket timeout must exceed
    `idle_seconds`, and it may be the queue's own client, whose pool gives a blocking command a connection of its own.
    `connect_leases` makes the client of the thread that renews leases (see Leases). A task whose worker died
    `max_deaths` times is dead. `fair_every`: every n-th claim takes the lowest priority first; 0: strict.
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
    telemetry: Telemetry = field(default_factory=NoTelemetry)

    def __post_init__(self) -> None:
        self._executor = Executor(self.tasks, threads=self.threads, processes=self.processes)
        self._scheduler = Scheduler(self.queue, self.schedule, telemetry=self.telemetry)
        self._claimer = Claimer(
            self.queue,
            uuid.uuid4().hex,
            lease_seconds=self.lease_seconds,
            max_deaths=self.max_deaths,
            fair_every=self.fair_every,
            idle_seconds=self.idle_seconds,
        )
        self._leases = Leases(
            self.queue,
            lease_seconds=self.lease_seconds,
            stall_seconds=self.stall_seconds,
            connect=self.connect_leases,
            lost=self._lose,
            telemetry=self.telemetry,
        )
        blocking = self.blocking or self.queue.redis
        self._wake = Wake(blocking, self.queue, seconds=self.idle_seconds, telemetry=self.telemetry)
        self._running: dict[int, _Running] = {}
        self._reports: list[Report] = []
        self._progress: dict[int, Report] = {}
        self._failures = 0
        self._stopping = False

    def stop(self) -> None:
        """Claim no more; run() then returns within the grace and three seconds. Call it from the loop's thread."""
        self._stopping = True
        self._wake.nudge()

    async def run(self) -> None:
        """Serve until stop(). What is unfinished then, or when this is cancelled, goes back, no attempt spent."""
        async with asyncio.TaskGroup() as group:
            companions = [self._leases.beat(), self._leases.renew(), self._scheduler.run()]
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
        """Step, dispatch, and wait until there is something to do again, `seconds` at most."""
        self._wake.clear()
        try:
            answer = await self._step(limit=limit)
        except RedisError:
            # Fails towards waiting: nothing is claimed, and the reports are kept until Redis takes them.
            self.telemetry.count("task_step_errors")
            self._failures += 1
            first, most = BACKOFF_SECONDS
            await asyncio.sleep(random.uniform(0, min(most, first * 2 ** min(self._failures, 10))))  # noqa: S311
            return
        self._failures = 0
        if limit > 0 and len(self._running) < self.concurrency:
            # All that is ready has been claimed: a token in the wake list, or the clock, says when there is more.
            self._wake.listen()
            if answer.next_seconds is not None:
                seconds = min(seconds, answer.next_seconds)
        if seconds > 0:
            await self._wake.wait(seconds)

    async def _step(self, *, limit: int) -> Answer:
        reports, self._reports = [*self._progress.values(), *self._reports], []
        self._progress.clear()
        try:
            answer = await self._claimer.step(reports, limit=limit)
        except BaseException:
            # What was applied although the answer is lost is refused by its token when it comes again.
            self._reports[:0] = [report for report in reports if report.kind != "progress"]
            raise
        for report in reports:
            if report.kind != "progress":
                self._leases.drop(report.token)
        for running in self._running.values():
            if running.claim.id in answer.aborts:
                running.end("abort")
        self._count(answer)
        for claim in answer.claims:
            self._start(claim)
        return answer

    def _start(self, claim: Claim) -> None:
        loop = asyncio.get_running_loop()

        def report_progress(percent: int) -> None:
            loop.call_soon_threadsafe(self._note_progress, claim, percent)

        context = TaskContext(
            id=claim.id,
            name=claim.name,
            attempt=claim.attempt,
            owner=claim.owner,
            resources=self.resources,
            report=report_progress,
        )
        running = _Running(claim, time.monotonic(), loop.create_task(self._executor.run(claim, context)))
        self._running[claim.token] = running
        self._leases.hold(claim)
        # Not inside the coroutine: one that is cancelled before its first step never runs a line.
        running.task.add_done_callback(partial(self._ended, running))
        self.telemetry.count("task_starts", task=self._executor.label(claim.name))

    def _ended(self, running: _Running, task: "asyncio.Task[Report]") -> None:
        claim = running.claim
        del self._running[claim.token]
        if not task.cancelled():
            report = task.result()
        elif running.reason is None:
            report = self._executor.spent(claim, "cancelled itself")
        elif running.reason != "lost":
            report = Report(claim.id, claim.token, running.reason)
        label = self._executor.label(claim.name)
        if running.reason == "lost":
            self._leases.drop(claim.token)
            self.telemetry.count("task_ends", task=label, outcome="lost")
        else:
            self._reports.append(report)
            self.telemetry.count("task_ends", task=label, outcome=report.kind)
        self.telemetry.observe("task_seconds", time.monotonic() - running.began, task=label)
        self._wake.nudge()

    def _note_progress(self, claim: Claim, percent: int) -> None:
        if claim.token in self._running:
            if not self._progress:
                asyncio.get_running_loop().call_later(PROGRESS_SECONDS, self._wake.nudge)
            self._progress[claim.token] = Report(claim.id, claim.token, "progress", text=percent)

    def _lose(self, tokens: list[int]) -> None:
        """Others hold these leases now: the copies that run here are cancelled, their reports would be refused."""
        for token in tokens:
            self._leases.drop(token)
            if token in self._running:
                self._running[token].end("lost")

    def _count(self, answer: Answer) -> None:
        for place, size in zip(("high", "normal", "low", "scheduled", "running", "dead"), answer.depth, strict=True):
            self.telemetry.gauge("task_queue_depth", size, place=place)
        for name, amount in (
            ("task_reports_refused", len(answer.fenced)),
            ("task_worker_deaths", answer.died),
            ("task_poisoned", answer.buried),
        ):
            if amount:
                self.telemetry.count(name, amount)

    async def _drain(self) -> None:
        """Let what runs finish within the grace; claim nothing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.grace_seconds
        while self._running and loop.time() < deadline:
            await self._turn(limit=0, seconds=min(self.idle_seconds, deadline - loop.time()))

    async def _close(self) -> None:
        """Give back what still runs. What does not end even when cancelled keeps its lease until that ends."""
        for running in self._running.values():
            running.end("release")
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()], timeout=CLEANUP_SECONDS)
        await self._wake.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._report_last()

    async def _report_last(self) -> None:
        while True:
            try:
                await self._step(limit=0)
            except RedisError:
                # Fails towards running twice: the leases end, and other workers take the tasks over.
                self.telemetry.count("task_step_errors")
                await asyncio.sleep(BACKOFF_SECONDS[0])
            else:
                return
