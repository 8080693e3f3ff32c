"""Every way to declare a route, with every policy: each holds, or the application is not made."""

import functools
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from quart import Blueprint, Quart, websocket
from quart.testing.connections import WebsocketResponseError
from quart.views import MethodView
from quart.views import View as ClassView
from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.keys import Keys
from app.kit.limits.limiter import RateLimiter
from app.kit.telemetry import NoTelemetry
from app.web.caching.cached_view import cached_view
from app.web.context import EXTENSION
from app.web.declarations import DeclarationError
from app.web.guard import GuardedQuart
from app.web.identity.auth import require_auth, require_role
from app.web.limits.declare import exempt, rate_limit
from tests.web.identity.session_app import API_KEY, session_app, store_on

ADMIN = {"API-Key": API_KEY}
PATH = "/asked"
Declare = Callable[[Any], Any]
POLICIES: dict[str, Declare] = {
    "access": require_role("admin"),
    "limit": rate_limit("1/minute"),
    "cache": cached_view(60, public=True),
    "exempt": exempt("asked by a test"),
}
NAMES = {"access": "@require_role", "limit": "@rate_limit", "cache": "@cached_view", "exempt": "@exempt"}


class Service:
    """An application under test, and how often its view has run."""

    def __init__(self, app: GuardedQuart) -> None:
        self.app = app
        self.runs = 0

    @property
    def view(self) -> Callable[..., Awaitable[str]]:
        async def view(**arguments: Any) -> str:
            self.runs += 1
            return str(self.runs)

        return view

    def view_method(self) -> Any:
        async def get(_self: object, **arguments: Any) -> str:
            return await self.view(**arguments)

        return get

    @property
    def socket(self) -> Callable[..., Awaitable[None]]:
        async def socket() -> None:
            await websocket.send("hello")

        return socket


@pytest.fixture
def service(redis: Redis, keys: Keys) -> Service:
    store = store_on(redis, keys)
    app = session_app(store)
    app.extensions[EXTENSION] = SimpleNamespace(
        sessions=store, cache=Cache(redis, keys), limiter=RateLimiter(redis, keys), telemetry=NoTelemetry()
    )
    return Service(app)


MODULES: list[str] = []


def made_module(name: str) -> Any:
    """A module that the views under test come from."""
    MODULES.append(name)
    sys.modules[name] = module = ModuleType(name)
    return module


@pytest.fixture(autouse=True)
def _no_module_stays() -> Iterator[None]:
    yield
    HELD.clear()
    while MODULES:
        del sys.modules[MODULES.pop()]


def with_wraps(view: Any) -> Any:
    @functools.wraps(view)
    async def wrapped(*args: Any, **arguments: Any) -> Any:
        return await view(*args, **arguments)

    return wrapped


def without_wraps(view: Any) -> Any:
    async def wrapped(*args: Any, **arguments: Any) -> Any:
        return await view(*args, **arguments)

    return wrapped


