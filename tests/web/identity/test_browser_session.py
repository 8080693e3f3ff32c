"""quart.session as a handler uses it: a dict, with ids that rotate."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from quart import Quart, session, websocket
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionsEnded, SessionStore
from app.web.context import resources
from app.web.identity import auth
from app.web.identity.browser_session import BrowserSession
from app.web.identity.takeover import MOST_ROUNDS
from tests.web.identity.session_app import OWN_PAGE, get, result_of, serve, session_app, store_on, stored

BEFORE: dict[str, Any] = {"a": 1, "b": [2], "c": 3}


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


@pytest.fixture
def app(store: SessionStore) -> Quart:
    return session_app(store)


def merge_in_place(target: Any, other: Any) -> None:
    target |= other


# Each is done to the session and to a dict: they return, raise and leave the same.
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "popitem": lambda d: d.popitem(),
    "popitem of all": lambda d: [d.popitem() for _ in range(3)],
    "popitem of none": lambda d: [d.popitem() for _ in range(4)],
    "pop": lambda d: d.pop("a"),
    "pop none": lambda d: d.pop("x"),
    "pop default": lambda d: d.pop("x", 5),
    "copy": lambda d: d.copy() | {"type": type(d.copy()).__name__},
    "change of a copy": lambda d: d.copy().update(a=5),
    "ior": lambda d: merge_in_place(d, {"a": 5, "d": 6}),
    "ior pairs": lambda d: merge_in_place(d, [("a", 5)]),
    "or": lambda d: d | {"a": 5},
    "ror": lambda d: {"a": 5, "z": 6} | d,
    "reversed": lambda d: list(reversed(d)),
    "setdefault": lambda d: d.setdefault("list", []).append(1),
    "update": lambda d: d.update({"a": 5}, z=6),
    "del": lambda d: d.__delitem__("b"),
    "del none": lambda d: d.__delitem__("x"),
    "get": lambda d: [d.get("x"), d.get("a"), "a" in d, len(d), list(d.items())],
    "equal": lambda d: [d == BEFORE, d == {}],
}


def done(operation: Callable[[Any], Any], target: Any) -> list[Any]:
    try:
        return ["returned", operation(target)]
    except Exception as error:
        return ["raised", type(error).__name__]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_it_is_a_dict(app: Quart, store: SessionStore, operation: Callable[[Any], Any]) -> None:
    seen: list[Any] = []
    serve(app, lambda: seen.append(done(operation, session)))
    record = await store.create({**BEFORE, "b": [2]}, channel="cookie")
    assert (await get(app, cookie=record.id)).status_code == 200
    plain = {**BEFORE, "b": [2]}
    assert seen == [done(operation, plain)]
    assert await stored(store, record) == plain


async def test_its_repr_shows_nothing_of_it(app: Quart, store: SessionStore) -> None:
    serve(app, lambda: repr(session))
    record = await store.create({"token": "hush"}, channel="cookie")
    shown = await result_of(await get(app, cookie=record.id))
    assert "hush" not in shown
    assert record.id not in shown


def with_regenerate(app: Quart) -> Quart:
    async def regenerate() -> dict[str, Any]:
        session["seen"] = True
        return {"result": await cast(BrowserSession, session).regenerate()}

    app.add_url_rule("/regenerate", "regenerate", regenerate)
    return app


def sent(response: Any) -> str:
    name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == "quartet"
    return str(value)


@pytest.mark.parametrize("user_id", [None, 1])
async def test_a_session_is_regenerated_with_its_data(app: Quart, store: SessionStore, user_id: int | None) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=user_id)
    response = await get(with_regenerate(app), "/regenerate", cookie=record.id)
    assert await result_of(response) is True
    new = sent(response)
    assert new != record.id
    assert await stored(store, record) is None
    found = await store.get(new, channel="cookie")
    assert found is not None
    assert (found.data, found.user_id, found.created_at) == ({"a": 1, "seen": True}, user_id, record.created_at)


async def test_what_is_not_stored_yet_is_regenerated_by_its_first_id(app: Quart, store: SessionStore) -> None:
    # An id that the server did not make is never adopted.
    for cookie in (None, "junk", f"abc.{'a' * 43}"):
        response = await get(with_regenerate(app) if cookie is None else app, "/regenerate", cookie=cookie)
        assert await result_of(response) is True
        assert sent(response) != cookie
        assert await stored(store, sent(response)) == {"seen": True}


async def test_a_session_that_has_ended_is_not_regenerated(app: Quart, store: SessionStore) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=1)

    async def ended() -> dict[str, Any]:
        await store.end_all(1)
        return {"result": await cast(BrowserSession, session).regenerate()}

    app.add_url_rule("/", "ended", ended)
    response = await get(app, cookie=record.id)
    assert await result_of(response) is False
    assert "Set-Cookie" not in response.headers


async def test_a_websocket_starts_and_renames_no_session(app: Quart, store: SessionStore) -> None:
    async def talk() -> None:
        for change in (cast(BrowserSession, session).regenerate, lambda: auth.sign_in(1, ip="192.0.2.1")):
            with pytest.raises(RuntimeError, match="WebSocket"):
                await change()
        await websocket.send("refused")

    app.add_websocket("/talk", "talk", talk)
    record = await store.create({"a": 1}, channel="cookie")
    for headers in ({"Cookie": f"quartet={record.id}"}, {}):
        async with app.test_client(use_cookies=False).websocket("/talk", headers={**headers, **OWN_PAGE}) as connection:
            assert await connection.receive() == "refused"
    assert await stored(store, record) == {"a": 1}
    assert await store.list(1) == []


async def test_a_login_takes_over_a_visitors_data_and_no_other_users(app: Quart, store: SessionStore) -> None:
    async def log_in() -> dict[str, Any]:
        await auth.sign_in(1, ip="192.0.2.1")
        return {}

    app.add_url_rule("/", "log_in", log_in)
    for owner, data in ((None, {"cart": 1}), (1, {"cart": 1}), (2, {})):
        record = await store.create({"cart": 1}, channel="cookie", user_id=owner)
        assert await stored(store, sent(await get(app, cookie=record.id))) == data
        assert await stored(store, record) is None
    assert await store.list(2) == []


async def test_parallel_logins_of_one_browser_leave_no_visitors_session(app: Quart, store: SessionStore) -> None:
    both = asyncio.Barrier(2)

    async def log_in() -> dict[str, Any]:
        await both.wait()
        await auth.sign_in(1, ip="192.0.2.1")
        return {}

    app.add_url_rule("/", "log_in", log_in)
    visitor = await store.create({"cart": 1}, channel="cookie")
    answers = await asyncio.gather(get(app, cookie=visitor.id), get(app, cookie=visitor.id))
    assert [await stored(store, sent(response)) for response in answers] == [{"cart": 1}] * 2
    assert await stored(store, visitor) is None


async def test_a_login_with_what_cannot_be_stored_makes_no_session(app: Quart, store: SessionStore) -> None:
    async def log_in() -> dict[str, Any]:
        session["list"].append(object())
        await auth.sign_in(1, ip="192.0.2.1")
        return {}

    app.add_url_rule("/", "log_in", log_in)
    visitor = await store.create({"list": []}, channel="cookie")
    response = await get(app, cookie=visitor.id)
    assert response.status_code == 422
    assert "Set-Cookie" not in response.headers
    assert await store.list(1) == []
    assert await stored(store, visitor) == {"list": []}


def add_login(app: Quart, meanwhile: Callable[[], Any], *, size: int = 0) -> None:
    """A login during which `meanwhile` runs in the place of other requests. `size`: what it puts into the session."""

    async def log_in() -> Any:
        epoch = await resources().sessions.epoch(1)
        if size:
            session["own"] = "x" * size
        await meanwhile()
        try:
            await auth.sign_in(1, ip="192.0.2.1", epoch=epoch)
        except SessionsEnded:
            return {}, 401
        return {}

    app.add_url_rule("/", "log_in", log_in)


@pytest.mark.parametrize("user_id", [None, 1])
async def test_a_login_takes_over_what_was_saved_since_it_began(
    app: Quart, store: SessionStore, user_id: int | None
) -> None:
    record = await store.create({"a": 1, "b": 1, "own": ""}, channel="cookie", user_id=user_id)

    async def meanwhile() -> None:
        found = await store.get(record.id, channel="cookie")
        assert found is not None
        assert await store.save(found, changed={"a": 2, "c": [3], "own": "theirs"}, removed={"b"})

    add_login(app, meanwhile, size=3)
    response = await get(app, cookie=record.id)
    assert await stored(store, sent(response)) == {"a": 2, "c": [3], "own": "xxx"}
    assert await stored(store, record) is None


async def test_a_refused_login_changes_nothing(app: Quart, store: SessionStore) -> None:
    visitor = await store.create({"cart": 1}, channel="cookie")

    async def meanwhile() -> None:
        assert await store.save(visitor, changed={"late": 2}, removed=())
        await store.end_all(1)

    add_login(app, meanwhile)
    response = await get(app, cookie=visitor.id)
    assert (response.status_code, response.headers.get("Set-Cookie")) == (401, None)
    assert await stored(store, visitor) == {"cart": 1, "late": 2}
    assert await store.list(1) == []


async def test_a_login_whose_session_would_be_too_large_changes_nothing(app: Quart, store: SessionStore) -> None:
    visitor = await store.create({"cart": 1}, channel="cookie")

    async def meanwhile() -> None:
        assert await store.save(visitor, changed={"late": "x" * 40_000}, removed=())

    add_login(app, meanwhile, size=40_000)
    response = await get(app, cookie=visitor.id)
    assert (response.status_code, response.headers.get("Set-Cookie")) == (413, None)
    assert await stored(store, visitor) == {"cart": 1, "late": "x" * 40_000}
    assert await store.list(1) == []


async def test_a_login_beside_endless_saves_ends(
    app: Quart, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = await store.create({"n": 0}, channel="cookie")
    take = store.take

    async def overtaken(record: SessionRecord) -> bool:
        data = await stored(store, visitor) or {}
        assert await store.save(visitor, changed={"n": data["n"] + 1}, removed=())
        return await take(record)

    monkeypatch.setattr(store, "take", overtaken)
    add_login(app, lambda: asyncio.sleep(0))
    response = await get(app, cookie=visitor.id)
    assert (response.status_code, response.headers.get("Set-Cookie")) == (409, None)
    assert await stored(store, visitor) == {"n": MOST_ROUNDS}
    assert await store.list(1) == []


async def test_a_session_that_ends_during_the_takeover_refuses_the_login(
    app: Quart, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = await store.create({"cart": 1}, channel="cookie")
    take = store.take

    async def overtaken(record: SessionRecord) -> bool:
        assert await store.save(visitor, changed={"late": 2}, removed=())
        await store.end_all(1)
        return await take(record)

    monkeypatch.setattr(store, "take", overtaken)
    add_login(app, lambda: asyncio.sleep(0))
    response = await get(app, cookie=visitor.id)
    assert (response.status_code, response.headers.get("Set-Cookie")) == (401, None)
    assert await stored(store, visitor) == {"cart": 1, "late": 2}


@pytest.mark.parametrize("renew", ["log_in", "rotate"])
async def test_what_comes_late_with_the_old_id_is_not_said_to_be_saved(
    app: Quart, store: SessionStore, renew: str
) -> None:
    add_login(app, lambda: asyncio.sleep(0))
    serve(app, lambda: session.update(late=1), "/write")
    record = await store.create({"cart": 1}, channel="cookie", user_id=1 if renew == "rotate" else None)
    old = record.id
    if renew == "log_in":
        await get(app, cookie=old)
    else:
        assert await store.rotate(record)
    before = await store.list(1)
    for path, status in (("/write", 409), ("/missing", 404)):
        response = await get(app, path, cookie=old)
        assert (response.status_code, response.headers.get("Set-Cookie")) == (status, None)
    assert await store.list(1) == before
    # A second login, as by a second click, has what the first one has; a renewed session is left alone.
    second = await get(app, cookie=old)
    assert await stored(store, sent(second)) == ({"cart": 1} if renew == "log_in" else {})


async def test_the_end_of_a_users_session_is_handed_to_no_other_user(app: Quart, store: SessionStore) -> None:
    add_login(app, lambda: asyncio.sleep(0))
    own = await store.create({"secret": 1}, channel="cookie", user_id=1)
    assert await stored(store, sent(await get(app, cookie=own.id))) == {"secret": 1}
    assert await stored(store, sent(await get(app, cookie=own.id))) == {}
