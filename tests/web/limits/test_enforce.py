"""Rate limits of routes: what is counted for whom, what is refused, and what the headers say."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import wraps
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from quart import Blueprint, Quart, Response, request
from redis.asyncio import Redis

from app.errors import Unauthorized
from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.limits.limit import Limit
from app.kit.limits.limiter import RateLimiter
from app.kit.telemetry import NoTelemetry
from app.principal import Credential, Principal
from app.web import problems
from app.web.context import EXTENSION, resources
from app.web.declarations import View
from app.web.edge import edge
from app.web.limits import declare, enforce
from app.web.limits.declare import Exemption, RouteLimits, exempt
from app.web.limits.subjects import by_address, by_api_key, by_header, by_principal
from app.web.route_policy import compile_route
from tests.services import free_port

ALICE = {"X-User": "1"}
BOB = {"X-User": "2"}


class Counted(NoTelemetry):
    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        self.outcomes[labels.get("policy", name), labels.get("outcome", labels.get("block", ""))] += int(amount)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def app(redis: Redis, keys: Keys, counted: Counted) -> Quart:
    return make_app(RateLimiter(redis, keys, telemetry=counted))


def make_app(limiter: RateLimiter) -> Quart:
    app = Quart("test", static_folder=None)
    app.config["TRUSTED_PROXIES"] = ("10.0.0.0/8",)
    app.extensions[EXTENSION] = SimpleNamespace(limiter=limiter)
    problems.register(app)
    edge.register(app)
    return app


def guarded(app: Quart) -> Quart:
    """Each view behind the limiter, as in the real application; X-User stands for a valid credential."""
    for endpoint, view in app.view_functions.items():
        app.view_functions[endpoint] = _guarded(view, compile_route(app, endpoint).policy.limits)
    return app


def _guarded(view: View, limits: RouteLimits | Exemption | None) -> View:
    @wraps(view)
    async def limited(**arguments: Any) -> Any:
        user = request.headers.get("X-User")
        credential: Credential = "api_key" if "API-Key" in request.headers else "session"
        principal = Principal(int(user), frozenset(), credential) if user else None
        for with_body in (False, True):
            await enforce.enforce(limits, principal, with_body=with_body)
        return await view(**arguments)

    return limited


async def get(
    app: Quart,
    path: str = "/",
    *,
    peer: str = "198.51.100.7",
    headers: dict[str, str] | None = None,
    method: Literal["GET", "POST"] = "GET",
    json: Any = None,
) -> Response:
    given = {"json": json} if json is not None else {}
    return await app.test_client().open(
        path, method=method, headers=headers, scope_base={"client": (peer, 4711)}, **given
    )


async def statuses(app: Quart, *requests: dict[str, Any]) -> list[int]:
    return [(await get(app, **asked)).status_code for asked in requests]


def add(app: Quart | Blueprint, path: str = "/", *decorators: Any, name: str = "view") -> None:
    """A route that answers 200, or the status that ?status= asks for."""

    async def view() -> tuple[str, int]:
        return "", int(request.args.get("status", 200))

    limited: View = view
    for decorate in reversed(decorators):
        limited = decorate(limited)
    app.add_url_rule(path, name, limited, methods=["GET", "POST"])


async def test_headers_of_an_answer(app: Quart) -> None:
    add(app, "/", declare.rate_limit("3/minute", "100/day"))
    answer = await get(guarded(app))
    headers = answer.headers
    assert answer.status_code == 200
    assert headers["X-RateLimit-Limit"] == "3"
    assert headers["X-RateLimit-Remaining"] == "2"
    assert 58 <= int(headers["X-RateLimit-Reset"]) - time.time() <= 62
    assert headers["RateLimit-Policy"] == '"view:address:minute";q=3;w=60, "view:address:day";q=100;w=86400'
    assert headers["RateLimit"] == '"view:address:minute";r=2;t=60, "view:address:day";r=99;t=86400'
    assert "Retry-After" not in headers


async def test_a_refusal(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute", "100/day"))
    guarded(app)
    await get(app)
    answer = await get(app)
    body = await answer.get_json(force=True)
    assert answer.status_code == 429
    assert answer.content_type == "application/problem+json"
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert body["violated-policies"] == ["view:address:minute"]
    retry_after = int(answer.headers["Retry-After"])
    assert 1 <= retry_after <= 60
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert retry_after <= int(answer.headers["X-RateLimit-Reset"]) - int(time.time()) <= retry_after + 2
    # Retry-After and `t` name the same moment; the other limit was left as it was.
    assert answer.headers["RateLimit"].startswith(f'"view:address:minute";r=0;t={retry_after}, ')
    assert re.search(r'"view:address:day";r=99;t=\d+$', answer.headers["RateLimit"])


async def test_waiting_for_retry_after_is_enough(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/second"))
    guarded(app)
    await get(app)
    answer = await get(app)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    await asyncio.sleep(int(answer.headers["Retry-After"]))
    assert (await get(app)).status_code == 200


async def test_by_address(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute"))
    guarded(app)
    asked: list[dict[str, Any]] = [
        {"peer": "198.51.100.7"},
        {"peer": "198.51.100.8"},
        # A forwarded address counts only behind a trusted proxy.
        {"peer": "198.51.100.7", "headers": {"X-Forwarded-For": "192.0.2.1"}},
        {"peer": "10.0.0.1", "headers": {"X-Forwarded-For": "192.0.2.1"}},
        {"peer": "10.0.0.1", "headers": {"X-Forwarded-For": "192.0.2.99, 192.0.2.1"}},
        # All of a /64 is one client.
        {"peer": "2001:db8::1"},
        {"peer": "2001:db8::ffff:1"},
        {"peer": "2001:db8:0:1::1"},
        {"peer": "::ffff:198.51.100.8"},
    ]
    assert await statuses(app, *asked) == [200, 200, 429, 200, 429, 200, 429, 200, 429]


async def test_by_principal_and_visitors_by_address(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute", key=by_principal))
    guarded(app)
    asked: list[dict[str, Any]] = [
        {"headers": ALICE},
        {"headers": ALICE, "peer": "198.51.100.8"},
        {"headers": BOB},
        {},
        {},
        {"peer": "198.51.100.8"},
    ]
    assert await statuses(app, *asked) == [200, 429, 200, 200, 429, 200]


async def test_by_api_key_once_it_is_valid(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute", key=by_api_key))
    guarded(app)
    asked: list[dict[str, Any]] = [
        {"headers": {**ALICE, "API-Key": "a"}},
        {"headers": {**ALICE, "API-Key": "a"}, "peer": "198.51.100.8"},
        {"headers": {**ALICE, "API-Key": "b"}},
        # Made-up keys have no limit of their own.
        {"headers": {"API-Key": "x"}},
        {"headers": {"API-Key": "y"}},
    ]
    assert await statuses(app, *asked) == [200, 429, 200, 200, 429]


async def test_by_header_and_several(redis: Redis, keys: Keys, app: Quart) -> None:
    add(app, "/one", declare.rate_limit("1/minute", key=by_header("X-Tenant")), name="one")
    add(app, "/two", declare.rate_limit("1/minute", key=(by_header("X-Tenant"), by_principal)), name="two")
    guarded(app)
    one: list[dict[str, Any]] = [
        {"path": "/one", "headers": {"X-Tenant": value}} for value in ("a", "a", "b", "x" * 7000, "é", "")
    ]
    assert await statuses(app, *one) == [200, 429, 200, 200, 200, 200]
    # A header cannot stand for somebody else's address.
    spoofed = {"path": "/one", "headers": {"X-Tenant": "address:192.0.2.1"}}
    assert await statuses(app, spoofed, {"path": "/one", "peer": "192.0.2.1"}) == [200, 200]
    two = [
        {"path": "/two", "headers": {"X-Tenant": tenant, **user}}
        for tenant, user in (("a", ALICE), ("a", BOB), ("b", ALICE), ("a", ALICE))
    ]
    assert await statuses(app, *two) == [200, 200, 200, 429]
    answer = await get(app, "/two")
    assert answer.headers["RateLimit-Policy"] == '"two:x-tenant+principal:minute";q=1;w=60'
    names = [key async for key in redis.scan_iter(match=f"*{keys.namespace}:limit*")]
    assert max(len(name) for name in names) < 120


async def test_routes_count_for_themselves_unless_a_scope_joins_them(app: Quart) -> None:
    for name in ("a", "b"):
        add(app, f"/own/{name}", declare.rate_limit("1/minute"), name=f"own_{name}")
        add(app, f"/joined/{name}", declare.rate_limit("1/minute", scope="both"), name=f"joined_{name}")
    guarded(app)
    paths = ["/own/a", "/own/b", "/own/a", "/joined/a", "/joined/b"]
    assert await statuses(app, *({"path": path} for path in paths)) == [200, 200, 429, 200, 429]


async def test_a_named_limit_is_one_wherever_it_stands(app: Quart) -> None:
    burst = Limit.parse("1/minute", name="burst", algorithm="gcra")
    for name in ("a", "b"):
        add(app, f"/{name}", declare.rate_limit(burst), name=name)
    guarded(app)
    assert await statuses(app, {"path": "/a"}, {"path": "/b"}) == [200, 429]


async def test_defaults_are_overridden_by_what_is_nearer(app: Quart) -> None:
    inner = exempt("internal")(Blueprint("inner", "inner", url_prefix="/inner"))
    outer = declare.rate_limit("2/minute")(Blueprint("outer", "outer", url_prefix="/outer"))
    declare.rate_limit("3/minute")(app)
    add(app, "/plain", name="plain")
    add(app, "/own", declare.rate_limit("4/minute"), name="own")
    add(app, "/free", exempt("health checks"), name="free")
    add(outer, "/a", name="a")
    add(outer, "/own", declare.rate_limit("5/minute"), name="own")
    add(inner, "/a", name="a")
    add(inner, "/own", declare.rate_limit("6/minute"), name="own")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    policies = {endpoint: compile_route(app, endpoint).policy.limits for endpoint in app.view_functions}
    guarded(app)
    limits = {}
    for path in ("/plain", "/own", "/free", "/outer/a", "/outer/own", "/outer/inner/a", "/outer/inner/own"):
        limits[path] = (await get(app, path)).headers.get("X-RateLimit-Limit")
    assert limits == {
        "/plain": "3",
        "/own": "4",
        "/free": None,
        "/outer/a": "2",
        "/outer/own": "5",
        "/outer/inner/a": None,
        "/outer/inner/own": "6",
    }
    assert policies["outer.inner.a"] == Exemption("internal")
    own = policies["outer.inner.own"]
    assert isinstance(own, RouteLimits)
    assert [limit.name for limit in own.declared()] == ["outer.inner.own:address:minute"]


async def test_a_route_without_policy_is_not_limited(app: Quart) -> None:
    add(app)
    assert "X-RateLimit-Limit" not in (await get(guarded(app))).headers


async def test_decorators_add_up_all_or_nothing(app: Quart) -> None:
    per_user = declare.rate_limit("1/minute", key=by_principal)
    add(app, "/", declare.rate_limit("9/minute"), per_user)
    guarded(app)
    asked = [{"headers": user} for user in (ALICE, ALICE, ALICE, BOB)]
    assert await statuses(app, *asked) == [200, 429, 429, 200]
    answer = await get(app, headers={"X-User": "3"})
    # Three requests passed; those that the user's limit refused took nothing here.
    assert answer.headers["RateLimit"].startswith('"view:address:minute";r=6;')


async def test_dynamic_limits(app: Quart) -> None:
    def by_plan(principal: Principal | None) -> str | None:
        if principal is None:
            return "1/minute"
        return None if principal.user_id == 2 else "2/minute"

    async def from_a_table(principal: Principal | None) -> list[str | Limit]:
        await asyncio.sleep(0)
        return ["9/hour", Limit.parse("9/day", name="daily")] if principal else []

    add(app, "/", declare.rate_limit(by_plan, from_a_table, key=by_principal))
    guarded(app)
    assert await statuses(app, {}, {}) == [200, 429]
    assert await statuses(app, *[{"headers": ALICE}] * 3) == [200, 200, 429]
    answer = await get(app, headers=BOB)
    assert answer.headers["RateLimit-Policy"] == '"view:principal:from_a_table:hour";q=9;w=3600, "daily";q=9;w=86400'


async def test_a_limit_that_is_found_and_one_that_is_declared_may_have_one_period(app: Quart) -> None:
    add(app, "/", declare.rate_limit("9/minute", lambda principal: "2/minute"))
    guarded(app)
    assert await statuses(app, {}, {}, {}) == [200, 200, 429]


async def test_any_endpoint_has_a_name_for_its_limit(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute"), name="_private")
    guarded(app)
    assert await statuses(app, {}, {}) == [200, 429]
    assert (await get(app)).headers["RateLimit-Policy"] == '"private:address:minute";q=1;w=60'


async def test_a_subject_of_none_is_not_limited(app: Quart) -> None:
    async def not_alice(principal: Principal | None) -> str | None:
        return None if principal and principal.user_id == 1 else "others"

    add(app, "/", declare.rate_limit("1/minute", key=not_alice))
    guarded(app)
    assert await statuses(app, {"headers": ALICE}, {"headers": ALICE}, {}, {"headers": BOB}) == [200, 200, 200, 429]


async def test_costs(app: Quart) -> None:
    async def items(_principal: Principal | None) -> int:
        return int(request.args["n"])

    add(app, "/", declare.rate_limit("10/minute", cost=items))
    guarded(app)
    asked = [{"path": f"/?n={n}"} for n in (7, 4, 0, 3, 1, 11)]
    assert await statuses(app, *asked) == [200, 429, 200, 200, 429, 413]


async def test_shadow_limits_are_silent(app: Quart, counted: Counted) -> None:
    add(app, "/", declare.rate_limit("1/minute", shadow=True, key=by_principal))
    guarded(app)
    assert await statuses(app, {}, {}, {}) == [200, 200, 200]
    assert "RateLimit" not in (await get(app)).headers
    assert counted.outcomes == {("view:principal:minute", "allowed"): 1, ("view:principal:minute", "shadow"): 3}


async def test_only_failures_count(app: Quart) -> None:
    add(app, "/", declare.rate_limit("2/minute", counts="failures"))
    guarded(app)
    asked = [{"path": f"/?status={status}"} for status in (200, 404, 200, 500, 200)]
    assert await statuses(app, *asked) == [200, 404, 200, 500, 429]


async def test_a_failure_shows_in_its_own_headers(app: Quart) -> None:
    add(app, "/", declare.rate_limit("2/minute", counts="failures"))
    guarded(app)
    answers = [await get(app, f"/?status={status}") for status in (200, 404, 200)]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "1"]


ACCOUNT = Limit.parse("2/minute", name="login:account", counts="reserved", on_error="local", sensitive=True)


def with_login(app: Quart) -> Quart:
    @app.post("/login")
    @declare.rate_limit("5/minute", counts="reserved", on_error="local", sensitive=True)
    async def login() -> dict[str, bool]:
        body = await request.get_json()
        enforce.apply(await resources().limiter.check([(ACCOUNT, body["email"])]))
        if body["password"] != "right":
            raise Unauthorized("Wrong email or password.")
        return {"ok": True}

    return guarded(app)


async def log_in(app: Quart, email: str, password: str) -> Response:
    return await get(app, "/login", method="POST", json={"email": email, "password": password})


async def test_login_is_limited_by_address_and_account(app: Quart) -> None:
    with_login(app)
    answer = await log_in(app, "ann@example.org", "wrong")
    assert answer.status_code == 401
    assert answer.headers["RateLimit-Policy"] == '"login:address:minute";q=5;w=60, "login:account";q=2;w=60'
    assert re.fullmatch(r'"login:address:minute";r=4;t=\d+, "login:account";r=1;t=\d+', answer.headers["RateLimit"])
    assert answer.headers["X-RateLimit-Limit"] == "2"
    assert (await log_in(app, "ann@example.org", "wrong")).status_code == 401
    refused = await log_in(app, "ann@example.org", "right")
    assert refused.status_code == 429
    assert (await refused.get_json(force=True))["violated-policies"] == ["login:account"]
    # What the account's limit refused took nothing from the address.
    assert refused.headers["RateLimit"].startswith('"login:address:minute";r=3;')
    assert (
        (await log_in(app, "bob@example.org", "wrong")).headers["RateLimit"].startswith('"login:address:minute";r=2;')
    )


async def test_a_successful_login_gives_its_units_back(app: Quart) -> None:
    with_login(app)
    await log_in(app, "ann@example.org", "wrong")
    for _ in range(6):
        answer = await log_in(app, "ann@example.org", "right")
        assert answer.status_code == 200
        assert re.fullmatch(r'"login:address:minute";r=4;t=\d+, "login:account";r=1;t=\d+', answer.headers["RateLimit"])


async def test_guesses_at_the_same_time_do_not_exceed_the_limit(app: Quart) -> None:
    with_login(app)
    answers = await asyncio.gather(*(log_in(app, "ann@example.org", "wrong") for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {401: 2, 429: 8}


@pytest.fixture
async def without_redis(keys: Keys, counted: Counted) -> AsyncIterator[Quart]:
    redis = connect(f"redis://127.0.0.1:{free_port()}/0", name="test", timeout_seconds=0.05)
    yield make_app(RateLimiter(redis, keys, telemetry=counted))
    await redis.aclose()


async def test_open_closed_and_local_without_redis(without_redis: Quart, counted: Counted) -> None:
    for on_error in ("open", "closed", "local"):
        decorate = declare.rate_limit("1/minute", on_error=on_error)
        add(without_redis, f"/{on_error}", decorate, name=on_error)
    guarded(without_redis)
    asked = [{"path": f"/{on_error}"} for on_error in ("open", "open", "closed", "local", "local")]
    assert await statuses(without_redis, *asked) == [200, 200, 503, 200, 429]
    answer = await get(without_redis, "/closed")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "RateLimit" not in answer.headers
    assert counted.outcomes["open:address:minute", "failed_open"] == 2
    assert counted.outcomes["closed:address:minute", "failed_closed"] == 2
    assert counted.outcomes["local:address:minute", "local"] == 2
    assert counted.outcomes["redis_outages", "limits"] == 6


async def test_login_is_limited_without_redis(without_redis: Quart) -> None:
    with_login(without_redis)
    answers = [await log_in(without_redis, "ann@example.org", password) for password in ("right", "wrong", "wrong")]
    assert [answer.status_code for answer in answers] == [200, 401, 401]
    assert (await log_in(without_redis, "ann@example.org", "right")).status_code == 429


def test_a_login_is_never_open() -> None:
    with pytest.raises(ValueError, match="sensitive"):
        declare.rate_limit("5/minute", sensitive=True)(lambda: None)


def test_mistakes_show_when_the_module_is_loaded() -> None:
    def view() -> None:
        """Never called."""

    with pytest.raises(ValueError, match="reads like"):
        declare.rate_limit("often")(view)
    with pytest.raises(ValueError, match="two limits"):
        declare.rate_limit("5/minute", "9/minute")(view)
    with pytest.raises(ValueError, match="two limits"):
        declare.rate_limit("5/minute")(declare.rate_limit("9/minute")(view))
    with pytest.raises(ValueError, match="reason"):
        exempt("")
    limited = declare.rate_limit("5/minute", key=by_address)(lambda: None)
    with pytest.raises(TypeError, match="has limits"):
        exempt("a reason")(limited)
    with pytest.raises(TypeError, match="exempt"):
        declare.rate_limit("5/minute")(exempt("a reason")(lambda: None))


async def test_a_clients_request_id_does_not_pass_for_a_repeat(app: Quart) -> None:
    add(app, "/", declare.rate_limit("1/minute"))
    guarded(app)
    asked: dict[str, Any] = {"headers": {"X-Request-ID": "a" * 16}}
    assert await statuses(app, asked, asked) == [200, 429]