class Holder:
    """A decorator that is a class."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self.__name__ = "holder"

    async def __call__(self, **arguments: Any) -> Any:
        return await self.view(**arguments)


HELD: dict[str, Any] = {}


def by_a_registry(view: Any) -> Any:
    """Keeps the view where no closure shows it."""
    HELD["view"] = view

    async def wrapped(**arguments: Any) -> Any:
        return await HELD["view"](**arguments)

    return wrapped


def decorator(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(declare(service.view))


def add_url_rule(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", declare(service.view))


def above_the_route(service: Service, declare: Declare) -> None:
    declare(service.app.get(PATH)(service.view))


def endpoint(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, endpoint="asked")
    service.app.endpoint("asked")(declare(service.view))


def endpoint_with_a_dot(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "no.such.blueprint", declare(service.view))


def two_rules(service: Service, declare: Declare) -> None:
    view = declare(service.view)
    service.app.add_url_rule("/other", "asked", view)
    service.app.add_url_rule(PATH, "asked", view)


def blueprint_route(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("outer", "outer")
    blueprint.get(PATH)(declare(service.view))
    service.app.register_blueprint(blueprint)


def nested_route(service: Service, declare: Declare) -> None:
    outer, inner = Blueprint("outer", "outer"), Blueprint("inner", "inner")
    inner.get(PATH)(declare(service.view))
    outer.register_blueprint(inner)
    service.app.register_blueprint(outer)


def on_a_blueprint(service: Service, declare: Declare) -> None:
    blueprint = declare(Blueprint("outer", "outer"))
    blueprint.get(PATH)(service.view)
    service.app.register_blueprint(blueprint)


def on_a_blueprint_after_it_was_registered(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("outer", "outer")
    blueprint.get(PATH)(service.view)
    service.app.register_blueprint(blueprint)
    declare(blueprint)


def on_the_outer_blueprint(service: Service, declare: Declare) -> None:
    outer, inner = declare(Blueprint("outer", "outer")), Blueprint("inner", "inner")
    inner.get(PATH)(service.view)
    outer.register_blueprint(inner)
    service.app.register_blueprint(outer, name="renamed")


def on_the_app(service: Service, declare: Declare) -> None:
    declare(service.app)
    service.app.get(PATH)(service.view)


def method_of_a_method_view(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = declare(service.view_method())

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def inherited_method(service: Service, declare: Declare) -> None:
    class Base(MethodView):
        get = declare(service.view_method())

    class Asked(Base):
        init_every_request = False

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def dispatch_request(service: Service, declare: Declare) -> None:
    class Asked(ClassView):
        dispatch_request = declare(service.view_method())

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def class_decorators(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        decorators = [declare, with_wraps]
        get = service.view_method()

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def view_decorators(service: Service, declare: Declare) -> None:
    class Asked(ClassView):
        decorators = [declare]
        dispatch_request = service.view_method()

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def on_the_class(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = service.view_method()

    service.app.add_url_rule(PATH, view_func=declare(Asked).as_view("asked"))


def on_as_view(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = service.view_method()

    service.app.add_url_rule(PATH, view_func=declare(Asked.as_view("asked")))


def bound_method(service: Service, declare: Declare) -> None:
    class Controller:
        show = declare(service.view_method())

    service.app.add_url_rule(PATH, "asked", Controller().show)


def callable_object(service: Service, declare: Declare) -> None:
    class Asked:
        def __call__(self) -> str:
            service.runs += 1
            return ""

    service.app.add_url_rule(PATH, "asked", declare(Asked()))


def under_wraps(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(with_wraps(with_wraps(declare(service.view))))


def after_the_app_is_made(service: Service, declare: Declare) -> None:
    service.app.compile_routes()
    service.app.get(PATH)(declare(service.view))


def declared_after_the_app_is_made(service: Service, declare: Declare) -> None:
    view = service.app.get(PATH)(service.view)
    service.app.compile_routes()
    declare(view)


def replaced_after_the_app_is_made(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", service.view)
    service.app.compile_routes()
    service.app.view_functions["asked"] = declare(service.view)


def under_no_wraps(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(without_wraps(declare(service.view)))


def under_no_wraps_twice(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", with_wraps(without_wraps(with_wraps(declare(service.view)))))


def under_a_class(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", Holder(declare(service.view)))


def under_a_partial(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", functools.partial(declare(service.view)))


def in_a_registry(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", by_a_registry(declare(service.view)))


def method_under_no_wraps(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = without_wraps(declare(service.view_method()))

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def class_decorators_under_no_wraps(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        decorators = [declare, without_wraps]
        get = service.view_method()

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def class_under_no_wraps(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = declare(service.view_method())

    service.app.add_url_rule(PATH, "asked", without_wraps(Asked.as_view("asked")))


def overridden_method(service: Service, declare: Declare) -> None:
    class Base(MethodView):
        get = declare(service.view_method())

    class Asked(Base):
        get = service.view_method()

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def method_of_no_route(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = service.view_method()
        load = declare(service.view_method())

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def under_no_wraps_after_the_app_is_made(service: Service, declare: Declare) -> None:
    service.app.compile_routes()
    service.app.get(PATH)(without_wraps(declare(service.view)))


def replaced_by_a_hidden_one(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", service.view)
    service.app.view_functions["asked"] = without_wraps(declare(service.view))


def beside_its_own_route(service: Service, declare: Declare) -> None:
    view = declare(service.view)
    service.app.add_url_rule("/other", "other", view)
    service.app.add_url_rule(PATH, "asked", without_wraps(view))


def static_method(service: Service, declare: Declare) -> None:
    class Controller:
        show = declare(staticmethod(service.view))

    service.app.add_url_rule(PATH, "asked", Controller.show)


def blueprint_that_is_not_registered(service: Service, declare: Declare) -> None:
    # Its routes belong to a module whose other blueprint is registered.
    module = made_module("declared_blueprints")
    module.left_out, module.taken = declare(Blueprint("b", module.__name__)), Blueprint("a", module.__name__)
    module.taken.get(PATH)(service.view)
    service.app.register_blueprint(module.taken)


def function_of_no_route(service: Service, declare: Declare) -> None:
    module = made_module("declared_functions")
    blueprint = Blueprint("a", module.__name__)
    blueprint.get(PATH)(service.view)
    module.forgotten = declare(service.view)
    service.app.register_blueprint(blueprint)


def socket_decorator(service: Service, declare: Declare) -> None:
    service.app.websocket(PATH)(declare(service.socket))


def add_websocket(service: Service, declare: Declare) -> None:
    service.app.add_websocket(PATH, "asked", declare(service.socket))


def blueprint_socket(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("outer", "outer")
    blueprint.websocket(PATH)(declare(service.socket))
    service.app.register_blueprint(blueprint)


def socket_of_a_declared_blueprint(service: Service, declare: Declare) -> None:
    outer, inner = declare(Blueprint("outer", "outer")), Blueprint("inner", "inner")
    inner.websocket(PATH)(service.socket)
    outer.register_blueprint(inner)
    service.app.register_blueprint(outer)


def socket_of_a_declared_app(service: Service, declare: Declare) -> None:
    declare(service.app)
    service.app.websocket(PATH)(service.socket)


def socket_after_the_app_is_made(service: Service, declare: Declare) -> None:
    service.app.compile_routes()
    service.app.websocket(PATH)(declare(service.socket))


def socket_under_no_wraps(service: Service, declare: Declare) -> None:
    service.app.websocket(PATH)(without_wraps(declare(service.socket)))


HOLD = [decorator, add_url_rule, above_the_route, endpoint, endpoint_with_a_dot, two_rules, blueprint_route]
HOLD += [nested_route, on_a_blueprint, on_a_blueprint_after_it_was_registered, on_the_outer_blueprint, on_the_app]
HOLD += [method_of_a_method_view, inherited_method, dispatch_request, class_decorators, view_decorators, on_the_class]
HOLD += [on_as_view, bound_method, callable_object, under_wraps, after_the_app_is_made]
HOLD += [declared_after_the_app_is_made, replaced_after_the_app_is_made]
REFUSED = [under_no_wraps, under_no_wraps_twice, under_a_class, under_a_partial, in_a_registry, method_under_no_wraps]
REFUSED += [class_decorators_under_no_wraps, class_under_no_wraps, overridden_method, method_of_no_route]
REFUSED += [under_no_wraps_after_the_app_is_made, replaced_by_a_hidden_one, beside_its_own_route, static_method]
REFUSED += [blueprint_that_is_not_registered, function_of_no_route, socket_under_no_wraps]
SOCKETS = [socket_decorator, add_websocket, blueprint_socket, socket_of_a_declared_blueprint, socket_of_a_declared_app]
SOCKETS += [socket_after_the_app_is_made]
# A cache belongs to a view that answers to GET.
NO_CACHE = {on_a_blueprint, on_a_blueprint_after_it_was_registered, on_the_outer_blueprint, on_the_app, *SOCKETS}
Way = Callable[[Service, Declare], None]


def declare(service: Service, way: Way, policy: str) -> None:
    if policy == "exempt" and way not in (on_the_app, socket_of_a_declared_app):
        rate_limit("1/minute")(service.app)
    way(service, POLICIES[policy])


async def status(app: Quart, headers: dict[str, str] | None = None) -> int:
    return (await app.test_client(use_cookies=False).get(PATH, headers=headers)).status_code


async def shake(app: Quart, headers: dict[str, str] | None = None) -> int:
    """The status of a handshake: 101 where it was accepted."""
    try:
        async with app.test_client(use_cookies=False).websocket(PATH, headers=headers) as connected:
            assert await connected.receive() == "hello"
    except WebsocketResponseError as error:
        return error.response.status_code
    return 101


async def assert_holds(policy: str, ask: Callable[..., Awaitable[int]], *, well: int) -> None:
    if policy == "access":
        assert [await ask(), await ask(headers=ADMIN)] == [401, well]
    elif policy == "limit":
        assert [await ask(), await ask()] == [well, 429]
    else:
        assert [await ask() for _ in range(3)] == [well] * 3


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", HOLD, ids=lambda way: way.__name__)
async def test_a_policy_holds(service: Service, way: Way, policy: str) -> None:
    if policy == "cache" and way in NO_CACHE:
        with pytest.raises(DeclarationError, match="@cached_view"):
            declare(service, way, policy)
        return
    declare(service, way, policy)
    if way not in (after_the_app_is_made, declared_after_the_app_is_made, replaced_after_the_app_is_made):
        service.app.compile_routes()
    await assert_holds(policy, functools.partial(status, service.app), well=200)
    if policy == "cache":
        assert service.runs == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.__name__)
async def test_a_policy_that_cannot_hold_is_named_at_the_start(service: Service, way: Way, policy: str) -> None:
    def make() -> None:
        declare(service, way, policy)
        service.app.compile_routes()

    with pytest.raises(DeclarationError, match=NAMES[policy]):
        make()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", SOCKETS, ids=lambda way: way.__name__)
async def test_a_policy_holds_for_a_websocket(service: Service, way: Way, policy: str) -> None:
    def make() -> None:
        declare(service, way, policy)
        service.app.compile_routes()

    if policy == "cache":
        with pytest.raises(DeclarationError, match="@cached_view"):
            make()
        return
    make()
    await assert_holds(policy, functools.partial(shake, service.app), well=101)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_route_that_is_added_while_serving_is_guarded_or_refused(service: Service, policy: str) -> None:
    app = service.app
    rate_limit("9/minute")(app)
    app.add_url_rule("/first", "first", service.view)
    async with app.test_app():
        assert (await app.test_client().get("/first")).status_code == 200
        with pytest.raises(DeclarationError, match=NAMES[policy]):
            app.get("/hidden")(without_wraps(POLICIES[policy](service.view)))
        assert (await app.test_client().get("/hidden")).status_code == 404
        decorator(service, POLICIES[policy])
        before = service.runs
        await assert_holds(policy, functools.partial(status, app), well=200)
        if policy == "cache":
            assert service.runs == before + 1


async def test_the_start_of_serving_finds_what_was_hidden_since_the_app_was_made(service: Service) -> None:
    service.app.add_url_rule(PATH, "asked", service.view)
    service.app.compile_routes()
    service.app.view_functions["asked"] = without_wraps(require_auth()(service.view))
    with pytest.raises(DeclarationError, match="@require_auth"):
        await service.app.startup()
    # A server that goes on nevertheless never runs the view.
    assert await status(service.app) == 500
    assert service.runs == 0
