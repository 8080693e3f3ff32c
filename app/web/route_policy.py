"""The policy of each route, compiled once from what is declared on its view, its class, its blueprints and the app."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from types import MethodType
from typing import Any, NamedTuple

from quart import Blueprint, Quart
from quart.views import View as ClassView
from quart.views import http_method_funcs
from quart_schema.validation import QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, QUART_SCHEMA_REQUEST_ATTRIBUTE, DataSource
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing import Rule as URLRule

from app.errors import NotFound
from app.web.caching.lookup import ViewCache
from app.web.declarations import Declaration, DeclarationError, View, declarations_on, declarations_within, declared
from app.web.idempotency import Idempotency
from app.web.identity.auth import Access
from app.web.limits.declare import Exemption, RouteLimits, Rule, route_limits

STATIC = Exemption("files are the same for everyone, and cost no backend anything")


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """What holds for the requests of a route. `is_open`: a file that needs no principal."""

    access: tuple[Access, ...]
    limits: RouteLimits | Exemption | None
    cache: ViewCache | None
    wants_json: bool
    is_open: bool
    is_idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A view as it was registered, what the guard runs in its place, and its policy.

    `by_method` has the policies of those methods that a class of views declares apart.
    """

    view: View
    run: View
    policy: RoutePolicy
    by_method: Mapping[str, RoutePolicy]
    declarations: frozenset[Declaration]


class FoundPolicy(NamedTuple):
    """The rule that a request matches, the arguments of its view, and the policy of its method."""

    rule: URLRule
    arguments: Mapping[str, Any]
    policy: RoutePolicy


def plain_rules(url_map: Map) -> dict[tuple[str, str], URLRule]:
    """The rules whose path is a text, by that and the method, as Werkzeug matches them: found without a search."""
    adapter, found = url_map.bind(""), {}
    for rule in url_map.iter_rules():
        for method in rule.methods or () if not rule.arguments else ():
            # A redirect is an HTTPException, too.
            with suppress(HTTPException):
                matched: Any = adapter.match(rule.rule, method, return_rule=True)
                if not matched[1]:
                    found[rule.rule, method] = matched[0]
    return found


def has_hooks(app: Quart, endpoint: str) -> bool:
    """Whether functions of the application run before or after the endpoint's view."""
    names = [None, *(".".join(endpoint.split(".")[:count]) for count in range(1, endpoint.count(".") + 1))]
    hooks: Any = (
        app.url_value_preprocessors,
        app.before_request_funcs,
        app.after_request_funcs,
        app.teardown_request_funcs,
    )
    return bool(app.teardown_appcontext_funcs) or any(each.get(name) for each in hooks for name in names)


def compile_routes(app: Quart) -> dict[str, Route]:
    """Every route of the app, by its endpoint.

    DeclarationError: a declaration cannot hold where it is, a decorator hides it, or no route of the app reaches it.
    Declarations are looked for in the modules of the views, of their decorators and of the blueprints.
    """
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()} & app.view_functions.keys()
    routes = {endpoint: compile_route(app, endpoint) for endpoint in sorted(endpoints)}
    reached = {each for route in routes.values() for each in route.declarations}
    unreached = _declared_for(app, (route.view for route in routes.values())) - reached
    if unreached:
        raise DeclarationError(f"no route reaches {_names(unreached)}: it would not be enforced")
    return routes


def compile_route(app: Quart, endpoint: str) -> Route:
    """The policies of one endpoint. DeclarationError: see compile_routes()."""
    view = app.view_functions[endpoint]
    refuse_hidden(view)
    rules = [rule for rule in app.url_map.iter_rules(endpoint) if not rule.build_only]
    outer: list[object] = [*_blueprints(app, endpoint), app]
    if _is_static(view):
        reached = frozenset(each for bearer in outer for each in declarations_on(bearer))
        access = _access(endpoint, outer)
        policy = RoutePolicy(access, STATIC, None, wants_json=False, is_open=not access)
        return Route(view, _missing_is_404(view), policy, {}, reached)
    by_method: dict[str, RoutePolicy] = {}
    reached_by: set[Declaration] = set()
    for method in sorted({method for rule in rules for method in rule.methods or ("GET",)} or {"GET"}):
        bearers = [*_near(view, method), *outer]
        reached_by.update(each for bearer in bearers for each in declarations_on(bearer))
        by_method[method] = _policy(endpoint, view, method, bearers)
    _restrict_caches(endpoint, view, by_method, rules)
    plain = by_method.get("GET") or next(iter(by_method.values()))
    apart = by_method if _class_of(view) is not None else {}
    return Route(view, view, plain, apart, frozenset(reached_by))


def refuse_hidden(view: View) -> None:
    """DeclarationError: the view holds a declaration that the guard does not find on it, so it would not hold."""
    cls = _class_of(view)
    names = ("dispatch_request", *http_method_funcs) if cls else ()
    seen = (view, cls, *(getattr(cls, name, None) for name in names))
    hidden = declarations_within([view]) - {each for bearer in seen for each in declarations_on(bearer)}
    if hidden:
        raise DeclarationError(
            f"{_name(view)} hides {_names(hidden)}: let each decorator use functools.wraps, or declare it outermost"
        )


