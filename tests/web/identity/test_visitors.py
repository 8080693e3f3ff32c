"""How many sessions the visitors of one network may begin: each is a key that stays for a day."""

from types import SimpleNamespace

import pytest
from quart import Quart, Response, session
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.limits.limit import Limit
from app.kit.limits.limiter import RateLimiter
from app.kit.sessions.store import SessionStore
from app.kit.telemetry import NoTelemetry
from app.web.context import EXTENSION
from app.web.identity import session_interface
from tests.web.identity.session_app import get, serve, session_app, store_on

MOST = 3
ANN, BOB = "2001:db8:0:1::a", "2001:db8:0:2::b"


def change() -> None:
    session["seen"] = session.get("seen", 0) + 1


def end_and_begin() -> None:
    session.clear()
    session["seen"] = 1


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


@pytest.fixture
def app(store: SessionStore, redis: Redis, keys: Keys) -> Quart:
    app = session_app(store)
    app.extensions[EXTENSION] = SimpleNamespace(
        sessions=store, limiter=RateLimiter(redis, keys), telemetry=NoTelemetry()
    )
    limit = Limit.parse(f"{MOST}/hour", name="visitors", algorithm="counter")
    session_interface.register(app, is_production=False, visitors=limit)
    # The test client stands for a proxy.
    app.config["TRUSTED_PROXIES"] = ("127.0.0.0/8",)
    serve(app, change, "/change")
    serve(app, end_and_begin, "/end")
    serve(app, lambda: session.get("seen"), "/read")
    return app


async def ask(app: Quart, path: str, *, by: str = ANN, cookie: str | None = None) -> Response:
    return await get(app, path, cookie=cookie, X_Forwarded_For=by)


async def session_keys(redis: Redis) -> set[bytes]:
    return {key async for key in redis.scan_iter(match="*session*")}


def cookie_of(response: Response) -> str:
    return response.headers["Set-Cookie"].partition(";")[0].partition("=")[2]


async def test_a_network_begins_so_many_sessions_and_no_more(app: Quart, redis: Redis) -> None:
    begun = [await ask(app, "/change", by=f"2001:db8:0:1::{number}") for number in range(1, MOST + 1)]
    assert [response.status_code for response in begun] == [200] * MOST
    before = await session_keys(redis)
    for number in range(20):
        refused = await ask(app, "/change", by=f"2001:db8:0:1:{number:x}::")
        assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
        assert "Set-Cookie" not in refused.headers
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await refused.get_json())["violated-policies"] == ["visitors"]
    assert await session_keys(redis) == before
    # Another network, a session that there is, and requests that store nothing.
    assert (await ask(app, "/change", by=BOB)).status_code == 200
    assert (await ask(app, "/change", cookie=cookie_of(begun[0]))).status_code == 200
    assert (await ask(app, "/read")).status_code == 200


async def test_a_session_in_place_of_another_is_no_new_one(app: Quart) -> None:
    cookie = cookie_of(await ask(app, "/change"))
    for _ in range(2 * MOST):
        response = await ask(app, "/end", cookie=cookie)
        assert response.status_code == 200
        cookie = cookie_of(response)
