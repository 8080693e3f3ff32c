"""The policy of a task: how often and how soon it is repeated, how long it may take, how many run at once."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.kit import aio
from app.kit.tasks.model import validate_seconds

# Seconds before the attempt after this one: always the same, by attempt (the last one repeats), or computed.
RetryDelay = float | Sequence[float] | Callable[[int], float]

_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What @task() declares beside the function. ValueError: a value is not allowed.

    A failed attempt is repeated, up to `max_attempts` in all, after a delay with full jitter: uniform between 0 and
    `backoff_seconds * 2**(attempt - 1)`, at most `backoff_max_seconds`; `retry_delay` gives other delays: one number,
    one by attempt (the last one repeats), or a function of the attempt, which counts from 1. `timeout_seconds` bounds
    one attempt; None: unbounded. With `heartbeat_seconds` an attempt fails that says nothing for as long
    (context.heartbeat(), context.report_progress()). For `keep_seconds` after the task's end its result is readable and
    its id is known; None: for ever. `events`: what happens to it is published as events. Of the tasks of this name at
    most `max_running` run at once over all workers, and at most as many start as `rate` says (`100/minute`; also
    second, hour, day) in any such span.
    """

    max_attempts: int = 5
    backoff_seconds: float = 1
    backoff_max_seconds: float = 600
    retry_delay: RetryDelay | None = None
    timeout_seconds: float | None = 300
    heartbeat_seconds: float | None = None
    keep_seconds: float | None = 3600
    events: bool = False
    max_running: int | None = None
    rate: str | None = None

    def __post_init__(self) -> None:
        for count, what in ((self.max_attempts, "max_attempts"), (self.max_running, "max_running")):
            if (type(count) is not int or count < 1) and not (what == "max_running" and count is None):
                raise ValueError(f"{what} is a whole number and at least 1: {count!r}")
        validate_seconds(self.backoff_seconds, "backoff_seconds")
        validate_seconds(self.backoff_max_seconds, "backoff_max_seconds")
        if self.keep_seconds is not None:
            validate_seconds(self.keep_seconds, "keep_seconds, which is None for ever,")
        for value, what in ((self.timeout_seconds, "timeout_seconds"), (self.heartbeat_seconds, "heartbeat_seconds")):
            if value is not None:
                validate_seconds(value, what, least=0.001)
        if self.rate is not None and not _RATE.fullmatch(self.rate):
            raise ValueError(f"a rate is such as 100/minute: {self.rate!r}")
        if self.retry_delay is not None and not callable(self.retry_delay):
            delays = self.retry_delay if isinstance(self.retry_delay, Sequence) else [self.retry_delay]
            if not delays:
                raise ValueError("retry_delay has no delay")
            for delay in delays:
                validate_seconds(delay, "retry_delay")

    def retry_delay_seconds(self, attempt: int) -> float:
        """The delay after the failed `attempt`, which counts from 1. ValueError: the function gave no such number."""
        given = self.retry_delay
        if given is None:
            return aio.backoff_seconds(
                attempt, first_seconds=self.backoff_seconds, longest_seconds=self.backoff_max_seconds
            )
        if callable(given):
            return validate_seconds(given(attempt), "retry_delay")
        return given[min(attempt, len(given)) - 1] if isinstance(given, Sequence) else given

    @property
    def limits(self) -> tuple[int, int, int] | None:
        """How many may run at once (0: any), start in a window (0: any), and the window in ms. None: no limit."""
        if self.max_running is None and self.rate is None:
            return None
        found = _RATE.fullmatch(self.rate or "")
        starts, window_seconds = (int(found[1]), _UNIT_SECONDS[found[2]]) if found else (0, 0)
        return self.max_running or 0, starts, math.ceil(window_seconds * 1000)
