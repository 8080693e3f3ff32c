"""RateLimiter: all limits of a request checked in one round trip, by Redis' clock, all or nothing."""

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.client.errors import UNAVAILABLE, record_failure
from app.kit.keys import Keys, digest
from app.kit.limits.decision import Decision, LimitStatus, ResolvedCharge
from app.kit.limits.fallback import Fallback
from app.kit.limits.limit import Charge, CostTooHigh, Limit
from app.kit.limits.local_window import LocalWindow
from app.kit.scripts import Argument, run_script
from app.kit.telemetry import NoTelemetry, Telemetry

logger = logging.getLogger(__name__)

# Longer than a client repeats a command whose reply was lost.
REMEMBER_CHECK_MS = 10_000
REMEMBER_REFUND_MS = 60_000
SHORT_SUBJECT = 128

Charges = Iterable[Charge | tuple[Limit, str]]


class RateLimiter:
    """Checks limits, and gives back what they took.

    `secret` keys the hash of subjects, so that the keys in Redis do not reveal addresses. `local` counts what Redis
    cannot. `now_us` replaces Redis' clock and is for tests only: the clocks of several nodes disagree.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        telemetry: Telemetry | None = None,
        secret: bytes = b"",
        local: LocalWindow | None = None,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._telemetry = telemetry or NoTelemetry()
        self._secret = secret
        self._fallback = Fallback(local or LocalWindow(), telemetry=self._telemetry)
        self._now_us = now_us
        self._was_available = True
        self._process = secrets.token_hex(8)
        self._numbers = count()
        # A client asks more than once; its address is hashed once.
        self._digest = lru_cache(maxsize=2048)(self._hash)

    async def check(self, charges: Charges, *, cost: int = 1, request_id: str | None = None) -> Decision:
        """Take the cost of every charge, or of none where one limit refuses. `cost` is that of the plain tuples.

        Without Redis, or where it refuses the script, each limit does as its `on_error` says. The same charges with
        the same `request_id` count once; it must not come from a client, who could repeat it.
        CostTooHigh: a cost exceeds what its limit ever admits at once.
        """
        resolved = [self._resolve(c if isinstance(c, Charge) else Charge(*c, cost=cost)) for c in charges]
        keys = [charge.key for charge in resolved]
        if len(set(keys)) < len(keys):
            raise ValueError("two of these limits share a name, window and subject: give one of them another name")
        if request_id is None:
            # No other check has this number, and no other process these digits.
            check = f"{self._process}-{next(self._numbers):x}"
        else:
            check = digest("\n".join([request_id, *keys]))[:32]
        decision = await self._decide(resolved, remembered=self._keys.limit_check(check))
        self._report(decision)
        return decision

    def is_settled(self, decision: Decision) -> bool:
        """Whether the outcome of the request changes nothing: it was allowed, and each limit counts every request."""
        return decision.allowed and not [s for s in decision.statuses if s.limit.counts != "every"]

    async def settle(self, decision: Decision, *, succeeded: bool) -> Decision:
        """Apply the outcome of the request: a success gives `reserved` units back, a failure counts for `failures`."""
        if not decision.allowed:
            return decision
        if succeeded:
            return await self._give_back(decision, [s for s in decision.statuses if s.limit.counts == "reserved"])
        failures = [s for s in decision.statuses if s.limit.counts == "failures"]
        resolved = [ResolvedCharge(s.limit, s.key, needs=s.cost, takes=s.cost, shadow=True) for s in failures]
        found = await self._decide(resolved, remembered=f"{decision.remembered}:failed")
        by_key = {s.key: s for s in found.statuses}
        return replace(decision, statuses=tuple(by_key.get(s.key, s) for s in decision.statuses))

    async def refund(self, decision: Decision) -> Decision:
        """Give back all units that the check took. A second call gives nothing back."""
        return await self._give_back(decision, list(decision.statuses))

    async def peek(self, charges: Charges) -> Decision:
        """The status of the limits for one unit more; nothing is taken. RedisError when Redis cannot answer."""
        resolved = [self._resolve(Charge(*c))._replace(needs=1, takes=0) for c in charges]
        return await self._ask(resolved, remembered="")

    async def reset(self, charges: Charges) -> int:
        """Free all units of these limits and subjects, in this process and in Redis.

        Returns how many had a key in Redis. RedisError when Redis cannot answer.
        """
        keys = [self._resolve(Charge(*c)).key for c in charges]
        for key in keys:
            self._fallback.forget(key)
        return int(await self._redis.unlink(*keys)) if keys else 0

    def _resolve(self, charge: Charge) -> ResolvedCharge:
        limit, subject, cost = charge
        if type(cost) is not int or cost < 0:
            raise ValueError(f"{limit.name}: a cost is a whole number of units, 0 or more, not {cost!r}")
        if cost > limit.capacity:
            if not limit.shadow:
                raise CostTooHigh(f"{limit.name} admits at most {limit.capacity} at once, not {cost}")
            cost = limit.capacity
        # The window and the algorithm are part of the key: a limit that was redefined starts anew.
        policy = f"{limit.name}/{limit.algorithm}{limit.window_seconds}"
        # Keys have one length, whatever the subject's; at 128 bits a collision is not to be expected.
        subject_digest = self._digest(subject) if len(subject) <= SHORT_SUBJECT else self._hash(subject)
        takes = 0 if limit.counts == "failures" else cost
        return ResolvedCharge(
            limit, self._keys.limit(policy, subject_digest), needs=cost, takes=takes, shadow=limit.shadow
        )

    def _hash(self, subject: str) -> str:
        return hmac.digest(self._secret, subject.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]

    async def _decide(self, resolved: Sequence[ResolvedCharge], *, remembered: str) -> Decision:
        if not resolved:
            return Decision(allowed=True, now_seconds=time.time(), remembered=remembered)
        try:
            decision = await self._ask(resolved, remembered=remembered)
        except RedisError as error:
            # Fails as each limit's `on_error` says, for an outage and for a defect alike.
            record_failure(error, block="limits", telemetry=self._telemetry)
            self._log_change(available=not isinstance(error, UNAVAILABLE), reason=type(error).__name__)
            return self._fallback.decide(resolved, remembered=remembered)
        self._log_change(available=True)
        return decision

    async def _ask(self, resolved: Sequence[ResolvedCharge], *, remembered: str) -> Decision:
        """All limits in one script. A check that takes nothing is not remembered: repeating it does no harm."""
        takes = any(charge.takes for charge in resolved)
        args: list[Argument] = [REMEMBER_CHECK_MS if takes else 0, self._now_us() if self._now_us else ""]
        for limit, _, needs, taken, shadow in resolved:
            args += [limit.algorithm, limit.window_seconds * 1_000_000, limit.amount, limit.capacity]
            args += [needs, taken, int(shadow)]
        # The first key shares the others' hash tag even where it is not used.
        names = [remembered or self._keys.limit_check(""), *(charge.key for charge in resolved)]
        admitted, now_us, *found = await run_script(self._redis, "limits/check", keys=names, args=args, repeatable=True)
        statuses = []
        for n, charge in zip(range(0, len(found), 4), resolved, strict=True):
            admits, remaining, wait_us, stamp = found[n : n + 4]
            statuses.append(
                LimitStatus(charge.limit, charge.key, charge.needs, bool(admits), remaining, wait_us / 1e6, stamp)
            )
        return Decision(
            allowed=bool(admitted), statuses=tuple(statuses), now_seconds=now_us / 1e6, remembered=remembered
        )

    async def _give_back(self, decision: Decision, statuses: Sequence[LimitStatus]) -> Decision:
        taken = [s for s in statuses if s.stamp]
        if not taken:
            return decision
        if decision.local:
            self._fallback.give_back(taken)
        else:
            args: list[Argument] = [REMEMBER_REFUND_MS, self._now_us() if self._now_us else ""]
            for s in taken:
                args += [s.limit.algorithm, s.limit.window_seconds * 1_000_000, s.limit.amount, s.cost, int(s.stamp)]
            names = [decision.remembered, *(s.key for s in taken)]
            try:
                await run_script(self._redis, "limits/refund", keys=names, args=args, repeatable=True)
            except RedisError as error:
                # Fails closed: the units stay taken until their window has passed.
                record_failure(error, block="limits", telemetry=self._telemetry)
                for limit_status in taken:
                    self._count(limit_status.limit, "refund_lost")
                return decision
        after = tuple(s.given_back() if s in taken else s for s in decision.statuses)
        return replace(decision, statuses=after)

    def _report(self, decision: Decision) -> None:
        for limit_status in decision.statuses:
            if limit_status.admits and decision.allowed:
                self._count(limit_status.limit, "allowed")
            elif not limit_status.admits:
                self._count(limit_status.limit, "shadow" if limit_status.limit.shadow else "denied")

    def _count(self, limit: Limit, outcome: str) -> None:
        self._telemetry.count("rate_limit", policy=limit.name, outcome=outcome)

    def _log_change(self, *, available: bool, reason: str = "") -> None:
        """Log the first check of an outage and the first one after it, none in between."""
        if available != self._was_available:
            self._was_available = available
            logger.warning("limits: redis %s", "answers again" if available else f"is unavailable ({reason})")
