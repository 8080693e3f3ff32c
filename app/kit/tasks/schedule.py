"""Recurring tasks, exactly once a tick over any number of nodes: the id of a tick's task is its name and time."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from app.kit.durations import check_seconds
from app.kit.tasks.model import PRIORITIES, Call, Priority, validate_task_id
from app.kit.tasks.outcome import Undecodable
from app.kit.tasks.task import Task

# How far the clock of a node may be behind: for as long the id of a tick that has ended must be known.
LEAST_KEEP_SECONDS = 60
# A shorter interval would be due all the time.
LEAST_INTERVAL_SECONDS = 0.1

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
    """A task and when it is due. `name`, by default the task's, tells two entries of one task apart.

    With `at_start` it is due as well whenever a worker starts, and then runs once for all that start before it has
    ended. ValueError: the name makes no task id, the payload is not the task's, or the task's `keep_seconds` is less
    than 60: a node whose clock is behind would run a tick again.
    """

    task: Task[Any]
    payload: Any = field(default=None, kw_only=True)
    priority: Priority = field(default="normal", kw_only=True)
    name: str = field(default="", kw_only=True)
    at_start: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        try:
            validate_task_id(f"{self.label}:{10**13}")
        except ValueError as error:
            raise ValueError(f"the name of an entry is part of task ids: {self.label[:80]!a}: {error}") from error
        if self.task.keep_seconds is not None and self.task.keep_seconds < LEAST_KEEP_SECONDS:
            raise ValueError(f"{self.task.name} has a schedule, so its keep_seconds is {LEAST_KEEP_SECONDS} or more")
        if self.priority not in PRIORITIES:
            raise ValueError(f"{self.label}: priority is one of {', '.join(PRIORITIES)}, not {self.priority!r}")
        try:
            # Whatever is wrong would end the scheduler, and with it every other entry.
            self.task.decode(self.call(0).payload)
        except Undecodable as error:
            raise ValueError(f"{self.label}: no payload of this task: {self.payload!r} ({error})") from error

    @property
    def label(self) -> str:
        """The entry's own name, or its task's."""
        return self.name or self.task.name

    @abstractmethod
    def next_after(self, now: float) -> float:
        """The first tick after `now`, both in epoch seconds; every node gets the same."""

    def call(self, tick: float) -> Call:
        return self.task.call(self.payload, id=f"{self.label}:{round(tick * 1000)}", at=tick, priority=self.priority)

    def start_call(self) -> Call:
        """The run of `at_start`."""
        return self.task.call(self.payload, priority=self.priority, unique=f"at_start:{self.label}")


@dataclass(frozen=True, slots=True)
class Every(Entry):
    """Due each `seconds`, counted from the epoch. ValueError: shorter than a tick's id tells apart, or over a year."""

    seconds: float = field(kw_only=True)

    def __post_init__(self) -> None:
        Entry.__post_init__(self)
        check_seconds(f"{self.task.name}: an interval", self.seconds, least=LEAST_INTERVAL_SECONDS)

    def next_after(self, now: float) -> float:
        number = now // self.seconds + 1
        # Products are rounded: where `now` is a tick itself, the quotient may be less than its number.
        return number * self.seconds if number * self.seconds > now else (number + 1) * self.seconds


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
