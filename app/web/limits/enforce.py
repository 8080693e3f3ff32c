"""Rate limits: enforced before the view, settled by its outcome, and shown in the response's headers."""

import asyncio
import inspect
import math
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from app.errors import TooLarge, Unavailable
from app.kit.limits.decision import Decision, LimitStatus
from app.kit.limits.limit import Charge, CostTooHigh
from app.kit.limits.limiter import RateLimiter
from app.principal import Principal
from app.web.context import RawHeaders, exchange, resources
from app.web.limits.declare import Exemption, RouteLimits, RouteRule
from app.web.problems import rate_limited

T = TypeVar("T")


async def enforce(limits: RouteLimits | Exemption | None, principal: Principal | None, *, with_body: bool) -> None:
    """Take from those limits of the route that need the request's body, or from those that do not.

    TooManyRequests: one is exceeded. Unavailable: a closed one was not checked. TooLarge: the request costs more than
    a limit ever admits at once.
    """
    if not isinstance(limits, RouteLimits):
        return
    early = exchange().early_decision
    if early is not None:
        # The edge has asked for all of them; only their first check counts.
        if not with_body:
            apply(early)
        return
    rules = [each for each in limits.rules if each.rule.needs_body is with_body]
    charges = [charge for each in rules for charge in await _charges(each, principal)]
    if not charges:
        return
    try:
        # Without the request's id: clients choose it, and one that was sent again would count once.
        decision = await resources().limiter.check(charges)
    except CostTooHigh as error:
        raise TooLarge("This request takes more than its limit ever admits at once.") from error
    apply(decision)


async def _charges(route_rule: RouteRule, principal: Principal | None) -> list[Charge]:
    """The current request's charges on these limits; none where a subject is None."""
    rule = route_rule.rule
    parts = [await _resolve(subject(principal)) for subject in rule.subjects]
    if None in parts:
        return []
    # repr() keeps several parts distinct, whatever they contain.
    who = str(parts[0]) if len(parts) == 1 else repr(parts)
    cost = await _resolve(rule.cost(principal)) if callable(rule.cost) else rule.cost
    limits = [*route_rule.limits]
    for finder in route_rule.finders:
        limits += route_rule.found(await _resolve(finder(principal)), finder)
    return [Charge(limit, who, cost) for limit in limits]


async def _resolve(result: T | Awaitable[T]) -> T:
    return await result if inspect.isawaitable(result) else result


def apply(decision: Decision) -> None:
    """Raise where the decision refuses; otherwise the response shows and settles it.

    For a limit whose subject is known only inside the handler: `apply(await limiter.check([(limit, email)]))`.
    """
    exchange().decisions.append(decision)
    if decision.unavailable:
        # Fails closed: the limit refuses what it cannot count.
        raise Unavailable("The limits of this route cannot be checked now.")
    if not decision.allowed:
        raise rate_limited(decision)


async def settle(decisions: list[Decision], limiter: RateLimiter, *, succeeded: bool) -> None:
    """Apply the outcome. Where one limit refused, none takes anything."""
    if all(limiter.is_settled(decision) for decision in decisions):
        return
    if all(decision.allowed for decision in decisions):
        ends = [limiter.settle(decision, succeeded=succeeded) for decision in decisions]
    else:
        ends = [limiter.refund(decision) for decision in decisions]
    decisions[:] = await asyncio.gather(*ends) if len(ends) > 1 else [await ends[0]]


def limit_headers(decisions: Iterable[Decision]) -> RawHeaders:
    """X-RateLimit-* for the tightest limit, RateLimit-Policy and RateLimit for all.

    The latter two are those of draft-ietf-httpapi-ratelimit-headers-11, which no other function knows. `t` (seconds
    from now) and X-RateLimit-Reset (epoch seconds) say when the next unit is free.
    """
    found = [(s, d.now_seconds) for d in decisions for s in d.statuses if not s.limit.shadow]
    if not found:
        return []
    tightest, now_seconds = min(found, key=lambda pair: _tightness(pair[0])) if len(found) > 1 else found[0]
    # Two subjects of one policy may have been checked; the draft allows each policy only once.
    shown: dict[str, LimitStatus] = {}
    for limit_status, _ in found:
        name = limit_status.limit.name
        shown[name] = min(limit_status, shown[name], key=_tightness) if name in shown else limit_status
    policies = [f'"{name}";q={s.limit.amount};w={s.limit.window_seconds}' for name, s in shown.items()]
    states = [f'"{name}";r={s.remaining};t={math.ceil(s.wait_seconds)}' for name, s in shown.items()]
    return [
        (b"x-ratelimit-limit", b"%d" % tightest.limit.amount),
        (b"x-ratelimit-remaining", b"%d" % tightest.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(now_seconds + tightest.wait_seconds)),
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]


def _tightness(limit_status: LimitStatus) -> tuple[bool, int, float]:
    """Orders what refused first, then what has the least left, then what takes longest."""
    return limit_status.admits, limit_status.remaining, -limit_status.wait_seconds
