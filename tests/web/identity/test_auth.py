"""Who asks: every credential, every junk, and what a route makes of them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart, Response
from redis.asyncio import Redis

from app.errors import Unavailable
from app.kit.client.standalone import PipelinedRedis
from app.kit.keys import Keys
from app.kit.sessions.store import SessionsEnded, SessionStore
from app.principal import Principal
from app.web.context import resources
from app.web.declarations import declared
from app.web.identity import auth
from tests.waiting import eventually
from tests.web.identity.session_app import API_KEY, Directory, session_app, store_on, store_on_nothing

WELL_FORMED = "abc." + "a" * 43
JUNK = ["", " ", "x", WELL_FORMED, "a" * 10_000, "é" * 20, "{}", "null", '"', "%00", "../..", "0", "Bearer", "\x7f"]
COOKIE_NAME = "quartet"


def shown(principal: Principal | None) -> dict[str, Any]:
    if principal is None:
        return {}
    return {"id": principal.user_id, "roles": sorted(principal.roles), "credential": principal.credential}


@auth.require_auth()
async def profile() -> Any:
    return shown(auth.current_principal())


@auth.require_auth("session")
async def by_session() -> Any:
    return shown(auth.current_principal())


@auth.require_auth("api_key", "cookie")
async def by_key_or_cookie() -> Any:
    return shown(auth.current_principal())


@auth.require_role("editor", "admin")
async def editors() -> Any:
    return shown(auth.current_principal())


async def public() -> Any:
    return {"public": True}


async def optional() -> Any:
    return shown(auth.current_principal_or_none())


async def needed() -> Any:
    return shown(auth.current_principal())


async def handle() -> Any:
    return {"handle": auth.current_session().public_id}


async def log_in() -> Any:
    record = await auth.sign_in(1, ip="192.0.2.1")
    return {"handle": record.public_id}


async def rotate() -> Any:
    return {"session_id": (await auth.rotate_session()).id}


async def log_out() -> Any:
    await auth.sign_out()
    return {}


VIEWS = (profile, by_session, by_key_or_cookie, editors, public, optional, needed, handle, log_in, rotate, log_out)


def with_views(app: Quart) -> Quart:
    for view in VIEWS:
        app.add_url_rule(f"/{view.__name__}", view.__name__, view, methods=["GET", "POST"])
    return app


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


@pytest.fixture
def app(store: SessionStore) -> Quart:
    return with_views(session_app(store))


@pytest.fixture
async def down(keys: Keys) -> AsyncIterator[Quart]:
    """An application whose Redis is down."""
    async with store_on_nothing(keys) as store:
        yield with_views(session_app(store))


async def ask(app: Quart, path: str, *sent: tuple[str, str], cookie: str | None = None) -> Response:
    headers = list(sent)
    if cookie is not None:
        headers.append(("Cookie", f"{COOKIE_NAME}={cookie}"))
    return await app.test_client(use_cookies=False).get(path, headers=headers)


async def header_session(store: SessionStore, user_id: int = 1) -> str:
    return (await store.create({}, channel="header", user_id=user_id)).id


async def cookie_session(store: SessionStore, user_id: int = 1) -> str:
    return (await store.create({"a": 1}, channel="cookie", user_id=user_id)).id


def sent_cookie(response: Response) -> str:
    name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == COOKIE_NAME
    return value


async def test_each_credential_makes_the_same_principal(app: Quart, store: SessionStore) -> None:
    session_id, cookie = await header_session(store, 2), await cookie_session(store, 2)
    editor = {"id": 2, "roles": ["editor"]}
    for sent in (("X-Session-ID", session_id), ("Authorization", f"Bearer {session_id}")):
        assert await (await ask(app, "/profile", sent)).get_json() == editor | {"credential": "session"}
    by_cookie = await ask(app, "/profile", cookie=cookie)
    assert await by_cookie.get_json() == editor | {"credential": "cookie"}
    by_key = await ask(app, "/profile", ("API-Key", API_KEY))
    assert await by_key.get_json() == {"id": 3, "roles": ["admin"], "credential": "api_key"}


@pytest.mark.parametrize("written", ["bearer {}", "BEARER {}", "Bearer   {} "])
async def test_the_scheme_may_be_written_in_any_case(app: Quart, store: SessionStore, written: str) -> None:
    sent = ("Authorization", written.format(await header_session(store)))
    assert (await ask(app, "/profile", sent)).status_code == 200


async def test_nobody_is_unauthorized(app: Quart) -> None:
    for path in ("/profile", "/by_session", "/editors", "/needed", "/handle"):
        response = await ask(app, path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="quartet"'
        assert response.headers["Vary"] == "Cookie"
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("junk", JUNK)
async def test_junk_is_unauthorized(app: Quart, junk: str) -> None:
    sent = [("X-Session-ID", junk), ("Authorization", junk), ("Authorization", f"Bearer {junk}"), ("API-Key", junk)]
    sent += [("Authorization", f"Basic {junk}")]
    for credential in sent:
        for path in ("/profile", "/optional"):
            response = await ask(app, path, credential)
            assert response.status_code == 401, credential
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="quartet", error="invalid_token"'
        assert (await ask(app, "/public", credential)).status_code == 200
    assert (await ask(app, "/profile", cookie=junk)).status_code == 401
    assert await (await ask(app, "/optional", cookie=junk)).get_json() == {}


async def test_two_header_credentials_are_a_bad_request_everywhere(app: Quart, store: SessionStore) -> None:
    session_id = await header_session(store)
    one, two, three = ("X-Session-ID", session_id), ("Authorization", f"Bearer {session_id}"), ("API-Key", API_KEY)
    for sent in ((one, two), (one, three), (two, three), (one, two, three), (one, one), (three, three)):
        for path in ("/profile", "/public", "/optional"):
            assert (await ask(app, path, *sent)).status_code == 400


async def test_a_header_wins_over_the_cookie(app: Quart, store: SessionStore) -> None:
    cookie = await cookie_session(store, 2)
    response = await ask(app, "/profile", ("X-Session-ID", await header_session(store, 1)), cookie=cookie)
    assert (await response.get_json())["id"] == 1
    assert "Vary" not in response.headers
    assert (await ask(app, "/profile", ("X-Session-ID", "junk"), cookie=cookie)).status_code == 401


async def test_ids_do_not_change_channels(app: Quart, store: SessionStore) -> None:
    session_id, cookie = await header_session(store), await cookie_session(store)
    assert (await ask(app, "/profile", ("X-Session-ID", cookie))).status_code == 401
    assert (await ask(app, "/profile", ("Authorization", f"Bearer {cookie}"))).status_code == 401
    assert (await ask(app, "/profile", cookie=session_id)).status_code == 401


async def test_a_route_says_which_credentials_it_takes(app: Quart, store: SessionStore) -> None:
    session, cookie, key = (
        ("X-Session-ID", await header_session(store)),
        await cookie_session(store),
        ("API-Key", API_KEY),
    )
    assert (await ask(app, "/by_session", session)).status_code == 200
    assert (await ask(app, "/by_session", key)).status_code == 403
    assert (await ask(app, "/by_session", cookie=cookie)).status_code == 403
    assert (await ask(app, "/by_key_or_cookie", session)).status_code == 403
    assert (await ask(app, "/by_key_or_cookie", key)).status_code == 200
    assert (await ask(app, "/by_key_or_cookie", cookie=cookie)).status_code == 200


async def test_a_route_says_which_roles_it_takes(app: Quart, store: SessionStore) -> None:
    for user_id, status in ((1, 403), (2, 200), (3, 200)):
        sent = ("X-Session-ID", await header_session(store, user_id))
        assert (await ask(app, "/editors", sent)).status_code == status


def test_access_is_data_on_the_view() -> None:
    [access] = declared(editors, auth.Access)
    assert access == auth.Access(frozenset({"session", "api_key", "cookie"}), frozenset({"editor", "admin"}))
    assert declared(public, auth.Access) == ()


def test_both_decorators_count_and_what_cannot_be_is_refused() -> None:
    async def view() -> None: ...

    auth.require_role("admin")(auth.require_auth("session", "cookie")(view))
    by_role, by_credential = declared(view, auth.Access)
    assert (sorted(by_role.roles), sorted(by_credential.credentials)) == (["admin"], ["cookie", "session"])
    with pytest.raises(TypeError, match="require_role"):
        auth.require_role("editor")(view)
    with pytest.raises(TypeError, match="no credential"):
        auth.require_auth("api_key")(view)
    with pytest.raises(TypeError, match="needs a role"):
        auth.require_role()


async def test_a_public_answer_varies_only_where_it_asks(app: Quart, store: SessionStore) -> None:
    cookie = await cookie_session(store)
    assert "Vary" not in (await ask(app, "/public", cookie=cookie)).headers
    for sent in (cookie, None):
        assert (await ask(app, "/optional", cookie=sent)).headers["Vary"] == "Cookie"


async def test_a_user_who_is_gone_is_nobody(app: Quart, store: SessionStore) -> None:
    session_id, cookie = await header_session(store, 99), await cookie_session(store, 99)
    assert (await ask(app, "/profile", ("X-Session-ID", session_id))).status_code == 401
    assert (await ask(app, "/profile", cookie=cookie)).status_code == 401
    assert (await ask(app, "/public", cookie=cookie)).status_code == 200


async def test_a_visitors_session_is_nobody(app: Quart, store: SessionStore) -> None:
    cookie = (await store.create({"cart": 1}, channel="cookie")).id
    header = (await store.create({}, channel="header")).id
    assert (await ask(app, "/profile", cookie=cookie)).status_code == 401
    assert (await ask(app, "/profile", ("X-Session-ID", header))).status_code == 401


async def test_a_browser_signs_in_under_a_new_id(app: Quart, store: SessionStore) -> None:
    visitor = await store.create({"cart": {"1": 2}}, channel="cookie")
    response = await ask(app, "/log_in", ("User-Agent", "browser"), cookie=visitor.id)
    cookie = sent_cookie(response)
    assert cookie != visitor.id
    assert await store.get(visitor.id, channel="cookie") is None
    record = await store.get(cookie, channel="cookie")
    assert record is not None
    assert (record.user_id, record.data) == (1, {"cart": {"1": 2}})
    assert record.metadata == {"ip": "192.0.2.1", "user_agent": "browser"}
    assert (await (await ask(app, "/profile", cookie=cookie)).get_json())["id"] == 1


async def test_signing_in_again_ends_the_session_before(app: Quart, store: SessionStore) -> None:
    other = await cookie_session(store, 2)
    cookie = sent_cookie(await ask(app, "/log_in", cookie=other))
    assert await store.get(other, channel="cookie") is None
    assert await store.list(2) == []
    assert [info.public_id for info in await store.list(1)] == [
        (await (await ask(app, "/handle", cookie=cookie)).get_json())["handle"]
    ]


async def test_signing_in_beside_a_header_credential_is_a_bad_request(app: Quart) -> None:
    assert (await ask(app, "/log_in", ("X-Session-ID", "junk"))).status_code == 400


async def test_a_login_that_was_overtaken_leaves_no_session(app: Quart, store: SessionStore) -> None:
    async def overtaken() -> Any:
        epoch = await resources().sessions.epoch(1)
        await resources().sessions.end_all(1)
        with pytest.raises(SessionsEnded):
            await auth.sign_in(1, ip="192.0.2.1", epoch=epoch)
        return {}

    app.add_url_rule("/overtaken", "overtaken", overtaken)
    response = await ask(app, "/overtaken")
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert await store.list(1) == []


async def test_a_browsers_id_rotates_with_its_cookie(app: Quart, store: SessionStore) -> None:
    old = await cookie_session(store)
    response = await ask(app, "/rotate", cookie=old)
    new = sent_cookie(response)
    assert (await response.get_json())["session_id"] == new != old
    assert (await ask(app, "/profile", cookie=old)).status_code == 401
    assert (await ask(app, "/profile", cookie=new)).status_code == 200


async def test_a_header_sessions_id_rotates(app: Quart, store: SessionStore) -> None:
    old = await header_session(store)
    response = await ask(app, "/rotate", ("X-Session-ID", old))
    new = (await response.get_json())["session_id"]
    assert "Set-Cookie" not in response.headers
    assert (await ask(app, "/profile", ("X-Session-ID", old))).status_code == 401
    assert (await ask(app, "/profile", ("X-Session-ID", new))).status_code == 200


async def test_a_session_that_ended_meanwhile_does_not_rotate(app: Quart, store: SessionStore) -> None:
    async def ended() -> Any:
        await store.end_all(1)
        return await rotate()

    app.add_url_rule("/ended", "ended", ended)
    response = await ask(app, "/ended", cookie=await cookie_session(store))
    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers


async def test_logging_out_ends_the_session_of_either_channel(app: Quart, store: SessionStore) -> None:
    session_id, cookie = await header_session(store), await cookie_session(store)
    assert (await ask(app, "/log_out", ("X-Session-ID", session_id))).status_code == 200
    assert await store.get(session_id, channel="header") is None
    assert await store.get(cookie, channel="cookie") is not None
    response = await ask(app, "/log_out", cookie=cookie)
    assert sent_cookie(response) == ""
    assert await store.list(1) == []


async def test_an_api_key_has_no_session(app: Quart) -> None:
    for path in ("/handle", "/rotate", "/log_out"):
        assert (await ask(app, path, ("API-Key", API_KEY))).status_code == 403


async def test_the_current_session_is_the_one_that_was_sent(app: Quart, store: SessionStore) -> None:
    record = await store.create({}, channel="header", user_id=1)
    response = await ask(app, "/handle", ("X-Session-ID", record.id))
    assert (await response.get_json())["handle"] == record.public_id


async def test_an_old_header_sessions_expiry_slides(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, touch_after_seconds=0)
    app = with_views(session_app(store))
    record = await store.create({}, channel="header", user_id=1)
    await eventually(lambda: ask_until_newer(app, store, record.id, record.last_activity))


async def ask_until_newer(app: Quart, store: SessionStore, session_id: str, than: float) -> bool:
    assert (await ask(app, "/profile", ("X-Session-ID", session_id))).status_code == 200
    found = await store.get(session_id, channel="header")
    return found is not None and found.last_activity > than


async def test_without_redis_nobody_is_logged_in_and_public_pages_are_answered(down: Quart) -> None:
    for sent, cookie in ((("X-Session-ID", WELL_FORMED), None), (("Accept", "*/*"), WELL_FORMED)):
        assert (await ask(down, "/public", sent, cookie=cookie)).status_code == 200
        for path in ("/profile", "/needed", "/handle", "/editors"):
            response = await ask(down, path, sent, cookie=cookie)
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
    assert await (await ask(down, "/optional", cookie=WELL_FORMED)).get_json() == {}
    assert (await ask(down, "/optional", ("X-Session-ID", WELL_FORMED))).status_code == 503
    assert (await ask(down, "/profile")).status_code == 401
    assert (await ask(down, "/profile", ("API-Key", API_KEY))).status_code == 200


async def test_a_failing_lookup_concerns_only_who_needs_it(store: SessionStore) -> None:
    class Failing(Directory):
        async def user_roles(self, user_id: int) -> frozenset[str] | None:
            raise Unavailable("The database is down.")

    app = with_views(session_app(store, lookups=Failing()))
    cookie = await cookie_session(store)
    assert (await ask(app, "/public", cookie=cookie)).status_code == 200
    assert (await ask(app, "/profile", cookie=cookie)).status_code == 503


async def test_an_error_page_outside_every_view_has_nobody(app: Quart, store: SessionStore) -> None:
    async def not_found(_: Exception) -> Any:
        return shown(auth.current_principal_or_none()), 404

    app.register_error_handler(404, not_found)
    response = await ask(app, "/nowhere", cookie=await cookie_session(store))
    assert response.status_code == 404
    assert await response.get_json() == {}


@pytest.mark.server
async def test_round_trips(real_redis: PipelinedRedis, keys: Keys) -> None:
    store = store_on(real_redis, keys)
    app = with_views(session_app(store))
    # The server learns the scripts.
    await ask(app, "/log_out", cookie=sent_cookie(await ask(app, "/log_in")))
    await store.take(await store.create({}, channel="cookie"))

    async def trips(path: str, *sent: tuple[str, str], cookie: str | None = None) -> int:
        before = real_redis.stats()["server"]["batches"]
        assert (await ask(app, path, *sent, cookie=cookie)).status_code == 200
        return int(real_redis.stats()["server"]["batches"] - before)

    visitor = await store.create({"a": 1}, channel="cookie")
    assert await trips("/log_in") == 1
    # The visitor's session is read; the new one is made; the old one ends.
    assert await trips("/log_in", cookie=visitor.id) == 3
    session_id = await header_session(store)
    assert await trips("/profile", ("X-Session-ID", session_id)) == 1
    assert await trips("/log_out", ("X-Session-ID", session_id)) == 2
