"""Recurring tasks, exactly once a tick over any number of nodes: the id of a tick's task is its name and time."""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from redis.exceptions import RedisError

from app.kit.aio import Backoff
from app.kit.client.errors import record_failure
from app.kit.durations import check_seconds
from app.kit.tasks.model import PRIORITIES, Call, Priority
from app.kit.tasks.queue import Queue
from app.kit.tasks.task import Task, Undecodable
from app.kit.telemetry import Telemetry

# How often the next ticks are written again, in case Redis has lost them.
SCHEDULE_REFRESH_SECONDS = 60.0
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 0.2, 1.0

# A shorter interval would be due all the time.
LEAST_INTERVAL_SECONDS = 0.1
# A tick's id is known for this long after its task: until each node has seen the next one, by a clock that is behind.
LEAST_KEEP_SECONDS = SCHEDULE_REFRESH_SECONDS

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
CRON_FIELDS = 5
# cronsim reads `5-5/2` as `5/2`, cron as `5`.
_STEP_OVER_ONE_VALUE = re.compile(r"\b0*(\w+)-0*\1/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry(ABC):
    """A task and when it is due. `name`, by default the task's, tells two entries of one task apart."""

    task: Task[Any]
    payload: Any = field(default=None, kw_only=True)
    priority: Priority = field(default="normal", kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        """Each mistake is found here: in the scheduler it would end every other entry, too."""
        name = self.task.name
        check_seconds(f"{name}: keep_seconds beside a schedule", self.task.keep_seconds, least=LEAST_KEEP_SECONDS)
        if self.priority not in PRIORITIES:
            raise ValueError(f"{name}: priority is one of {', '.join(PRIORITIES)}, not {self.priority!r}")
        try:
            self.task.decode(self.call(0).payload)
        except Undecodable as error:
            raise ValueError(f"{name}: no payload of this task: {self.payload!r} ({error})") from error

    @abstractmethod
    def next_after(self, now: float) -> float:
        """The first tick after `now`, both in epoch seconds; every node gets the same."""

    def call(self, tick: float) -> Call:
        task_id = f"{self.name or self.task.name}:{round(tick * 1000)}"
        return self.task.call(self.payload, id=task_id, at=tick, priority=self.priority)


@dataclass(frozen=True, slots=True)
class Every(Entry):
    """Due each `seconds`, counted from the epoch. ValueError: shorter than a tick's id tells apart, or over a year."""

    seconds: float = field(kw_only=True)

    def __post_init__(self) -> None:
        Entry.__post_init__(self)
        check_seconds(f"{self.task.name}: an interval", self.seconds, least=LEAST_INTERVAL_SECONDS)

    def next_after(self, now: float) -> float:
        return (now // self.seconds + 1) * self.seconds


@dataclass(frozen=True, slots=True)
class Cron(Entry):
    """Due by a crontab(5) line of five fields, such as `30 4 * * MON-FRI`, or a nickname, such as `@daily`.

    The times are those of `time_zone`, a name of the IANA time zone database. Where both days are restricted, either
    one suffices. When the clocks change, Debian's rules apply: a time that is skipped runs when the gap ends, one that
    is repeated runs once; with `*` in the minute or the hour the entry follows the clock, so it skips and repeats.
    ValueError: the line is invalid, no moment matches it, or the time zone is unknown.
    """

    line: str
    time_zone: str = field(default="UTC", kw_only=True)

    def __post_init__(self) -> None:
        Entry.__post_init__(self)
        self.next_after(0)

    def next_after(self, now: float) -> float:
        line = NICKNAMES.get(self.line, self.line)
        if not line.isascii() or len(line.split()) != CRON_FIELDS or _STEP_OVER_ONE_VALUE.search(line):
            raise ValueError(f"no crontab line of {CRON_FIELDS} fields: {self.line!r}")
        try:
            moments = CronSim(line, datetime.fromtimestamp(now, _zone(self.time_zone)))
        except CronSimError as error:
            raise ValueError(f"no crontab line: {self.line!r}: {error}") from error
        # In the second pass of a repeated hour cronsim names times of the first one.
        tick = next((moment.timestamp() for moment in moments if moment.timestamp() > now), None)
        if tick is None:
            raise ValueError(f"no moment matches {self.line!r}")
        return tick


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"no time zone of this name: {name!r}") from error


class Scheduler:
    """Puts the next tick of each entry into the queue ahead of its time; Redis' clock then says when it is due.

    Every node does so, and the queue accepts each id once. It knows an id until `keep_seconds` after its task has
    ended: a node's clock may be that much behind. Of the ticks that pass while no node runs, only the one written
    ahead runs.
    """

    def __init__(self, queue: Queue, entries: Iterable[Entry], *, telemetry: Telemetry) -> None:
        self._queue = queue
        self._entries = list(entries)
        self._telemetry = telemetry
        self._backoff = Backoff(first_seconds=RETRY_FIRST_SECONDS, longest_seconds=RETRY_LONGEST_SECONDS)
        names = [entry.name or entry.task.name for entry in self._entries]
        if len(set(names)) < len(names):
            raise ValueError("two entries of the schedule have one name")

    async def run(self) -> None:
        """Runs until cancelled."""
        while self._entries:
            now = time.time()
            ticks = [entry.next_after(now) for entry in self._entries]
            try:
                await self._queue.submit([entry.call(tick) for entry, tick in zip(self._entries, ticks, strict=True)])
            except RedisError as error:
                # Fails towards leaving ticks out: those that pass before Redis is back.
                record_failure(error, block="tasks", telemetry=self._telemetry)
                self._telemetry.count("task_schedule_errors")
                await self._backoff.wait()
            else:
                self._backoff.reset()
                await asyncio.sleep(min(SCHEDULE_REFRESH_SECONDS, max(0.001, min(ticks) - now)))
