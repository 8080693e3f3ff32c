"""Decorators that declare the limits of a view, a blueprint or the app; for each route the nearest one counts."""

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Unpack

from app.kit.limits.limit import Limit, LimitOptions
from app.principal import Principal
from app.web.declarations import Bearer, DeclarationError, attach, declarations_on, declared
from app.web.limits.subjects import Subject, by_address, is_address, is_read_from_body

LimitSpecs = str | Limit | Sequence[str | Limit] | None
# A text, a Limit, or a function that returns them for this request (by plan, by user); None: no limit.
Finder = Callable[[Principal | None], LimitSpecs | Awaitable[LimitSpecs]]
Source = str | Limit | Finder
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

    def limit(self, source: str | Limit, owner: str, *, finder: str = "") -> Limit:
        """A text as a Limit, named after its owner (a route, unless there is a scope), the subject, the period, and
        the function that returned it (`finder`), if any. A Limit is returned unchanged."""
        if isinstance(source, Limit):
            return source
        who = "+".join(getattr(subject, "__name__", "custom").removeprefix("by_") for subject in self.subjects)
        name = f"{self.scope or owner}:{who}" + (f":{finder}" if finder else "")
        return _parse(source, name, tuple(self.options.items()))

    @property
    def finders(self) -> tuple["Finder", ...]:
        """The functions that return limits for a request."""
        return tuple(source for source in self.sources if not isinstance(source, str | Limit))

    def fixed(self, owner: str) -> tuple[Limit, ...]:
        """The limits that are known without a request."""
        return tuple(self.limit(source, owner) for source in self.sources if isinstance(source, str | Limit))


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A rule as it holds for one route: what is known without a request is made, once."""

    rule: Rule
    owner: str
    limits: tuple[Limit, ...]
    finders: tuple[Finder, ...]

    def found(self, specs: LimitSpecs, finder: object) -> list[Limit]:
        """The limits that a function has returned for this request."""
        texts = [specs] if isinstance(specs, str | Limit) else specs or []
        name = getattr(finder, "__name__", "custom")
        return [self.rule.limit(text, self.owner, finder=name) for text in texts]


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """The limits of a route: those of every rule, checked together.

    fixed           those that are known without a request, each with what a request takes of it
    of_addresses    whether these are all, and count the client's network
    of_visitors     whether they do for a request without credential
    """

    rules: tuple[RouteRule, ...]
    fixed: tuple[tuple[Limit, int], ...] = field(init=False)
    of_addresses: bool = field(init=False)
    of_visitors: bool = field(init=False)

    def __post_init__(self) -> None:
        fixed = [(limit, each.rule.cost) for each in self.rules for limit in each.limits]
        object.__setattr__(self, "fixed", tuple((limit, cost) for limit, cost in fixed if isinstance(cost, int)))
        object.__setattr__(self, "of_addresses", self._all_count_address(visitor=False))
        object.__setattr__(self, "of_visitors", self._all_count_address(visitor=True))

    def _all_count_address(self, *, visitor: bool) -> bool:
        return all(
            not each.finders
            and not each.rule.needs_body
            and isinstance(each.rule.cost, int)
            and len(each.rule.subjects) == 1
            and is_address(each.rule.subjects[0], visitor=visitor)
            for each in self.rules
        )

    def declared(self) -> list[Limit]:
        """The limits that are known without a request."""
        return [limit for each in self.rules for limit in each.limits]


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
    """Limit a view, or each view of a class, a blueprint or the app: `@rate_limit("5/minute", "100/day")`.

    key     who is counted; with several, each combination of them
    cost    units that a request takes
    scope   routes of one scope share their limits; otherwise each route counts for itself
    Several decorators on one view add up. ValueError or TypeError for a limit that is invalid or could not hold.
    """
    subjects = key if isinstance(key, tuple) else (key,)
    needs_body = any(map(is_read_from_body, (*subjects, *limits, cost)))
    rule = Rule(sources=limits, subjects=subjects, cost=cost, scope=scope, needs_body=needs_body, options=options)
    _check(rule)

    def decorate(bearer: Bearer) -> Bearer:
        if declared(bearer, Exemption):
            raise DeclarationError(f"{bearer!r} is exempt")
        # Of several decorators together, too: two limits of one name would be one.
        route_limits((rule, *declared(bearer, Rule)), owner="any")
        return attach(bearer, rule, decorator="@rate_limit")

    return decorate


def exempt(reason: str) -> Callable[[Bearer], Bearer]:
    """Declare that a view (or a blueprint) has no limit, and why."""
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("an exemption needs a reason, as a text")

    def decorate(bearer: Bearer) -> Bearer:
        if any(isinstance(each.policy, Rule | Exemption) for each in declarations_on(bearer)):
            raise DeclarationError(f"{bearer!r} has limits, or is exempt already")
        return attach(bearer, Exemption(reason), decorator="@exempt")

    return decorate


def route_limits(rules: Sequence[Rule], *, owner: str) -> RouteLimits:
    """These rules as they hold for a route. ValueError: two of their limits would be one."""
    found = RouteLimits(tuple(RouteRule(rule, owner, rule.fixed(owner), rule.finders) for rule in rules))
    names = [limit.name for limit in found.declared()]
    if len(set(names)) < len(names):
        raise ValueError(f"two limits of one subject and period: name them by Limit.parse() ({', '.join(names)})")
    return found


def _check(rule: Rule) -> None:
    if not rule.sources or not rule.subjects:
        raise ValueError("a rate limit needs a limit, and a subject that is counted")
    for function in (*rule.subjects, *rule.finders, *([rule.cost] if callable(rule.cost) else ())):
        _check_takes_principal(function)
    if (rule.options or rule.scope is not None) and all(isinstance(source, Limit) for source in rule.sources):
        raise TypeError("a Limit has its own options and name: give them to it, not to rate_limit()")
    # The options of texts that are known only with a request.
    Limit(name="unnamed", amount=rule.options.get("burst") or 1, window_seconds=60, **rule.options)
    limits = rule.fixed("any")
    if callable(rule.cost):
        return
    if type(rule.cost) is not int or rule.cost < 1:
        raise ValueError(f"a cost is a whole number of units, 1 or more, not {rule.cost!r}")
    for limit in limits:
        if rule.cost > limit.capacity and not limit.shadow:
            raise ValueError(f"a cost of {rule.cost} is more than {limit.name} admits at once ({limit.capacity})")


def _check_takes_principal(function: Any) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise TypeError(f"{function!r} is no function of the principal, as limits, keys and costs are") from error


@lru_cache(maxsize=4096)
def _parse(text: str, owner: str, options: tuple[tuple[str, Any], ...]) -> Limit:
    limit = Limit.parse(text, name="unnamed", **dict(options))
    # A name begins with a letter or a digit; an endpoint may not.
    return replace(limit, name=_NOT_IN_A_NAME.sub("_", f"{owner}:{limit.period}").lstrip("_.:+-"))