def _policy(endpoint: str, view: View, method: str, bearers: list[object]) -> RoutePolicy:
    near = bearers[: len(_near(view, method))]
    limits: RouteLimits | Exemption | None = None
    for bearer in bearers:
        if rules := declared(bearer, Rule):
            own = _class_of(view) is not None and bearer is near[0]
            limits = route_limits(rules, owner=f"{endpoint}:{_verb(view, method)}" if own else endpoint)
        elif exemptions := declared(bearer, Exemption):
            limits = exemptions[0]
        if limits:
            break
    if any(declared(bearer, Idempotency) for bearer in near) and not any(declared(b, Access) for b in bearers):
        raise DeclarationError(f"{endpoint}: @idempotent is for a route that needs a principal")
    caches = [cache for bearer in near for cache in declared(bearer, ViewCache)]
    model = next(filter(None, (getattr(bearer, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, None) for bearer in near)), None)
    body = (getattr(bearer, QUART_SCHEMA_REQUEST_ATTRIBUTE, (None, None))[1] for bearer in near)
    return RoutePolicy(
        access=_access(endpoint, bearers),
        limits=limits,
        cache=replace(caches[0], query_model=model) if caches else None,
        wants_json=DataSource.JSON in body,
        is_open=False,
        is_idempotent=any(declared(bearer, Idempotency) for bearer in near),
    )


def _access(endpoint: str, bearers: Iterable[object]) -> tuple[Access, ...]:
    """Every rule on the way holds: a blueprint for admins has no view that one of its own rules opens to others."""
    rules = [access for bearer in bearers for access in declared(bearer, Access)]
    if rules and not frozenset.intersection(*(each.credentials for each in rules)):
        raise DeclarationError(f"{endpoint}: no credential satisfies all of its @require")
    return tuple(dict.fromkeys(rules))


def _restrict_caches(endpoint: str, view: View, by_method: dict[str, RoutePolicy], rules: list[URLRule]) -> None:
    """Only GET is cached, and a HEAD that it answers."""
    cached = {method: policy.cache for method, policy in by_method.items() if policy.cache}
    if not cached:
        return
    apart = [method for method in by_method if _verb(view, method) != "get" and _class_of(view)]
    misplaced = [method for method in apart if declared(_near(view, method)[0], ViewCache)]
    if "GET" not in cached or misplaced or all(rule.websocket for rule in rules):
        raise DeclarationError(f"{endpoint}: @cached_view is for what answers to GET")
    for policy in cached.values():
        for rule in rules:
            try:
                policy.tags.check({*rule.arguments, *policy.query})
            except TypeError as error:
                raise DeclarationError(f"{endpoint}: @cached_view: {error}") from error
    for method in (*apart, *(by_method.keys() - {"GET", "HEAD"})):
        by_method[method] = replace(by_method[method], cache=None)


def _near(view: View, method: str) -> list[object]:
    """What belongs to the view alone, the nearest first."""
    cls = _class_of(view)
    if cls is None:
        return [view]
    return [getattr(cls, _verb(view, method), None), cls.dispatch_request, view, cls]


def _verb(view: View, method: str) -> str:
    """The method of the class that answers: GET's for HEAD, unless HEAD has its own."""
    cls = _class_of(view)
    return "get" if method == "HEAD" and not hasattr(cls, "head") else method.lower()


def _class_of(view: View) -> type[ClassView] | None:
    found: type[ClassView] | None = getattr(view, "view_class", None)
    return found


def _blueprints(app: Quart, endpoint: str) -> Iterator[Blueprint]:
    """From the innermost out. A dot in an endpoint need not name a blueprint."""
    names = endpoint.split(".")[:-1]
    for count in range(len(names), 0, -1):
        blueprint: Any = app.blueprints.get(".".join(names[:count]))
        if blueprint is not None:
            yield blueprint


def _is_static(view: View) -> bool:
    """Whether it serves the static folder of the app or of a blueprint."""
    return isinstance(view, MethodType) and view.__func__ in (Quart.send_static_file, Blueprint.send_static_file)


def _missing_is_404(view: View) -> View:
    @wraps(view)
    async def static(**arguments: Any) -> Any:
        try:
            return await view(**arguments)
        except (OSError, ValueError) as error:
            # A name that no file system takes: too long, or with a NUL in it.
            raise NotFound("There is nothing at this path.") from error

    return static


def _declared_for(app: Quart, views: Iterable[View]) -> set[Declaration]:
    """What is declared in the modules that the app's views and blueprints come from, and on what the app itself holds.

    An access rule on a function of before_request(), say, would seem to guard a blueprint.
    """
    blueprints: list[Any] = list(app.blueprints.values())
    names = {blueprint.import_name for blueprint in blueprints}
    found = declarations_within(views, modules=names)
    modules = names & sys.modules.keys()
    values = [value for name in modules for value in vars(sys.modules[name]).values()]
    found |= declarations_within((*vars(app).values(), *values), inside=modules)
    blueprints += [value for value in values if isinstance(value, Blueprint)]
    return found | {each for bearer in (*blueprints, app) for each in declarations_on(bearer)}


def _names(declarations: Iterable[Declaration]) -> str:
    return ", ".join(sorted(map(str, declarations)))


def _name(view: View) -> str:
    return f"{getattr(view, '__module__', '?')}.{getattr(view, '__qualname__', repr(view))}"
