"""Parallel requests of one session: nothing that was saved is lost, and nothing that has ended comes back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from quart import Quart, session
from redis.asyncio import Redis

from app.kit.keys import Keys
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionsEnded, SessionStore
from app.web.context import resources
from app.web.identity import auth
from app.web.identity.browser_session import BrowserSession
from tests.web.identity.session_app import get, session_app, store_on, stored

RUNS = pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.long)])


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SessionStore:
    return store_on(redis, keys)


async def pause() -> None:
    """Gives the loop to the other requests a random number of times, so that each run orders them otherwise."""
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)


@auth.require_auth()
async def profile() -> Any:
    return {"id": auth.current_principal().user_id}


async def write(name: str) -> Any:
    await pause()
    session[name] = [*session.get(name, []), name]
    await pause()
    return {}


async def log_out() -> Any:
    await pause()
    await auth.sign_out()
    return {}


async def end_all() -> Any:
    await pause()
    return {"ended": await resources().sessions.end_all(1)}


async def log_in() -> Any:
    """As a page that signs in: the epoch, then the password, then the session."""
    epoch = await resources().sessions.epoch(1)
    await pause()
    try:
        await auth.sign_in(1, ip="192.0.2.1", epoch=epoch)
    except SessionsEnded:
        return {}, 401
    return {}


async def rotate() -> Any:
    return {"rotated": await cast(BrowserSession, session).regenerate()}


@pytest.fixture
def app(store: SessionStore) -> Quart:
    app = session_app(store)
    app.add_url_rule("/write/<name>", "write", write)
    for view in (profile, log_out, end_all, log_in, rotate):
        app.add_url_rule(f"/{view.__name__}", view.__name__, cast(Callable[[], Awaitable[Any]], view))
    return app


@RUNS
async def test_writers_of_different_fields_both_survive(app: Quart, store: SessionStore, runs: int) -> None:
    record = await store.create({"same": 0}, channel="cookie", user_id=1)
    names = ("one", "two")
    for run in range(runs):
        await asyncio.gather(*(get(app, f"/write/{name}{run}", cookie=record.id) for name in names))
    expected = {f"{name}{run}": [f"{name}{run}"] for name in names for run in range(runs)}
    assert await stored(store, record) == expected | {"same": 0}


async def is_gone(app: Quart, store: SessionStore, session_id: str) -> bool:
    """For the server, and for one who asks with the id."""
    asked = await get(app, "/profile", cookie=session_id)
    return await stored(store, session_id) is None and asked.status_code == 401


@RUNS
async def test_a_slow_write_never_revives_what_was_logged_out(app: Quart, store: SessionStore, runs: int) -> None:
    for _ in range(runs):
        record = await store.create({"a": 1}, channel="cookie", user_id=1)
        calls = [get(app, "/write/a", cookie=record.id), get(app, "/log_out", cookie=record.id)]
        random.shuffle(calls)
        answers = await asyncio.gather(*calls)
        assert await is_gone(app, store, record.id)
        for answer in answers:
            # A write that came after the logout is a visitor's.
            sent = answer.headers.get("Set-Cookie", "").partition("=")[2].partition(";")[0]
            found = await store.get(sent, channel="cookie") if sent else None
            assert found is None or found.user_id is None
    assert await store.list(1) == []


@RUNS
async def test_a_login_ends_before_end_all_or_counts_after(app: Quart, store: SessionStore, runs: int) -> None:
    """Whether its session lives is what the order in Redis says: those before have ended, none is in between."""
    outcomes = set()
    for _ in range(runs):
        calls: list[Any] = [get(app, "/log_in"), get(app, "/end_all")]
        random.shuffle(calls)
        answers = await asyncio.gather(*calls)
        refused = any(answer.status_code == 401 for answer in answers)
        ended = sum([(await answer.get_json()).get("ended", 0) for answer in answers])
        # Refused, or ended by it, or begun after it.
        state = ("refused" if refused else "made", ended, len(await store.list(1)))
        assert state in {("refused", 0, 0), ("made", 1, 0), ("made", 0, 1)}
        outcomes.add(state)
        await store.end_all(1)
    assert len(outcomes) > 1


def cookie_of(answer: Any) -> str | None:
    """The session id that an answer gives to the browser; None: it does not touch the cookie."""
    sent = answer.headers.get("Set-Cookie")
    return sent.partition("=")[2].partition(";")[0] if sent else None


@RUNS
async def test_a_login_takes_over_what_parallel_requests_save(app: Quart, store: SessionStore, runs: int) -> None:
    """One login, or two at once, beside writes, and in every other run beside the end of all sessions."""
    outcomes = set()
    for run in range(runs):
        visitor = await store.create({"kept": 1}, channel="cookie")
        names = [f"n{number}" for number in range(3)]
        paths = [*(f"/write/{name}" for name in names), "/log_in"]
        paths += random.choice([[], ["/log_in"]]) + (["/end_all"] if run % 2 else [])
        random.shuffle(paths)
        answers = await asyncio.gather(*(get(app, path, cookie=visitor.id) for path in paths))
        by_path = [(path, answer) for path, answer in zip(paths, answers, strict=True) if path != "/end_all"]
        logins = [answer for path, answer in by_path if path == "/log_in"]
        writes = {path[-2:]: answer for path, answer in by_path if path != "/log_in"}
        assert {answer.status_code for answer in writes.values()} <= {200, 409}
        # A write never gives the browser another cookie: that would take the login away from it.
        assert {cookie_of(answer) for answer in writes.values()} == {None}
        saved = {name for name, answer in writes.items() if answer.status_code == 200}
        expected = {"kept": 1} | {name: [name] for name in saved}
        signed_in = [cookie_of(answer) for answer in logins if answer.status_code == 200]
        live = [data for each in signed_in if each and (data := await stored(store, each)) is not None]
        if signed_in:
            assert await stored(store, visitor) is None
            assert len(live) == len(await store.list(1))
        else:
            live = [await stored(store, visitor) or {}]
        assert all(data == expected for data in live)
        outcomes.add((len(signed_in), len(saved) == 3))
        await store.end_all(1)
    assert len(outcomes) > 1


@RUNS
async def test_of_a_write_beside_a_rotation_the_old_id_is_dead(app: Quart, store: SessionStore, runs: int) -> None:
    record = await store.create({"a": 1}, channel="cookie", user_id=1)
    current = record.id
    for _ in range(runs):
        rotated, _ = await asyncio.gather(get(app, "/rotate", cookie=current), get(app, "/write/b", cookie=current))
        new = rotated.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        assert new != current
        assert await is_gone(app, store, current)
        current = new
    assert (await get(app, "/profile", cookie=current)).status_code == 200
    assert len(await store.list(1)) == 1


@RUNS
async def test_ids_that_the_server_did_not_make_are_never_adopted(app: Quart, store: SessionStore, runs: int) -> None:
    ended: list[SessionRecord] = []
    for run in range(min(runs, 200)):
        record = await store.create({"a": 1}, channel="cookie")
        await store.delete(record.id)
        ended.append(record)
        chosen = random.choice([f"abc.{run:043}", record.id, "chosen", "a" * 47])
        for path in ("/write/a", "/log_in"):
            sent = (await get(app, path, cookie=chosen)).headers["Set-Cookie"]
            assert chosen not in sent
            assert await stored(store, chosen) is None
