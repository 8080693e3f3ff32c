"""Attempt: how long one attempt may take, and may be silent; a wait for a slot is not its own time."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

# A loop that is later than this was blocked: what is alive could not say so.
LATE_SECONDS = 0.1


class TimedOut(Exception):
    """The attempt took longer, or was silent for longer, than its task allows."""


class Deadlines:
    """One timer for all attempts: most end long before their deadlines, and then cost no timer of their own."""

    def __init__(self) -> None:
        self._attempts: set[Attempt] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    def add(self, attempt: "Attempt") -> None:
        self._attempts.add(attempt)
        self.expect(attempt.deadline)

    def discard(self, attempt: "Attempt") -> None:
        self._attempts.discard(attempt)

    def has(self, attempt: "Attempt") -> bool:
        """Its deadline is being waited for: it has neither ended, nor is it paused."""
        return attempt in self._attempts

    def expect(self, at: float) -> None:
        """An attempt has this deadline now, in the loop's time."""
        if at < self._at:
            if self._timer is not None:
                self._timer.cancel()
            self._at = at
            self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        late_seconds, self._at, self._timer = now - self._at, math.inf, None
        if late_seconds > LATE_SECONDS:
            for attempt in tuple(self._attempts):
                attempt.beat()
        for attempt in [attempt for attempt in self._attempts if attempt.deadline <= now]:
            self.discard(attempt)
            attempt.expire()
        self.expect(min((attempt.deadline for attempt in self._attempts), default=math.inf))


class Attempt:
    """A context in which the running asyncio task is cancelled at the deadline; it then raises TimedOut.

    As asyncio.timeout(), but an own error, which differs from a TimeoutError that the handler raises.
    """

    __slots__ = (
        "_beat",
        "_cancelling",
        "_deadlines",
        "_end",
        "_heartbeat_seconds",
        "_is_expired",
        "_paused_at",
        "_pauses",
        "_seconds",
        "_task",
        "deadline",
    )

    def __init__(self, deadlines: Deadlines, seconds: float | None, *, heartbeat_seconds: float | None = None) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._is_expired = False
        self._pauses = 0
        self._task: asyncio.Task[Any] | None = None
        # In the loop's time, as all that follow from it.
        self.deadline = math.inf

    def __enter__(self) -> "Attempt":
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task else 0
        self._beat = asyncio.get_running_loop().time()
        self._end = math.inf if self._seconds is None else self._beat + self._seconds
        self._set_deadline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.discard(self)
        task, self._task = self._task, None
        if task is None or not self._is_expired or task.uncancel() > self._cancelling:
            return
        if kind is asyncio.CancelledError:
            if asyncio.get_running_loop().time() >= self._end:
                raise TimedOut(f"after {self._seconds} s") from error
            raise TimedOut(f"no heartbeat for {self._heartbeat_seconds} s") from error

    def expire(self) -> None:
        """Its deadline has passed."""
        if self._task is not None:
            self._is_expired = True
            self._task.cancel()

    def beat(self) -> None:
        """The attempt is alive. Call it from the loop's thread."""
        self._beat = asyncio.get_running_loop().time()
        if self._deadlines.has(self):
            self._set_deadline()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time within is not the attempt's; where pauses overlap, it counts once."""
        loop = asyncio.get_running_loop()
        if self._pauses == 0:
            self._paused_at = loop.time()
            self._deadlines.discard(self)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0:
                self._beat = loop.time()
                self._end += self._beat - self._paused_at
                if not self._is_expired:
                    self._set_deadline()

    def _set_deadline(self) -> None:
        silent = math.inf if self._heartbeat_seconds is None else self._beat + self._heartbeat_seconds
        self.deadline = min(self._end, silent)
        if self.deadline < math.inf:
            self._deadlines.add(self)
