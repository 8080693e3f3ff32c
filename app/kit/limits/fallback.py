"""Fallback: decides on limits that Redis cannot check, in this process, as each limit's `on_error` says."""

import time
from collections.abc import Iterable, Sequence

from app.kit.limits.decision import Decision, LimitStatus, ResolvedCharge
from app.kit.limits.limit import Limit
from app.kit.limits.local_window import LocalWindow
from app.kit.telemetry import Telemetry


class Fallback:
    """One closed limit refuses the request; local limits are counted in the window, all or none; open ones admit."""

    def __init__(self, window: LocalWindow, *, telemetry: Telemetry) -> None:
        self._window = window
        self._telemetry = telemetry

    def decide(self, charges: Sequence[ResolvedCharge], *, remembered: str) -> Decision:
        """`remembered` is passed on to the Decision. Its statuses are those of the local limits."""
        closed = [c for c in charges if c.limit.on_error == "closed" and not c.shadow]
        for charge in closed:
            self._count(charge.limit, "failed_closed")
        if closed:
            return Decision(allowed=False, unavailable=True, now_seconds=time.time())
        local = [c for c in charges if c.limit.on_error == "local"]
        for charge in charges:
            # Fails open: a limit that is not local is not counted at all.
            self._count(charge.limit, "local" if charge in local else "failed_open")
        admits = [self._window.room(c.key, c.limit) >= c.needs for c in local]
        allowed = all(fits or c.shadow for fits, c in zip(admits, local, strict=True))
        statuses = tuple(self._status(c, admits=fits, take=allowed) for c, fits in zip(local, admits, strict=True))
        return Decision(allowed=allowed, statuses=statuses, now_seconds=time.time(), local=True, remembered=remembered)

    def give_back(self, statuses: Iterable[LimitStatus]) -> None:
        """Free the units that decide() took for these statuses."""
        for limit_status in statuses:
            self._window.give_back(limit_status.key, stamp=limit_status.stamp)

    def forget(self, key: str) -> None:
        """Free all units of a key."""
        self._window.forget(key)

    def _status(self, charge: ResolvedCharge, *, admits: bool, take: bool) -> LimitStatus:
        limit, key, needs, takes, _ = charge
        stamp = self._window.take(key, units=takes) if admits and take and takes else 0.0
        remaining = max(0, self._window.room(key, limit))
        units = min(limit.amount, remaining + 1) if admits else needs
        wait_seconds = self._window.wait_seconds(key, limit, units=units)
        return LimitStatus(limit, key, needs, admits, remaining, wait_seconds, stamp)

    def _count(self, limit: Limit, outcome: str) -> None:
        self._telemetry.count("rate_limit", policy=limit.name, outcome=outcome)
