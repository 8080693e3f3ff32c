"""Decorators that declare the limits of a view, a blueprint or the app; for each route the nearest one counts."""

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar, Unpack

from quart import Quart

from app.kit.limits.limit import Charge, Limit, LimitOptions
from app.principal import Principal
from app.web.limits.subjects import Subject, by_address, is_read_from_body
from app.web.route_policy import Bearer, View, attach, policy_of

T = TypeVar("T")

LimitSpecs = str | Limit | Sequence[str | Limit] | None
# A text, a Limit, or a function that returns them for this request (by plan, by user); None: no limit.
Source = str | Limit | Callable[[Principal | None], LimitSpecs | Awaitable[LimitSpecs]]
Cost = int | Callable[[Principal | None], int | Awaitable[int]]

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.:+-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The declaration of one decorator. `needs_body`: the request's body tells who is counted, or how."""

    sources: tuple[Source, ...]
    subjects: tuple[Subject, ...]
    cost: Cost
    scope: str | None
    needs_body: bool
    options: LimitOptions

    def limit(self, source: str | Limit, endpoint: str, *, finder: str = "") -> Limit:
        """A text as a Limit, named after the route (or scope), the subject, the period, and the function that
        returned it (`finder`), if any. A Limit is returned unchanged."""
        if isinstance(source, Limit):
            return source
        who = "+".join(getattr(subject, "__name__", "custom").removeprefix("by_") for subject in self.subjects)
        owner = f"{self.scope or endpoint}:{who}" + (f":{finder}" if finder else "")
        return _parse(source, owner, tuple(self.options.items()))

    async def charges(self, principal: Principal | None, endpoint: str) -> list[Charge]:
        """The current request's charges on these limits; none where a subject is None."""
        parts = [await _resolve(subject(principal)) for subject in self.subjects]
        if None in parts:
            return []
        # repr() keeps several parts distinct, whatever they contain.
        who = str(parts[0]) if len(parts) == 1 else repr(parts)
        cost = await _resolve(self.cost(principal)) if callable(self.cost) else self.cost
        limits: list[Limit] = []
        for source in self.sources:
            found = await _resolve(source(principal)) if callable(source) else source
            finder = getattr(source, "__name__", "custom") if callable(source) else ""
            texts = [found] if isinstance(found, str | Limit) else found or []
            limits += [self.limit(text, endpoint, finder=finder) for text in texts]
        return [Charge(limit, who, cost) for limit in limits]


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """The limits of a route: those of every rule, checked together."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.declared("any")]
        if len(set(names)) < len(names):
            raise ValueError(f"two limits of one subject and period: name them by Limit.parse() ({', '.join(names)})")

    def declared(self, endpoint: str) -> list[Limit]:
        """The limits that are known without a request."""
        return [rule.limit(source, endpoint) for rule in self.rules for source in rule.sources if not callable(source)]


@dataclass(frozen=True, slots=True)
class Exemption:
    """A route without a limit, and why."""

    reason: str


def rate_limit(
    *limits: Source,
    key: Subject | tuple[Subject, ...] = by_address,
    cost: Cost = 1,
    scope: str | None = None,
    **options: Unpack[LimitOptions],
) -> Callable[[Bearer], Bearer]:
    """Limit a view, or each view of a blueprint or of the app: `@rate_limit("5/minute", "100/day")`.

    key     who is counted; with several, each combination of them
    cost    units that a request takes
    scope   routes of one scope share their limits; otherwise each route counts for itself
    Several decorators on one view add up. ValueError for an invalid limit.
    """
    subjects = key if isinstance(key, tuple) else (key,)
    needs_body = any(map(is_read_from_body, (*subjects, *limits, cost)))
    rule = Rule(sources=limits, subjects=subjects, cost=cost, scope=scope, needs_body=needs_body, options=options)

    def decorate(bearer: Bearer) -> Bearer:
        if policy_of(bearer, Exemption):
            raise TypeError(f"{bearer!r} is exempt")
        earlier = policy_of(bearer, RouteLimits)
        return attach(bearer, RouteLimits((rule, *(earlier.rules if earlier else ()))), replace=True)

    return decorate


def exempt(reason: str) -> Callable[[Bearer], Bearer]:
    """Declare that a view (or a blueprint) has no limit, and why."""
    if not reason:
        raise ValueError("an exemption needs a reason")

    def decorate(bearer: Bearer) -> Bearer:
        if policy_of(bearer, RouteLimits):
            raise TypeError(f"{bearer!r} has limits")
        return attach(bearer, Exemption(reason))

    return decorate


def policy_for(app: Quart, endpoint: str, view: View) -> RouteLimits | Exemption | None:
    """The policy of a route: the view's, else its blueprints' from the innermost out, else the app's."""
    names = endpoint.split(".")[:-1]
    blueprints = [app.blueprints[".".join(names[:n])] for n in range(len(names), 0, -1)]
    for bearer in (view, *blueprints, app):
        policy = policy_of(bearer, RouteLimits) or policy_of(bearer, Exemption)
        if policy:
            return policy
    return None


@lru_cache(maxsize=4096)
def _parse(text: str, owner: str, options: tuple[tuple[str, Any], ...]) -> Limit:
    limit = Limit.parse(text, name="unnamed", **dict(options))
    # A name begins with a letter or a digit; an endpoint may not.
    return replace(limit, name=_NOT_IN_A_NAME.sub("_", f"{owner}:{limit.period}").lstrip("_.:+-"))


async def _resolve(result: T | Awaitable[T]) -> T:
    return await result if inspect.isawaitable(result) else result
