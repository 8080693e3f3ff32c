"""The session cookie byte for byte: its name, its attributes, its deletion, and which of several counts."""

import re
from typing import Any

import pytest
from quart import Quart, Response, session
from redis.asyncio import Redis

from app.factory import create_app
from app.kit.keys import Keys
from app.kit.sessions.store import SessionStore
from app.settings import SettingsError, load_settings
from app.web.context import EXTENSION
from app.web.identity import auth, session_interface
from tests.notices import PATH
from tests.web.identity.session_app import get, result_of, serve, session_app, store_on, stored, use_store

ID = r"[0-9a-f]{3}\.[\w-]{43}"
DATE = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
LASTING = rf"Expires={DATE}; Max-Age=86400; "
EPOCH = "Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; "


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


def cookie_app(store: SessionStore, *, is_production: bool = False, name: str = "quartet", **config: Any) -> Quart:
    app = Quart("tests.web", static_folder="static")
    use_store(app, store)
    app.config.update(config)
    session_interface.register(app, is_production=is_production, name=name)
    serve(app, lambda: session.update(a=1))
    serve(app, lambda: session.clear(), "/clear")
    serve(app, lambda: setattr(session, "permanent", False), "/forget")
    serve(app, lambda: setattr(session, "permanent", True), "/remember")
    return app


FORMS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "quartet", "{}HttpOnly; Path=/; SameSite=Lax"),
    ({"name": "shop"}, "shop", "{}HttpOnly; Path=/; SameSite=Lax"),
    ({"is_production": True}, "__Host-quartet", "{}Secure; HttpOnly; Path=/; SameSite=Lax"),
    (
        {"is_production": True, "SESSION_COOKIE_DOMAIN": "example.org"},
        "__Secure-quartet",
        "Domain=example.org; {}Secure; HttpOnly; Path=/; SameSite=Lax",
    ),
    ({"SESSION_COOKIE_DOMAIN": "example.org"}, "quartet", "Domain=example.org; {}HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_PARTITIONED": True}, "quartet", "{}Secure; HttpOnly; Path=/; SameSite=Lax; Partitioned"),
    (
        {"is_production": True, "SESSION_COOKIE_PARTITIONED": True},
        "__Host-quartet",
        "{}Secure; HttpOnly; Path=/; SameSite=Lax; Partitioned",
    ),
]


@pytest.mark.parametrize(("options", "name", "attributes"), FORMS)
async def test_the_cookie_and_its_deletion_have_the_same_attributes(
    store: SessionStore, options: dict[str, Any], name: str, attributes: str
) -> None:
    app = cookie_app(store, **options)
    begun = (await get(app)).headers.getlist("Set-Cookie")
    assert len(begun) == 1
    found = re.fullmatch(rf"{re.escape(name)}=({ID}); {attributes.format(LASTING)}", begun[0])
    assert found, begun
    ended = await get(app, "/clear", cookie=found[1])
    assert ended.headers.getlist("Set-Cookie") == [f"{name}=; {attributes.format(EPOCH)}"]


async def test_a_cookie_may_end_with_the_browser(store: SessionStore) -> None:
    app = cookie_app(store)
    begun = await get(app, "/forget")
    found = re.fullmatch(rf"quartet=({ID}); HttpOnly; Path=/; SameSite=Lax", begun.headers["Set-Cookie"])
    assert found, begun.headers["Set-Cookie"]
    # Only a change is sent.
    assert "Set-Cookie" not in (await get(app, cookie=found[1])).headers
    assert "Set-Cookie" not in (await get(app, "/forget", cookie=found[1])).headers
    changed = (await get(app, "/remember", cookie=found[1])).headers["Set-Cookie"]
    assert re.fullmatch(rf"quartet={re.escape(found[1])}; {LASTING}HttpOnly; Path=/; SameSite=Lax", changed)


@pytest.mark.parametrize("remember", [True, False])
async def test_a_login_says_whether_the_cookie_outlives_the_browser(store: SessionStore, remember: bool) -> None:
    app = session_app(store)

    async def log_in() -> dict[str, Any]:
        await auth.sign_in(1, ip="192.0.2.1", remember=remember)
        return {}

    async def rotate() -> dict[str, Any]:
        return {"result": await session.regenerate()}  # type: ignore[attr-defined]

    app.add_url_rule("/log_in", "log_in", log_in)
    app.add_url_rule("/rotate", "rotate", rotate)
    # What the visitor had before does not matter.
    visitor = await store.create({"_permanent": not remember}, channel="cookie")
    form = rf"quartet=({ID}); {LASTING if remember else ''}HttpOnly; Path=/; SameSite=Lax"
    found = re.fullmatch(form, (await get(app, "/log_in", cookie=visitor.id)).headers["Set-Cookie"])
    assert found
    # It stays so under the next id.
    rotated = re.fullmatch(form, (await get(app, "/rotate", cookie=found[1])).headers["Set-Cookie"])
    assert rotated
    assert rotated[1] != found[1]


