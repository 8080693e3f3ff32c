"""LocalWindow: counts limits in this process alone, while Redis does not."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from app.kit.limits.limit import Limit


class LocalWindow:
    """An exact sliding log for each key, whatever the limit's algorithm. Never more than `max_units` are held:
    beyond that the keys used longest ago are forgotten.
    """

    def __init__(self, *, max_units: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_units = max_units
        self._clock = clock
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()
        self._units = 0

    def room(self, key: str, limit: Limit) -> int:
        """The units free now."""
        log = self._logs.get(key)
        if log is None:
            return limit.amount
        horizon = self._clock() - limit.window_seconds
        while log and log[0] <= horizon:
            log.popleft()
            self._units -= 1
        if not log:
            del self._logs[key]
        return limit.amount - len(log)

    def wait_seconds(self, key: str, limit: Limit, *, units: int) -> float:
        """Seconds until `units` (at most the amount) are free, if no more are taken."""
        leaving = units - self.room(key, limit)
        log = self._logs.get(key)
        return log[leaving - 1] + limit.window_seconds - self._clock() if log and leaving > 0 else 0.0

    def take(self, key: str, *, units: int) -> float:
        """Count `units`; returns their stamp for give_back() (see LimitStatus.stamp)."""
        log = self._logs.setdefault(key, deque())
        self._logs.move_to_end(key)
        # The units of two calls have different times, so that give_back() finds those of one.
        stamp = max(self._clock(), log[-1] + 1e-6 if log else 0.0)
        log.extend([stamp] * units)
        self._units += units
        while self._units > self._max_units:
            _, forgotten = self._logs.popitem(last=False)
            self._units -= len(forgotten)
        return stamp

    def give_back(self, key: str, *, stamp: float) -> None:
        """Free the units of this stamp that are still counted."""
        log = self._logs.get(key, deque())
        kept = [time for time in log if time != stamp]
        self._units -= len(log) - len(kept)
        if kept:
            self._logs[key] = deque(kept)
        else:
            self._logs.pop(key, None)

    def forget(self, key: str) -> None:
        """Free all units of a key."""
        self._units -= len(self._logs.pop(key, ()))
