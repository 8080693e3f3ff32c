"""The browser's session: what is saved, what the cookie says, and what an answer costs in round trips."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from quart import Quart, Response, flash, get_flashed_messages, redirect, send_file, session, websocket
from redis.asyncio import Redis

from app.kit.keys import Keys, digest
from app.kit.sessions.store import SessionStore
from app.web.identity import auth
from tests.waiting import eventually
from tests.web.identity.session_app import (
    OWN_PAGE,
    get,
    result_of,
    serve,
    session_app,
    store_on,
    store_on_nothing,
    stored,
    use_store,
)

ID = r"([0-9a-f]{3}\.[\w-]{43})"
SET = re.compile(rf"quartet={ID}; Expires=[^;]+; Max-Age=86400; HttpOnly; Path=/; SameSite=Lax")
SET_SECURE = re.compile(rf"__Host-quartet={ID}; Expires=[^;]+; Max-Age=86400; Secure; HttpOnly; Path=/; SameSite=Lax")
DELETED = "quartet=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Path=/; SameSite=Lax"
DELETED_SECURE = f"__Host-{DELETED.replace('HttpOnly', 'Secure; HttpOnly')}"
JUNK_COOKIES = [
    "x",
    "",
    "é" * 47,
    '"',
    "a=b; quartet=c",
    "%00",
    "\\000",
    "x" * 5000,
    "abc." + "*" * 43,
]


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


@pytest.fixture
def app(store: SessionStore) -> Quart:
    return session_app(store)


@pytest.fixture
async def down(keys: Keys) -> AsyncIterator[Quart]:
    """An application whose Redis is down."""
    async with store_on_nothing(keys) as store:
        yield session_app(store)


def sent_id(response: Response, pattern: re.Pattern[str] = SET) -> str:
    found = pattern.fullmatch(response.headers["Set-Cookie"])
    assert found, response.headers["Set-Cookie"]
    return found[1]


async def test_a_session_begins_with_the_first_write(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: session.update(key="value"), "/write")
    serve(app, lambda: session.get("key"))
    first = await get(app, "/write")
    assert first.headers["Vary"] == "Cookie"
    assert first.headers["Cache-Control"] == "no-store"
    found = sent_id(first)
    assert await stored(store, found) == {"key": "value"}
    again = await get(app, cookie=found)
    assert await result_of(again) == "value"
    assert "Set-Cookie" not in again.headers


async def test_the_cookie_of_production_belongs_to_this_host_alone(store: SessionStore) -> None:
    app = session_app(store, is_production=True)
    serve(app, lambda: session.update(key="value"))
    serve(app, lambda: session.clear(), "/clear")
    found = sent_id(await get(app), SET_SECURE)
    ended = await get(app, "/clear", cookie=found)
    assert ended.headers["Set-Cookie"] == DELETED_SECURE


READS: dict[str, Callable[[], Any]] = {
    "get": lambda: session.get("a"),
    "getitem": lambda: session["a"],
    "in": lambda: "b" in session,
    "iter": lambda: list(iter(session)),
    "len": lambda: len(session),
    "bool": lambda: bool(session),
    "keys": lambda: list(session.keys()),
    "values": lambda: list(session.values()),
    "items": lambda: list(session.items()),
    "equals": lambda: session == {},
    "pop": lambda: session.pop("b", None),
    "setdefault": lambda: session.setdefault("a", 1),
    "dict": lambda: dict(session),
    "permanent": lambda: session.permanent,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_reading_varies_by_cookie_and_writes_nothing(app: Quart, store: SessionStore, read: Any) -> None:
    serve(app, read)
    record = await store.create({"a": 1}, channel="cookie")
    response = await get(app, cookie=record.id)
    assert response.status_code == 200
    assert response.headers.get_all("Vary") == ["Cookie"]
    assert "Set-Cookie" not in response.headers
    assert await stored(store, record) == {"a": 1}


async def test_an_answer_without_the_session_does_not_vary(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: 1)
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    for response in (await get(app), await get(app, cookie=record.id)):
        assert "Vary" not in response.headers
        assert "Set-Cookie" not in response.headers


def announce_a_nested_change() -> None:
    session["b"]["c"] = 0
    session.modified = True


WRITES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "setitem": (lambda: session.__setitem__("a", 2), {"a": 2, "b": {"c": [1]}}),
    "nested": (lambda: session["b"]["c"].append(2), {"a": 1, "b": {"c": [1, 2]}}),
    "del": (lambda: session.__delitem__("a"), {"b": {"c": [1]}}),
    "pop": (lambda: session.pop("b"), {"a": 1}),
    "update": (lambda: session.update(d=None), {"a": 1, "b": {"c": [1]}, "d": None}),
    "setdefault": (lambda: session.setdefault("e", 5), {"a": 1, "b": {"c": [1]}, "e": 5}),
    "announced": (lambda: announce_a_nested_change(), {"a": 1, "b": {"c": 0}}),
}


@pytest.mark.parametrize("write", WRITES)
async def test_every_change_is_saved(app: Quart, store: SessionStore, write: str) -> None:
    change, expected = WRITES[write]
    serve(app, lambda: bool(change()) and None)
    record = await store.create({"a": 1, "b": {"c": [1]}}, channel="cookie")
    response = await get(app, cookie=record.id)
    assert response.status_code == 200
    assert response.headers["Vary"] == "Cookie"
    assert "Set-Cookie" not in response.headers
    assert await stored(store, record) == expected


async def test_a_session_knows_whether_it_was_modified(app: Quart, store: SessionStore) -> None:
    def look() -> list[bool]:
        seen = [session.modified]
        session["a"]["b"] = 2
        return [*seen, session.modified]

    serve(app, look)
    serve(app, lambda: (session.modified, session.update(a=1), session.modified)[::2], "/new")
    record = await store.create({"a": {"b": 1}}, channel="cookie")
    assert await result_of(await get(app, cookie=record.id)) == [False, True]
    assert await result_of(await get(app, "/new")) == [False, True]


async def test_parallel_requests_change_different_fields(app: Quart, store: SessionStore) -> None:
    both = asyncio.Barrier(2)

    async def write(name: str) -> dict[str, Any]:
        session[name] = session.get("seen", 0)
        await both.wait()
        return {}

    app.add_url_rule("/<name>", "write", write)
    record = await store.create({"seen": 1}, channel="cookie")
    await asyncio.gather(get(app, "/one", cookie=record.id), get(app, "/two", cookie=record.id))
    assert await stored(store, record) == {"seen": 1, "one": 1, "two": 1}


@pytest.mark.parametrize("user_id", [None, 1])
async def test_an_emptied_session_goes_on(app: Quart, store: SessionStore, user_id: int | None) -> None:
    """To end it would also end what a parallel request adds, and the cookie by which that is found."""
    serve(app, lambda: session.pop("a"))
    record = await store.create({"a": 1}, channel="cookie", user_id=user_id)
    assert "Set-Cookie" not in (await get(app, cookie=record.id)).headers
    assert await stored(store, record) == {}


@pytest.mark.parametrize("user_id", [None, 1])
@pytest.mark.parametrize("emptied_first", [True, False])
@pytest.mark.parametrize("empty", [get_flashed_messages, lambda: session.__delitem__("_flashes"), "popitem"])
async def test_what_a_parallel_request_adds_outlives_the_emptying(
    app: Quart, store: SessionStore, user_id: int | None, emptied_first: bool, empty: Any
) -> None:
    both, first_has_ended = asyncio.Barrier(2), asyncio.Event()

    async def change(change: Callable[[], Any], *, is_first: bool) -> dict[str, Any]:
        change()
        await both.wait()
        if not is_first:
            await first_has_ended.wait()
        return {}

    async def show() -> dict[str, Any]:
        return await change((lambda: session.popitem()) if empty == "popitem" else empty, is_first=emptied_first)

    async def add() -> dict[str, Any]:
        return await change(lambda: session.update(cart=["book"]), is_first=not emptied_first)

    async def asked(path: str) -> Response:
        response = await get(app, path, cookie=record.id)
        first_has_ended.set()
        return response

    app.add_url_rule("/show", "show", show)
    app.add_url_rule("/add", "add", add)
    record = await store.create({"_flashes": [("message", "hello")]}, channel="cookie", user_id=user_id)
    for response in await asyncio.gather(asked("/show"), asked("/add")):
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
    assert await stored(store, record) == {"cart": ["book"]}


async def test_clearing_ends_a_users_session(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: session.clear())
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    response = await get(app, cookie=record.id)
    assert response.headers["Set-Cookie"] == DELETED
    assert response.headers["Vary"] == "Cookie"
    assert await stored(store, record) is None
    assert await store.list(1) == []


async def test_what_follows_a_clear_goes_into_a_visitors_session_under_a_new_id(
    app: Quart, store: SessionStore
) -> None:
    def clear_and_set() -> None:
        session.clear()
        session["b"] = 2

    serve(app, clear_and_set)
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    new = sent_id(await get(app, cookie=record.id))
    assert new != record.id
    assert await stored(store, record) is None
    found = await store.get(new, channel="cookie")
    assert found is not None
    assert (found.user_id, found.data) == (None, {"b": 2})


async def test_clearing_nothing_says_nothing(app: Quart) -> None:
    serve(app, lambda: session.clear())
    assert "Set-Cookie" not in (await get(app)).headers


async def test_flashed_messages_are_shown_once(app: Quart) -> None:
    async def say() -> Any:
        await flash("hello")
        return redirect("/")

    app.add_url_rule("/say", "say", say)
    serve(app, get_flashed_messages)
    said = await get(app, "/say")
    found = sent_id(said)
    assert said.status_code == 302
    assert await result_of(await get(app, cookie=found)) == ["hello"]
    assert await result_of(await get(app, cookie=found)) == []


async def test_flashed_markup_is_kept_as_text_beside_what_else_was_written(app: Quart, store: SessionStore) -> None:
    async def say() -> dict[str, Any]:
        session["cart"] = ["book"]
        await flash(Markup("<b>saved</b>"))
        return {}

    app.add_url_rule("/say", "say", say)
    found = sent_id(await get(app, "/say"))
    assert await stored(store, found) == {"cart": ["book"], "_flashes": [("message", "<b>saved</b>")]}


async def test_file_answers_save_too(app: Quart, store: SessionStore, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("text")

    async def download() -> Any:
        session["downloads"] = 1
        return await send_file(tmp_path / "report.txt")

    app.add_url_rule("/", "download", download)
    response = await get(app)
    assert await response.get_data() == b"text"
    assert await stored(store, sent_id(response)) == {"downloads": 1}


@pytest.mark.parametrize("junk", JUNK_COOKIES)
async def test_junk_in_the_cookie_is_a_visitor(down: Quart, app: Quart, junk: str) -> None:
    # Not well formed, so that even a Redis that is down is not missed.
    for served in (down, app):
        serve(served, lambda: len(session))
        response = await get(served, cookie=junk)
        assert await result_of(response) == 0
        assert "Set-Cookie" not in response.headers


async def test_a_headers_session_is_no_cookie(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: len(session))
    record = await store.create({"a": 1}, channel="header", user_id=1)
    assert await result_of(await get(app, cookie=record.id)) == 0


async def test_a_corrupt_record_is_a_fresh_session(app: Quart, store: SessionStore, redis: Redis, keys: Keys) -> None:
    serve(app, lambda: session.setdefault("n", 0))
    for damage in ("type", "field", "size"):
        record = await store.create({"n": 1}, channel="cookie")
        key = keys.session(record.id[:3], digest(record.id))
        if damage == "type":
            await redis.set(key, "text", ex=10)
        else:
            await redis.hset(key, "d:n", "{" if damage == "field" else '"' + "x" * 200_000 + '"')
        response = await get(app, cookie=record.id)
        assert await result_of(response) == 0
        assert sent_id(response) != record.id


UNSTORABLE = {
    "surrogate": ("\ud800", 422),
    "size": ("x" * 100_000, 413),
    "object": (object(), 422),
    "keys": ({1: "one"}, 422),
    "nan": (float("nan"), 422),
}


@pytest.mark.parametrize(("value", "status"), UNSTORABLE.values(), ids=UNSTORABLE)
async def test_what_cannot_be_stored_is_refused(
    app: Quart, store: SessionStore, caplog: pytest.LogCaptureFixture, value: Any, status: int
) -> None:
    """At the assignment; and where it was put into a list, by the answer, which does not say "saved"."""
    serve(app, lambda: session.update(good=1, bad=value))
    serve(app, lambda: session["list"].append(value), "/nested")
    serve(app, lambda: session.clear() or session.update(bad=value), "/clear")  # type: ignore[func-returns-value]
    serve(app, lambda: session.clear() or session.update(bad=[]) or session["bad"].append(value), "/clear-nested")  # type: ignore[func-returns-value]
    for path in ("/", "/nested"):
        record = await store.create({"list": []}, channel="cookie")
        response = await get(app, path, cookie=record.id)
        assert response.status_code == status
        assert response.content_type == "application/problem+json"
        assert "Set-Cookie" not in response.headers
        assert await stored(store, record) == {"list": []} | ({"good": 1} if path == "/" else {})
    for path in ("/clear", "/clear-nested"):
        # What was asked to end ends all the same.
        record = await store.create({"list": []}, channel="cookie", user_id=1)
        response = await get(app, path, cookie=record.id)
        assert (response.status_code, response.headers["Set-Cookie"]) == (status, DELETED)
        assert await stored(store, record) is None
    assert "'bad'" in caplog.text
    assert "'list'" in caplog.text
    assert "xxx" not in caplog.text


async def test_an_assignment_that_is_refused_leaves_the_session_usable(app: Quart, store: SessionStore) -> None:
    async def log_in() -> dict[str, Any]:
        session["cart"] = ["book"]
        for value, _ in UNSTORABLE.values():
            with pytest.raises(ValueError, match="bad"):
                session["bad"] = value
        await auth.sign_in(1, ip="192.0.2.1")
        return {}

    app.add_url_rule("/", "log_in", log_in)
    found = sent_id(await get(app))
    assert await stored(store, found) == {"cart": ["book"]}


async def test_fields_that_fit_one_by_one_and_not_together_are_refused(app: Quart, store: SessionStore) -> None:
    both = asyncio.Barrier(2)

    async def write(name: str) -> dict[str, Any]:
        session[name] = "x" * 40_000
        await both.wait()
        return {}

    app.add_url_rule("/<name>", "write", write)
    record = await store.create({"a": 1}, channel="cookie")
    answers = await asyncio.gather(get(app, "/one", cookie=record.id), get(app, "/two", cookie=record.id))
    assert sorted(response.status_code for response in answers) == [200, 413]
    assert len(await stored(store, record) or {}) == 2


@pytest.mark.parametrize("path", ["/health", "/health/live", "/metrics"])
async def test_routes_without_a_session_do_not_ask(down: Quart, path: str) -> None:
    serve(down, lambda: len(session), path)
    response = await get(down, path, cookie="abc." + "a" * 43)
    assert await result_of(response) == 0
    assert "Vary" not in response.headers


async def test_a_route_that_only_looks_like_them_has_one(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: len(session), "/healthy")
    record = await store.create({"a": 1}, channel="cookie")
    assert await result_of(await get(app, "/healthy", cookie=record.id)) == 1


@pytest.mark.parametrize("header", ["X_Session_ID", "Authorization", "API_Key"])
async def test_beside_a_header_credential_the_cookie_is_not_read(
    app: Quart, down: Quart, store: SessionStore, header: str
) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    for served in (app, down):
        serve(served, lambda: len(session))
        serve(served, lambda: session.update(b=1), "/write")
        response = await get(served, cookie=record.id, **{header: "junk"})
        assert await result_of(response) == 0
        assert "Vary" not in response.headers
        assert (await get(served, "/write", cookie=record.id, **{header: "junk"})).status_code == 400
    assert await stored(store, record) == {"a": 1}


async def test_without_redis_public_pages_are_answered(down: Quart) -> None:
    serve(down, lambda: 1)
    serve(down, lambda: len(session), "/visitor")
    assert await result_of(await get(down, cookie="abc." + "a" * 43)) == 1
    assert await result_of(await get(down, "/visitor")) == 0


@pytest.mark.parametrize("access", [*READS.values(), lambda: session.clear(), lambda: session.update(a=1)])
async def test_without_redis_what_needs_the_session_is_refused(down: Quart, access: Callable[[], Any]) -> None:
    serve(down, access)
    response = await get(down, cookie="abc." + "a" * 43)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Vary"] == "Cookie"
    assert response.content_type == "application/problem+json"


async def test_an_answer_whose_session_cannot_be_saved_is_refused(down: Quart) -> None:
    def answer() -> Response:
        session["a"] = 1
        return Response("saved", headers={"ETag": '"1"', "X-Request-ID": "7"}, content_type="text/html")

    serve(down, answer)
    response = await get(down)
    assert response.status_code == 503
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["X-Request-ID"] == "7"
    assert "ETag" not in response.headers
    assert "Set-Cookie" not in response.headers
    assert (await response.get_json())["status"] == 503


async def test_a_logout_that_redis_missed_is_refused(app: Quart, store: SessionStore, keys: Keys) -> None:
    record = await store.create({}, channel="cookie", user_id=1)
    async with store_on_nothing(keys) as nothing:

        async def log_out() -> Any:
            session.clear()
            use_store(app, nothing)
            return redirect("/")

        app.add_url_rule("/", "log_out", log_out)
        response = await get(app, cookie=record.id)
    assert response.status_code == 503
    assert "Location" not in response.headers
    assert "Set-Cookie" not in response.headers


async def test_a_slow_request_neither_revives_a_logout_nor_touches_the_cookie(app: Quart, store: SessionStore) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=1)

    async def slow() -> dict[str, Any]:
        session["a"] = 2
        await store.delete(record.id)
        return {}

    app.add_url_rule("/", "slow", slow)
    response = await get(app, cookie=record.id)
    assert response.status_code == 409
    assert "Nothing was saved" in (await response.get_json())["detail"]
    # The browser may have a newer one by now.
    assert "Set-Cookie" not in response.headers
    assert await stored(store, record) is None


async def test_a_page_that_has_shown_a_message_is_answered_although_its_session_has_ended(
    app: Quart, store: SessionStore
) -> None:
    record = await store.create({"_flashes": [["message", "saved"]], "a": 1}, channel="cookie", user_id=1)

    async def page() -> dict[str, Any]:
        shown = get_flashed_messages()
        await store.delete(record.id)
        return {"shown": shown}

    app.add_url_rule("/", "page", page)
    response = await get(app, cookie=record.id)
    assert response.status_code == 200
    assert await response.get_json() == {"shown": ["saved"]}
    assert "Set-Cookie" not in response.headers
    assert await stored(store, record) is None


async def test_an_old_sessions_expiry_slides_after_the_answer(redis: Redis, keys: Keys) -> None:
    store = store_on(redis, keys, touch_after_seconds=0)
    app = session_app(store)
    serve(app, lambda: 1)
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    await redis.pexpire(keys.session(record.id[:3], digest(record.id)), 1000)
    assert (await get(app, cookie=record.id)).status_code == 200

    async def slid() -> bool:
        return bool(await redis.pttl(keys.session(record.id[:3], digest(record.id))) > 3_000_000)

    await eventually(slid)
    await asyncio.gather(*app.background_tasks)


async def test_a_websocket_reads_and_saves_the_session(app: Quart, store: SessionStore) -> None:
    async def talk() -> None:
        session["seen"] = session.get("seen", 0) + 1
        await websocket.send(str(session["seen"]))

    app.add_websocket("/talk", "talk", talk)
    record = await store.create({"seen": 1}, channel="cookie")
    for headers, said in (({"Cookie": f"quartet={record.id}"}, "2"), ({}, "1"), ({"Cookie": "quartet=junk"}, "1")):
        async with app.test_client(use_cookies=False).websocket("/talk", headers={**headers, **OWN_PAGE}) as connection:
            assert await connection.receive() == said

    async def saved() -> bool:
        return await stored(store, record) == {"seen": 2}

    await eventually(saved)


async def test_a_websocket_without_redis_does_not_fail(down: Quart) -> None:
    async def talk() -> None:
        await websocket.send("hello")

    down.add_websocket("/talk", "talk", talk)
    headers = {"Cookie": "quartet=abc." + "a" * 43}
    async with down.test_client(use_cookies=False).websocket("/talk", headers={**headers, **OWN_PAGE}) as connection:
        assert await connection.receive() == "hello"


async def test_starting_to_serve_connects_nowhere(down: Quart) -> None:
    serve(down, lambda: 1)
    async with down.test_app() as served:
        assert (await served.test_client().get("/")).status_code == 200
