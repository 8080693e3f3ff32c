"""Decision: what a check of limits found, for the caller to act on, to show, and to give back."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from app.kit.limits.limit import Limit


class ResolvedCharge(NamedTuple):
    """A charge as the limiter works with it. Where `shadow` is set it is counted if there is room, else let be."""

    limit: Limit
    key: str
    needs: int
    takes: int
    shadow: bool


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How one limit stands after the check."""

    limit: Limit
    key: str = field(repr=False)
    cost: int
    admits: bool
    remaining: int
    wait_seconds: float
    """Until there is room: for this request where it was refused, otherwise for one unit more than `remaining`."""
    stamp: float = 0
    """Identifies the units that were taken; 0: none."""

    def given_back(self) -> "LimitStatus":
        remaining = min(self.limit.capacity, self.remaining + self.cost)
        wait_seconds = self.wait_seconds if remaining < self.limit.capacity else 0.0
        return replace(self, remaining=remaining, wait_seconds=wait_seconds, stamp=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one check. `statuses` leaves out limits that were skipped for want of Redis."""

    allowed: bool
    statuses: tuple[LimitStatus, ...] = ()
    now_seconds: float
    """The time of the check, as epoch seconds of Redis' clock."""
    unavailable: bool = False
    """Refused because Redis is down and a limit is closed, not because anybody asked too often."""
    local: bool = False
    """Counted in this process, because Redis is down."""
    remembered: str = field(default="", repr=False)

    @property
    def refused(self) -> tuple[LimitStatus, ...]:
        """The limits for which the request was refused."""
        return tuple(s for s in self.statuses if not s.admits and not s.limit.shadow)

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds, at least 1, after which the same request has room in every limit."""
        return max(1, math.ceil(max((s.wait_seconds for s in self.refused), default=0)))
