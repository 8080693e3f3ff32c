"""Recurring tasks, exactly once a tick over any number of nodes: the id of a tick's task is its name and time."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from app.kit.tasks.model import Call, Priority
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task
from app.kit.telemetry import Telemetry

# How often the next ticks are written again, should Redis have lost them, and how soon after it did not answer.
SCHEDULE_REFRESH_SECONDS = 60.0
RETRY_SECONDS = 1.0
# The 29th of February may be eight years away (2096, 2104).
DAYS_AHEAD = 8 * 366
# Minute, hour, day of the month, month, day of the week (7 is Sunday too).
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True, slots=True)
class Entry(ABC):
    """A task and when it is due. `name`, by default the task's, tells two entries of one task apart."""

    task: Task[Any]
    payload: Any = field(default=None, kw_only=True)
    priority: Priority = field(default="normal", kw_only=True)
    name: str = field(default="", kw_only=True)

    @abstractmethod
    def next_after(self, now: float) -> float:
        """The first tick after `now`, both in epoch seconds; every node gets the same."""

    def call(self, tick: float) -> Call:
        task_id = f"{self.name or self.task.name}:{round(tick * 1000)}"
        return self.task.call(self.payload, id=task_id, at=tick, priority=self.priority)


@dataclass(frozen=True, slots=True)
class Every(Entry):
    """Due each `seconds`, counted from the epoch."""

    seconds: float = field(kw_only=True)

    def next_after(self, now: float) -> float:
        return (now // self.seconds + 1) * self.seconds


@dataclass(frozen=True, slots=True)
class Cron(Entry):
    """Due by a crontab(5) line of five fields in UTC, such as `30 4 * * 1-5`; names of months and days are not known.

    Where both days are restricted, either one will do, as in crontab(5).
    """

    line: str

    def __post_init__(self) -> None:
        _parse(self.line)

    def next_after(self, now: float) -> float:
        minutes, hours, days, months, weekdays = _parse(self.line)
        either = "*" not in (self.line.split()[2][0], self.line.split()[4][0])
        start = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for ahead in range(DAYS_AHEAD):
            day = (start + timedelta(days=ahead)).replace(hour=0, minute=0)
            matches = (day.day in days, day.isoweekday() % 7 in weekdays)
            if day.month not in months or not (any(matches) if either else all(matches)):
                continue
            times = (day.replace(hour=hour, minute=minute) for hour in sorted(hours) for minute in sorted(minutes))
            tick = next((moment for moment in times if moment >= start), None)
            if tick is not None:
                return tick.timestamp()
        raise ValueError(f"no day matches {self.line!r}")


def _parse(line: str) -> list[set[int]]:
    """The values that each field admits. ValueError on what is no crontab line."""
    fields = line.split()
    if len(fields) != len(FIELDS):
        raise ValueError(f"a cron line has five fields: {line!r}")
    parsed = [_values(text, low, high) for text, (low, high) in zip(fields, FIELDS, strict=True)]
    if 7 in parsed[4]:
        parsed[4].add(0)
    return parsed


def _values(text: str, low: int, high: int) -> set[int]:
    """`*`, `a`, `a-b`, each with `/step`, and lists of these by commas."""
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        chosen = range(int(first), int(last or (high if step else first)) + 1, int(step or 1))
        if not chosen or chosen[0] < low or chosen[-1] > high:
            raise ValueError(f"not within {low} to {high}: {part!r}")
        values.update(chosen)
    return values


class Scheduler:
    """Puts the next tick of each entry into the queue, ahead of its time; Redis' clock then says when it is due.

    Every node does so, and the id lets one through. An id is known until `keep_seconds` after its task has ended: by
    so much may a node's clock be behind. Ticks that pass while no node runs, but for the one written ahead, are left
    out.
    """

    def __init__(self, queue: Queue, entries: Iterable[Entry], *, telemetry: Telemetry) -> None:
        self._queue = queue
        self._entries = list(entries)
        self._telemetry = telemetry
        names = [entry.name or entry.task.name for entry in self._entries]
        if len(set(names)) < len(names):
            raise ValueError("two entries of the schedule have one name")

    async def run(self) -> None:
        """Until cancelled."""
        while self._entries:
            now = time.time()
            ticks = [entry.next_after(now) for entry in self._entries]
            pause = min(SCHEDULE_REFRESH_SECONDS, max(0.001, min(ticks) - now))
            try:
                await self._queue.submit([entry.call(tick) for entry, tick in zip(self._entries, ticks, strict=True)])
            except RedisError:
                # Fails towards leaving ticks out: those that pass before Redis is back.
                self._telemetry.count("task_schedule_errors")
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)
