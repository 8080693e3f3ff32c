"""What the compiled policy of a route is, and which declarations are refused before there is one."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quart import Blueprint, request
from quart.views import MethodView
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.limits.limit import Limit
from app.principal import Principal
from app.web.caching.cached_view import cached_view
from app.web.declarations import DeclarationError
from app.web.guard import GuardedQuart
from app.web.identity.auth import require_auth, require_role
from app.web.limits.declare import RouteLimits, exempt, rate_limit
from app.web.route_policy import Route, compile_routes
from tests.web.identity.session_app import API_KEY, session_app, store_on, store_on_nothing

ADMIN = {"API-Key": API_KEY}
NO_TIMES: list[Any] = [-1, math.inf, math.nan, "60", True, timedelta(minutes=1)]


async def view(**arguments: Any) -> str:
    return ""


def fresh() -> Callable[..., Any]:
    async def made(**arguments: Any) -> str:
        return request.method

    return made


def names(route: Route, method: str = "GET") -> list[str]:
    limits = route.by_method.get(method, route.policy).limits
    return [limit.name for limit in limits.declared()] if isinstance(limits, RouteLimits) else []


@pytest.fixture
def app() -> GuardedQuart:
    return GuardedQuart("tests.web", static_folder=None)


class TestAccess:
    async def test_each_rule_on_the_way_holds(self, redis: Redis, keys: Keys) -> None:
        app = session_app(store_on(redis, keys))
        blueprint = require_role("editor")(Blueprint("b", "b"))
        blueprint.get("/both")(require_auth("api_key")(require_role("admin")(fresh())))
        blueprint.add_url_rule("/own", "own", fresh())
        app.register_blueprint(blueprint)
        # The only user with an API key is an admin and no editor.
        for path in ("/both", "/own"):
            assert (await app.test_client().get(path, headers=ADMIN)).status_code == 403
            assert (await app.test_client().get(path)).status_code == 401

    def test_rules_that_exclude_each_other_are_refused(self, app: GuardedQuart) -> None:
        require_auth("session")(app)
        app.get("/")(require_auth("api_key")(fresh()))
        with pytest.raises(DeclarationError, match="no credential"):
            compile_routes(app)

    async def test_methods_of_a_class_have_rules_of_their_own(self, redis: Redis, keys: Keys) -> None:
        class Things(MethodView):
            get = fresh()

            @require_role("admin")
            async def post(self) -> str:
                return "made"

        app = session_app(store_on(redis, keys))
        # A function that is an attribute would be bound.
        Things.get = staticmethod(Things.get)
        app.add_url_rule("/", view_func=Things.as_view("things"))
        client = app.test_client()
        assert [(await client.get("/")).status_code, (await client.head("/")).status_code] == [200, 200]
        assert (await client.post("/")).status_code == 401
        assert (await client.post("/", headers=ADMIN)).status_code == 200


class TestLimits:
    def test_methods_of_a_class_count_apart(self, app: GuardedQuart) -> None:
        class Things(MethodView):
            @rate_limit("9/minute")
            async def get(self) -> str:
                return ""

            @rate_limit("2/minute")
            async def post(self) -> str:
                return ""

            async def put(self) -> str:
                return ""

        app.add_url_rule("/", view_func=rate_limit("5/minute")(Things).as_view("things"))
        route = compile_routes(app)["things"]
        assert names(route, "GET") == names(route, "HEAD") == ["things:get:address:minute"]
        assert names(route, "POST") == ["things:post:address:minute"]
        assert names(route, "PUT") == ["things:address:minute"]


class TestCache:
    def test_a_cache_without_get_is_refused(self, app: GuardedQuart) -> None:
        app.post("/")(cached_view(60)(fresh()))
        with pytest.raises(DeclarationError, match="GET"):
            compile_routes(app)

    def test_a_head_of_its_own_is_not_cached(self, app: GuardedQuart) -> None:
        class Things(MethodView):
            async def get(self) -> str:
                return "body"

            async def head(self) -> str:
                return ""

            async def post(self) -> str:
                return ""

        app.add_url_rule("/", view_func=cached_view(60)(Things).as_view("things"))
        policies = compile_routes(app)["things"].by_method
        assert policies.keys() >= {"GET", "HEAD", "POST"}
        assert {method for method, policy in policies.items() if policy.cache} == {"GET"}

    @pytest.mark.parametrize("method", ["head", "post"])
    def test_a_cache_on_another_method_than_get_is_refused(self, app: GuardedQuart, method: str) -> None:
        cached = cached_view(60)
        members = {name: cached(lambda _self: "") for name in ("get", method)}
        things: Any = type("Things", (MethodView,), members)
        app.add_url_rule("/", view_func=things.as_view("things"))
        with pytest.raises(DeclarationError, match="GET"):
            compile_routes(app)

    @pytest.mark.parametrize(
        ("tags", "is_known"),
        [
            (lambda thing_id: "", True),
            (lambda page, thing_id: "", True),
            (lambda result: "", True),
            (lambda thing_id, prefix="x": "", True),
            (lambda thng_id: "", False),
            (lambda per_page: "", False),
            (lambda request: "", False),
        ],
    )
    def test_a_tag_function_names_what_the_route_has(self, app: GuardedQuart, tags: Any, is_known: bool) -> None:
        app.get("/things/<int:thing_id>")(cached_view(60, tags=tags, query=["page"])(fresh()))
        if is_known:
            assert compile_routes(app)
            return
        with pytest.raises(DeclarationError, match="parameter"):
            compile_routes(app)

    @pytest.mark.parametrize(
        "options",
        [
            *({"ttl_seconds": each} for each in (0, None, view, *NO_TIMES)),
            *({"grace_seconds": each} for each in (-1, math.inf, math.nan, "60", timedelta(minutes=1))),
            *(
                {"max_age_seconds": each, "public": True}
                for each in (-1, math.inf, math.nan, "60", timedelta(minutes=1))
            ),
            *({"status": each} for each in ((), (0,), (100,), (600,), ("200",), (200.0,))),
            {"query": "page"},
            {"vary": "Accept"},
            {"tags": lambda *names: ""},
            {"tags": [1]},
            {"max_age_seconds": 60},
        ],
        ids=repr,
    )
    def test_what_is_no_cache_is_refused_where_it_is_declared(self, options: dict[str, Any]) -> None:
        with pytest.raises((TypeError, ValueError)):
            cached_view(**{"ttl_seconds": 60, **options})


class TestStaticFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        (tmp_path / "site.css").write_text("body {}")
        return str(tmp_path)

    async def ask(self, app: GuardedQuart, path: str) -> int:
        headers = {"Cookie": "quartet=abc." + "a" * 43}
        return (await app.test_client(use_cookies=False).get(path, headers=headers)).status_code

    async def test_a_blueprints_folder_is_static_too(self, keys: Keys, folder: str) -> None:
        # Neither a limit nor a session is asked of the Redis, which is down.
        async with store_on_nothing(keys) as store:
            app = session_app(store)
            rate_limit("1/minute", on_error="closed")(app)
            outer = Blueprint("outer", "outer", url_prefix="/outer")
            outer.register_blueprint(
                Blueprint("inner", "inner", static_folder=folder, static_url_path="/assets", url_prefix="/inner")
            )
            app.register_blueprint(outer)
            app.register_blueprint(Blueprint("flat", "flat", static_folder=folder, static_url_path="/assets"))
            assert compile_routes(app).keys() == {"static", "outer.inner.static", "flat.static"}
            for prefix in ("/static", "/assets", "/outer/inner/assets"):
                for name in ("a" * 300, "a" * 5000, "a%00b", "none.css", "../x", "%2e%2e/x", "é" * 200, "a/" * 400):
                    assert await self.ask(app, f"{prefix}/{name}") == 404, (prefix, name[:20])
            for prefix in ("/assets", "/outer/inner/assets"):
                assert await self.ask(app, f"{prefix}/site.css") == 200

    async def test_access_to_a_blueprint_is_access_to_its_files(self, redis: Redis, keys: Keys, folder: str) -> None:
        app = session_app(store_on(redis, keys))
        app.register_blueprint(require_auth()(Blueprint("b", "b", static_folder=folder, static_url_path="/assets")))
        assert await self.ask(app, "/assets/site.css") == 401
        response = await app.test_client(use_cookies=False).get("/assets/site.css", headers=ADMIN)
        assert response.status_code == 200


LIMIT = Limit(name="limit", amount=2, window_seconds=60)


# What a type checker would find as well.
limited: Any = rate_limit
exempted: Any = exempt
required: Any = require_auth
required_role: Any = require_role


def source(_principal: Principal | None) -> str:
    return "5/minute"


@pytest.mark.parametrize(
    "make",
    [
        lambda: limited(),
        lambda: limited("5"),
        lambda: limited("0/minute"),
        lambda: limited("0.5/minute"),
        lambda: limited(lambda: "5/minute"),
        lambda: limited("5/minute", key=()),
        lambda: limited("5/minute", key=lambda: "somebody"),
        lambda: limited("5/minute", key="address"),
        lambda: limited("5/minute", algoritm="log"),
        lambda: limited("5/minute", algorithm="gcraa"),
        lambda: limited(source, algorithm="gcraa"),
        lambda: limited(source, burst=2),
        lambda: limited(LIMIT, on_error="closed"),
        lambda: limited(LIMIT, scope="shared"),
        lambda: limited("2/minute", cost=3),
        lambda: limited(LIMIT, cost=3),
        *(lambda cost=cost: limited("2/minute", cost=cost) for cost in (0, -1, 0.5, 1.0, math.nan, "1", None, True)),
        lambda: limited("5/minute", cost=lambda: 1),
        lambda: exempted(""),
        lambda: exempted(" "),
        lambda: exempted(view),
        lambda: required("sesion"),
        lambda: required(view),
        lambda: required_role(),
        lambda: required_role(""),
        lambda: required_role(1),
        lambda: required_role(view),
        lambda: required_role("admin")(required_role("editor")(fresh())),
        lambda: required("session")(required("api_key")(fresh())),
        lambda: exempted("why")(limited("5/minute")(fresh())),
        lambda: limited("5/minute")(exempted("why")(fresh())),
        lambda: exempted("why")(exempted("why")(fresh())),
        lambda: cached_view(60)(cached_view(60)(fresh())),
        lambda: limited("5/minute")(limited("9/minute")(fresh())),
        *(
            lambda bearer=bearer: required()(bearer)
            for bearer in (None, "view", staticmethod(view), property(lambda _self: view))
        ),
        lambda: required()(len),
        lambda: required()(asyncio.Event().set),
    ],
)
def test_what_cannot_hold_is_refused_where_it_is_declared(make: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        make()