async def test_of_two_cookies_of_our_name_the_valid_one_counts(store: SessionStore) -> None:
    app = session_app(store)
    serve(app, lambda: session.get("a"))
    valid = (await store.create({"a": 1}, channel="cookie")).id
    other_channel = (await store.create({"a": 2}, channel="header", user_id=1)).id
    unknown = f"abc.{'a' * 43}"
    for others in (["junk"], [""], [unknown], [other_channel], ["junk", unknown, "x" * 5000, other_channel]):
        for sent in ([*others, valid], [valid, *others]):
            assert await result_of(await get(app, cookie="; quartet=".join(sent))) == 1, sent
    # A bounded number of them is tried.
    unknowns = [f"abc.{letter * 43}" for letter in "abcdefgh"]
    assert await result_of(await get(app, cookie="; quartet=".join([*unknowns, valid]))) is None


async def test_two_applications_on_one_host_keep_apart(store: SessionStore) -> None:
    """As two of different namespaces: a browser sends each the cookies of both."""
    one, two = cookie_app(store, name="one"), cookie_app(store, name="two")
    ids = {}
    for app, name in ((one, "one"), (two, "two")):
        [ids[name]] = re.findall(ID, (await get(app)).headers["Set-Cookie"])
    both = f"one={ids['one']}; two={ids['two']}"
    response: Response = await one.test_client(use_cookies=False).get("/clear", headers={"Cookie": both})
    assert response.headers["Set-Cookie"].startswith("one=;")
    assert await stored(store, ids["one"]) is None
    assert await stored(store, ids["two"]) == {"a": 1}


def test_the_cookie_follows_the_settings() -> None:
    app = create_app(load_settings({"NAMESPACE": "shop"}))
    assert app.config["SESSION_COOKIE_NAME"] == "shop"
    production = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "s" * 40,
        "METRICS_TOKEN": "t" * 40,
        "PUBLIC_URL": "https://www.example.org",
        "REDIS_URL": "redis://redis.example.org",
        "NAMESPACE": "shop",
    }
    config = create_app(load_settings(production)).config
    assert (config["SESSION_COOKIE_NAME"], config["SESSION_COOKIE_DOMAIN"]) == ("__Host-shop", None)
    wider = {"SESSION_COOKIE_DOMAIN": "Example.org", "SESSION_COOKIE_PARTITIONED": "1"}
    config = create_app(load_settings(production | wider)).config
    assert (config["SESSION_COOKIE_NAME"], config["SESSION_COOKIE_DOMAIN"]) == ("__Secure-shop", "example.org")
    assert config["SESSION_COOKIE_PARTITIONED"] is True


@pytest.mark.parametrize("domain", ["example.com", "a.www.example.org", "ample.org", "https://example.org"])
def test_a_domain_that_is_not_ours_stops_the_start(domain: str) -> None:
    with pytest.raises(SettingsError, match="SESSION_COOKIE_DOMAIN"):
        load_settings({"PUBLIC_URL": "https://www.example.org", "SESSION_COOKIE_DOMAIN": domain})


async def test_no_cookie_is_sent_where_nothing_has_changed(app: Quart) -> None:
    """By the whole application, to a browser that has a session: static files, pages, cached and refused answers."""
    store: SessionStore = app.extensions[EXTENSION].sessions
    record = await store.create({"a": 1}, channel="cookie")
    cached = f"{PATH}?page=1"
    for path in ("/static/docs.js", "/docs", cached, cached, "/api/v1/profile", "/no-such-page", "/health/live"):
        response = await get(app, path, cookie=record.id)
        assert "Set-Cookie" not in response.headers, path
        depends = "Cookie" in response.headers.get("Vary", "")
        # A page shows who is signed in.
        assert depends == (path in {"/docs", "/api/v1/profile"}), path
    assert await stored(store, record) == {"a": 1}
