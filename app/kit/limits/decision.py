"""Decision: the result of a check of limits, which the caller applies, shows and may give back."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from app.kit.limits.limit import Limit


class ResolvedCharge(NamedTuple):
    """A charge with its key.

    The limit admits it when `needs` units are free, and `takes` of them are counted. A `shadow` refuses nothing:
    it is counted where there is room.
    """

    limit: Limit
    key: str
    needs: int
    takes: int
    shadow: bool


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The status of one limit after the check."""

    limit: Limit
    key: str = field(repr=False)
    cost: int
    admits: bool
    remaining: int
    wait_seconds: float
    """Until there is room: for this request where it was refused, otherwise for one unit more than `remaining`."""
    stamp: float = 0
    """Identifies the units that the check took, so that exactly they can be given back; 0: none were taken.

    log: the time of the first unit in µs; each unit more has a time 1 µs later (limits/lua/check.lua).
    counter: the number of the fixed window that counted them. gcra: the theoretical arrival time after them, in µs.
    Counted by LocalWindow: the time of all of them, in seconds of its clock.
    """

    def given_back(self) -> "LimitStatus":
        """The status once the units of this check are free again."""
        remaining = min(self.limit.capacity, self.remaining + self.cost)
        wait_seconds = self.wait_seconds if remaining < self.limit.capacity else 0.0
        return replace(self, remaining=remaining, wait_seconds=wait_seconds, stamp=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of one check. `statuses` leaves out the open limits that Redis did not check."""

    allowed: bool
    statuses: tuple[LimitStatus, ...] = ()
    now_seconds: float
    """The time of the check, as epoch seconds of Redis' clock."""
    unavailable: bool = False
    """Refused because a closed limit could not be checked, not because a limit was exceeded."""
    local: bool = False
    """Counted in this process, because Redis did not check it."""
    remembered: str = field(default="", repr=False)
    """The key by which Redis recognises a repeat of the check."""

    @property
    def refused(self) -> tuple[LimitStatus, ...]:
        """The limits for which the request was refused."""
        return tuple(s for s in self.statuses if not s.admits and not s.limit.shadow)

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds, at least 1, after which the same request has room in every limit."""
        return max(1, math.ceil(max((s.wait_seconds for s in self.refused), default=0)))
