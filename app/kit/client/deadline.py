"""How long one unit of work, such as a web request, may wait for a Redis that does not answer."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from app.kit.client.breaker import Breaker
from app.kit.client.errors import UNAVAILABLE, CircuitOpen


class Budget:
    """The seconds of waiting that are left. Only waits that ended without an answer are charged."""

    __slots__ = ("remaining_seconds",)

    def __init__(self, seconds: float) -> None:
        self.remaining_seconds = seconds

    def charge(self, seconds: float) -> None:
        self.remaining_seconds = max(0.0, self.remaining_seconds - seconds)


_current: ContextVar[Budget | None] = ContextVar("redis_budget", default=None)


def start_budget(seconds: float | None) -> None:
    """Give the running task, and the tasks that it starts, a budget; None takes it away (long-lived streams)."""
    _current.set(None if seconds is None else Budget(seconds))


def running_budget() -> Budget | None:
    """The budget of the running work; None where it has none."""
    return _current.get()


@contextmanager
def budget(seconds: float) -> Iterator[Budget]:
    """A budget for the duration of a block."""
    given = Budget(seconds)
    token = _current.set(given)
    try:
        yield given
    finally:
        _current.reset(token)


class Deadline:
    """One wait for Redis, as a context: its end, and the charge to the budget where no answer came.

    `at` is in the loop's time: the end of the running work's budget, or `timeout_seconds` from now where it has none.
    """

    __slots__ = ("_began", "_budget", "_loop", "at")

    def __init__(self, timeout_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._budget = _current.get()
        self._began = self._loop.time()
        self.at = self._began + (timeout_seconds if self._budget is None else self._budget.remaining_seconds)

    @property
    def is_budgeted(self) -> bool:
        return self._budget is not None

    def check(self, breaker: Breaker) -> None:
        """CircuitOpen where there is a budget, and it is used up or the circuit is open."""
        if self._budget is not None and (self._budget.remaining_seconds <= 0 or breaker.is_open):
            raise CircuitOpen("Redis does not answer; not tried again until it does") from breaker.last_error

    def __enter__(self) -> "Deadline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._budget is not None and issubclass(kind, UNAVAILABLE):
            self._budget.charge(self._loop.time() - self._began)
