"""Scheduler: puts the ticks of the declared entries, and of those added at run time, into the queue."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec
from redis.exceptions import RedisError

from app.kit.aio import Backoff
from app.kit.client.errors import record_failure
from app.kit.tasks.model import Call, Priority
from app.kit.tasks.queue import Queue, unless_wrong_type
from app.kit.tasks.schedule import Cron, Entry, Every
from app.kit.tasks.task import Task
from app.kit.telemetry import Telemetry

logger = logging.getLogger(__name__)

# How often the next ticks are written again, in case Redis has lost them.
SCHEDULE_REFRESH_SECONDS = 60.0
# Ticks that pass while the loop is held up are written afterwards, within the time in which ids stay known for certain.
CATCH_UP_SECONDS, MAX_CATCH_UP = 30.0, 200
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 0.2, 1.0


class StoredSchedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry as Redis keeps it. `line`: of Cron; `seconds`: of Every."""

    task: str
    payload: msgspec.Raw
    priority: Priority
    line: str = ""
    time_zone: str = "UTC"
    seconds: float = 0

    @classmethod
    def of(cls, entry: Entry) -> "StoredSchedule":
        payload = msgspec.Raw(entry.task.encode(entry.payload))
        if isinstance(entry, Cron):
            return cls(entry.task.name, payload, entry.priority, line=entry.line, time_zone=entry.time_zone)
        return cls(entry.task.name, payload, entry.priority, seconds=cast(Every, entry).seconds)

    def entry(self, name: str, task: Task[Any]) -> Entry:
        payload = msgspec.json.decode(self.payload)
        if self.line:
            return Cron(task, self.line, time_zone=self.time_zone, payload=payload, priority=self.priority, name=name)
        return Every(task, seconds=self.seconds, payload=payload, priority=self.priority, name=name)


class Schedules:
    """The entries of a queue that were added at run time; they stay until they are removed. Workers follow within 2 s.

    A worker that does not have an entry's task leaves it to those that do.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def add(self, entry: Cron | Every) -> None:
        """Add the entry, or replace the one of its name. A declared entry of the same name goes before it."""
        await self._queue.run("tasks/schedule", entry.label, msgspec.json.encode(StoredSchedule.of(entry)))

    async def remove(self, name: str) -> bool:
        """False: there was none. A tick that is in the queue already still runs, unless it is aborted."""
        return bool(await self._queue.run("tasks/schedule", name, ""))

    async def entries(self) -> dict[str, StoredSchedule]:
        """By name."""
        key = self._queue.keys.task_schedules(self._queue.name)
        stored: dict[bytes, bytes] = {}
        stored = await unless_wrong_type(cast(Any, self._queue.redis.hgetall(key)), stored)
        found = {}
        for name, data in stored.items():
            with suppress(ValueError, msgspec.MsgspecError):
                found[name.decode()] = msgspec.json.decode(data, type=StoredSchedule)
        return found


class Scheduler:
    """Puts the next tick of each entry into the queue ahead of its time; Redis' clock then says when it is due.

    Every node does so, and the queue accepts each id once. It knows an id until `keep_seconds` after its task has
    ended: a node's clock may be that much behind. Of the ticks that pass while no node runs, only the one written
    ahead runs; those that pass while a node is held up, for 30 s at most, run late.
    """

    def __init__(
        self, queue: Queue, entries: Iterable[Entry], *, tasks: Mapping[str, Task[Any]], telemetry: Telemetry
    ) -> None:
        self._queue = queue
        listed = list(entries)
        self._declared = {entry.label: entry for entry in listed}
        if len(self._declared) < len(listed):
            raise ValueError("two entries of the schedule have one name")
        self._tasks = tasks
        self._telemetry = telemetry
        self._backoff = Backoff(first_seconds=RETRY_FIRST_SECONDS, longest_seconds=RETRY_LONGEST_SECONDS)
        self._added: dict[str, Entry] = {}
        self._written: dict[str, float] = {}
        self._version = 0
        self._loaded = 0
        self._changed = asyncio.Event()

    def notice(self, version: int) -> None:
        """The version of the schedules that a step has read."""
        if version != self._version:
            self._version = version
            self._changed.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        starts = [entry.start_call() for entry in self._declared.values() if entry.at_start]
        while True:
            self._changed.clear()
            try:
                seconds = await self._write(starts)
            except RedisError as error:
                # Fails towards leaving ticks out: those that pass before Redis is back.
                record_failure(error, block="tasks", telemetry=self._telemetry)
                self._telemetry.count("task_schedule_errors")
                await self._backoff.wait()
            else:
                self._backoff.reset()
                starts = []
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._changed.wait()

    async def _write(self, starts: list[Call]) -> float | None:
        """Write the next ticks; returns the seconds until there are others. None: there are no entries."""
        if self._version != self._loaded:
            version = self._version
            self._added = await self._load()
            self._loaded = version
        entries = {**self._added, **self._declared}.values()
        now = time.time()
        ticks = [(entry, self._ticks(entry, now)) for entry in entries]
        calls = [*starts, *(entry.call(tick) for entry, due in ticks for tick in due)]
        if not calls:
            return None
        await self._queue.submit(calls)
        self._written = {entry.label: due[-1] for entry, due in ticks}
        return min([SCHEDULE_REFRESH_SECONDS, *(max(0.001, due[-1] - now) for _, due in ticks)])

    def _ticks(self, entry: Entry, now: float) -> list[float]:
        """The next tick, after those that passed since the last one written while this loop or Redis was held up."""
        last = max(self._written.get(entry.label, now), now - CATCH_UP_SECONDS)
        ticks = [entry.next_after(min(last, now))]
        while ticks[-1] <= now and len(ticks) < MAX_CATCH_UP:
            ticks.append(entry.next_after(ticks[-1]))
        return ticks if ticks[-1] > now else [entry.next_after(now)]

    async def _load(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for name, stored in (await Schedules(self._queue).entries()).items():
            task = self._tasks.get(stored.task)
            if task is None:
                continue
            try:
                entries[name] = stored.entry(name, task)
            except ValueError as error:
                # Another version wrote it: this one cannot run it, and the others go on.
                logger.error("schedule %s is left out: %s", name, error)
        return entries
