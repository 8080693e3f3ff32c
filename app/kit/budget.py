"""How long one unit of work, such as a web request, may wait in all for a Redis that does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Budget:
    """Seconds of waiting that are left. Only waits that ended without an answer are charged."""

    __slots__ = ("remaining_seconds",)

    def __init__(self, seconds: float) -> None:
        self.remaining_seconds = seconds

    def charge(self, seconds: float) -> None:
        self.remaining_seconds = max(0.0, self.remaining_seconds - seconds)


_current: ContextVar[Budget | None] = ContextVar("redis_budget", default=None)


def current_budget() -> Budget | None:
    """The budget of the work that is running; None for background work, which waits as long as its client says."""
    return _current.get()


def start_budget(seconds: float | None) -> None:
    """Give the running task, and the tasks it starts, a budget; None frees it of one (long-lived streams)."""
    _current.set(None if seconds is None else Budget(seconds))


@contextmanager
def budget(seconds: float) -> Iterator[Budget]:
    """A budget for the duration of a block."""
    given = Budget(seconds)
    token = _current.set(given)
    try:
        yield given
    finally:
        _current.reset(token)
