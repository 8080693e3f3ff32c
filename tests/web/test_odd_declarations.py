"""Ways to declare a route that are rare, or mistaken: as in test_declarations, each holds, or the app is not made."""

import collections
import functools
from collections.abc import AsyncIterator
from types import MethodType
from typing import Any

import pytest
from quart import Blueprint
from quart.views import MethodView
from quart.views import View as ClassView
from werkzeug.routing import Rule

from app.web.declarations import DeclarationError
from tests.web import test_declarations as usual
from tests.web.test_declarations import (
    NAMES,
    PATH,
    POLICIES,
    Declare,
    Service,
    Way,
    assert_holds,
    declare,
    shake,
    status,
    with_wraps,
    without_wraps,
)

service = usual.service


class SlottedHolder:
    """A decorator that is a class without a __dict__."""

    __slots__ = ("__name__", "view")

    def __init__(self, view: Any) -> None:
        self.view = view
        self.__name__ = "slotted"

    async def __call__(self, **arguments: Any) -> Any:
        return await self.view(**arguments)


class KeptView(list[Any]):
    """A container of a type of its own."""


def held_in(container: Any, key: Any) -> Any:
    async def wrapped(**arguments: Any) -> Any:
        return await container[key](**arguments)

    return wrapped


def registered_twice(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("b", "b")
    blueprint.get(PATH)(declare(service.view))
    service.app.register_blueprint(blueprint, url_prefix="/first")
    service.app.register_blueprint(blueprint, name="again")


def declared_blueprint_registered_twice(service: Service, declare: Declare) -> None:
    blueprint = declare(Blueprint("b", "b"))
    blueprint.get(PATH)(service.view)
    service.app.register_blueprint(blueprint, url_prefix="/first")
    service.app.register_blueprint(blueprint, name="again")


def inner_of_the_same_name(service: Service, declare: Declare) -> None:
    outer, inner = Blueprint("same", "outer"), declare(Blueprint("same", "inner"))
    inner.get(PATH)(service.view)
    outer.register_blueprint(inner)
    service.app.register_blueprint(outer)


def inner_registered_under_two_outer_ones(service: Service, declare: Declare) -> None:
    inner = Blueprint("inner", "inner")
    inner.get(PATH)(service.view)
    for name, prefix, outer in (("a", "/a", Blueprint("a", "a")), ("b", None, declare(Blueprint("b", "b")))):
        outer.register_blueprint(inner)
        service.app.register_blueprint(outer, name=name, url_prefix=prefix)


def recorded_by_a_blueprint(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("b", "b")
    view = declare(service.view)
    blueprint.record(lambda state: state.app.add_url_rule(PATH, "asked", view))
    service.app.register_blueprint(blueprint)


def with_url_defaults(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("b", "b", url_defaults={"kind": "a"})
    blueprint.get(PATH)(declare(service.view))
    service.app.register_blueprint(blueprint, url_defaults={"other": "b"})


def with_defaults(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", declare(service.view), defaults={"kind": "a"})


def by_the_map_of_urls(service: Service, declare: Declare) -> None:
    service.app.view_functions["asked"] = declare(service.view)
    service.app.url_map.add(Rule(PATH, endpoint="asked"))


def by_host(service: Service, declare: Declare) -> None:
    service.app.url_map.host_matching = True
    service.app.add_url_rule(PATH, "asked", declare(service.view), host="localhost")


def with_options_of_its_own(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(
        PATH, "asked", declare(service.view), methods=["GET", "OPTIONS"], provide_automatic_options=False
    )


def with_methods_on_the_view(service: Service, declare: Declare) -> None:
    view: Any = service.view
    view.methods, view.required_methods, view.provide_automatic_options = {"GET"}, {"HEAD"}, False
    service.app.add_url_rule(PATH, "asked", declare(view))


def partial_itself(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", declare(functools.partial(service.view, more=1)))


def plain_function(service: Service, declare: Declare) -> None:
    def view() -> str:
        service.runs += 1
        return ""

    service.app.get(PATH)(declare(view))


def plain_lambda(service: Service, declare: Declare) -> None:
    def count() -> str:
        service.runs += 1
        return ""

    service.app.add_url_rule(PATH, "asked", declare(lambda: count()))


def async_generator(service: Service, declare: Declare) -> None:
    async def view() -> AsyncIterator[bytes]:
        service.runs += 1
        yield b""

    service.app.get(PATH)(declare(view))


def static_method_of_a_declared_function(service: Service, declare: Declare) -> None:
    class Controller:
        show = staticmethod(declare(service.view))

    service.app.add_url_rule(PATH, "asked", Controller.show)


def class_method_of_a_declared_function(service: Service, declare: Declare) -> None:
    class Controller:
        show: Any = classmethod(declare(service.view_method()))

    service.app.add_url_rule(PATH, "asked", Controller.show)


def bound_by_hand(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", MethodType(declare(service.view_method()), object()))


def updated_by_hand(service: Service, declare: Declare) -> None:
    view = declare(service.view)
    service.app.add_url_rule(PATH, "asked", functools.update_wrapper(without_wraps(view), view))


def between_two_wraps(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(with_wraps(declare(with_wraps(service.view))))


def over_no_wraps(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(declare(without_wraps(service.view)))


def view_with_arguments(service: Service, declare: Declare) -> None:
    class Asked(ClassView):
        init_every_request = False
        methods = {"GET", "POST"}
        dispatch_request = declare(service.view_method())

        def __init__(self, *given: Any) -> None:
            pass

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked", 1, 2))


def mixed_in_method(service: Service, declare: Declare) -> None:
    class Mixin:
        get = declare(service.view_method())

    class Asked(Mixin, MethodView):
        pass

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))


def before_request_of_a_blueprint(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("b", "b")
    blueprint.get(PATH)(service.view)
    blueprint.before_request(declare(lambda: None))
    service.app.register_blueprint(blueprint)


def before_request_of_an_inner_blueprint(service: Service, declare: Declare) -> None:
    outer, inner = Blueprint("outer", "outer"), Blueprint("inner", "inner")
    inner.get(PATH)(service.view)
    inner.before_request(declare(lambda: None))
    outer.register_blueprint(inner)
    service.app.register_blueprint(outer)


def before_request_of_the_app(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(service.view)
    service.app.before_request(declare(lambda: None))


def before_websocket_of_the_app(service: Service, declare: Declare) -> None:
    service.app.websocket(PATH)(service.socket)
    service.app.before_websocket(declare(lambda: None))


def after_request_hidden(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(service.view)
    service.app.after_request(without_wraps(declare(service.view)))


def error_handler_of_a_code(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(service.view)
    service.app.errorhandler(404)(declare(service.view))


def error_handler_of_a_class(service: Service, declare: Declare) -> None:
    blueprint = Blueprint("b", "b")
    blueprint.get(PATH)(service.view)
    blueprint.errorhandler(KeyError)(declare(service.view))
    service.app.register_blueprint(blueprint)


def under_slots(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", SlottedHolder(declare(service.view)))


def under_a_bare_wraps(service: Service, declare: Declare) -> None:
    view = declare(service.view)
    service.app.add_url_rule(PATH, "asked", functools.wraps(view, updated=())(without_wraps(view)))


def in_a_default_dict(service: Service, declare: Declare) -> None:
    found = collections.defaultdict(list, view=declare(service.view))
    service.app.add_url_rule(PATH, "asked", held_in(found, "view"))


def in_a_deque(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", held_in(collections.deque([declare(service.view)]), 0))


def in_a_list_of_its_own_type(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", held_in(KeptView([declare(service.view)]), 0))


def under_a_method_of_a_partial(service: Service, declare: Declare) -> None:
    class Controller:
        show: Any = functools.partialmethod(declare(service.view_method()))

    service.app.add_url_rule(PATH, "asked", without_wraps(Controller().show))


def replaced_in_the_class(service: Service, declare: Declare) -> None:
    class Asked(MethodView):
        get = declare(service.view_method())

    service.app.add_url_rule(PATH, view_func=Asked.as_view("asked"))
    Asked.get = without_wraps(Asked.get)


def class_method_object(service: Service, declare: Declare) -> None:
    class Controller:
        show = declare(classmethod(service.view_method()))

    service.app.add_url_rule(PATH, "asked", Controller.show)


def property_object(service: Service, declare: Declare) -> None:
    view = service.view

    class Controller:
        show = declare(property(lambda _self: view))

    service.app.add_url_rule(PATH, "asked", Controller().show)


def object_with_slots(service: Service, declare: Declare) -> None:
    service.app.add_url_rule(PATH, "asked", declare(SlottedHolder(service.view)))


def partial_socket(service: Service, declare: Declare) -> None:
    service.app.add_websocket(PATH, "asked", declare(functools.partial(service.socket)))


def socket_registered_twice(service: Service, declare: Declare) -> None:
    blueprint = declare(Blueprint("b", "b"))
    blueprint.add_websocket(PATH, "asked", service.socket)
    service.app.register_blueprint(blueprint, url_prefix="/first")
    service.app.register_blueprint(blueprint, name="again")


def socket_beside_a_view(service: Service, declare: Declare) -> None:
    service.app.get(PATH)(service.view)
    service.app.add_websocket(PATH, "asked", declare(service.socket))


ON_BLUEPRINTS = {declared_blueprint_registered_twice, inner_of_the_same_name, inner_registered_under_two_outer_ones}
HOLD = [registered_twice, *ON_BLUEPRINTS, recorded_by_a_blueprint, with_url_defaults, with_defaults]
HOLD += [by_the_map_of_urls, by_host, with_options_of_its_own, with_methods_on_the_view, partial_itself]
HOLD += [plain_function, plain_lambda, async_generator, static_method_of_a_declared_function]
HOLD += [class_method_of_a_declared_function, bound_by_hand, updated_by_hand, between_two_wraps, over_no_wraps]
HOLD += [view_with_arguments, mixed_in_method]
REFUSED = [before_request_of_a_blueprint, before_request_of_an_inner_blueprint, before_request_of_the_app]
REFUSED += [before_websocket_of_the_app, after_request_hidden, error_handler_of_a_code, error_handler_of_a_class]
REFUSED += [under_slots, under_a_bare_wraps, in_a_default_dict, in_a_deque, in_a_list_of_its_own_type]
REFUSED += [under_a_method_of_a_partial, replaced_in_the_class, class_method_object, property_object, object_with_slots]
SOCKETS = [partial_socket, socket_registered_twice, socket_beside_a_view]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", HOLD, ids=lambda way: way.__name__)
async def test_a_policy_holds(service: Service, way: Way, policy: str) -> None:
    if policy == "cache" and way in ON_BLUEPRINTS:
        with pytest.raises(DeclarationError, match="@cached_view"):
            declare(service, way, policy)
        return
    declare(service, way, policy)
    service.app.compile_routes()
    await assert_holds(policy, functools.partial(status, service.app), well=200)
    if policy == "cache":
        # A stream is not stored.
        assert service.runs == (3 if way is async_generator else 1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.__name__)
async def test_a_policy_that_cannot_hold_is_named_at_the_start(service: Service, way: Way, policy: str) -> None:
    def make() -> None:
        declare(service, way, policy)
        service.app.compile_routes()

    with pytest.raises(DeclarationError, match=NAMES[policy]):
        make()


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "cache"])
@pytest.mark.parametrize("way", SOCKETS, ids=lambda way: way.__name__)
async def test_a_policy_holds_for_a_websocket(service: Service, way: Way, policy: str) -> None:
    declare(service, way, policy)
    service.app.compile_routes()
    await assert_holds(policy, functools.partial(shake, service.app), well=101)


async def test_options_of_its_own_are_guarded_and_automatic_ones_open(service: Service) -> None:
    with_options_of_its_own(service, POLICIES["access"])
    service.app.add_url_rule("/automatic", "automatic", POLICIES["access"](service.view))
    client = service.app.test_client(use_cookies=False)
    assert (await client.options(PATH)).status_code == 401
    assert (await client.options("/automatic")).status_code == 200
    assert service.runs == 0
