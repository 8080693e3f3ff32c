"""What each use of a session costs, in the commands that a real server counts."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from quart import Quart, session
from redis.asyncio import Redis

from app.kit.client.connect import client_stats, connect
from app.kit.keys import Keys
from app.kit.sessions.store import SessionStore
from app.web.context import resources
from app.web.identity import auth
from app.web.identity.browser_session import BrowserSession
from tests.services import RedisServer
from tests.web.identity.session_app import get, serve, session_app, store_on

pytestmark = pytest.mark.server

# What a client sends; what a script calls is counted beside it, and is no round trip.
SENT = {"hgetall", "get", "evalsha", "eval"}


async def sent_commands(redis: Redis) -> Counter[str]:
    stats = await redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()})


class Cost:
    """Commands that a client sent, and the batches in which they travelled."""

    def __init__(self, redis: Redis, observer: Redis) -> None:
        self._redis = redis
        self._observer = observer

    def _batches(self) -> int:
        return int(client_stats(self._redis)["server"]["batches"])

    async def of(self, call: Awaitable[Any]) -> tuple[int, dict[str, int]]:
        commands, batches = await sent_commands(self._observer), self._batches()
        result = await call
        assert getattr(result, "status_code", 200) == 200
        after = await sent_commands(self._observer) - commands
        scripts = after["evalsha"]
        # HGETALL is called by no script, and GET by some: it is the client's where none ran.
        of_client = SENT if not scripts else SENT - {"get"}
        return self._batches() - batches, {name: calls for name, calls in after.items() if name in of_client}


async def log_in() -> Any:
    return {"id": (await auth.sign_in(1, ip="192.0.2.1")).public_id}


async def log_out() -> Any:
    await auth.sign_out()
    return {}


async def rotate() -> Any:
    return {"rotated": await cast(BrowserSession, session).regenerate()}


async def end_others() -> Any:
    ended = await resources().sessions.end_all(1, keep=auth.current_session().public_id)
    return {"ended": ended}


@auth.require_auth()
async def profile() -> Any:
    return {"id": auth.current_principal().user_id}


READ, SCRIPT = {"hgetall": 1}, {"evalsha": 1}
BOTH = READ | SCRIPT


async def test_each_use_of_a_session_costs_what_is_stated(own_server: RedisServer, keys: Keys, tmp_path: Path) -> None:
    redis, observer = [connect(own_server.url, name=name, timeout_seconds=5) for name in ("test", "observer")]
    store = store_on(redis, keys)
    app = with_routes(session_app(store))
    (tmp_path / "site.css").write_text("")
    app.static_folder = str(tmp_path)
    await learn_scripts(store)
    cost = Cost(redis, observer)

    async def of(path: str, cookie: str | None = None, **headers: str) -> tuple[int, dict[str, int]]:
        return await cost.of(get(app, path, cookie=cookie, **headers))

    async def visitor() -> str:
        return (await store.create({"n": 0}, channel="cookie")).id

    async def user() -> str:
        return (await store.create({"n": 0}, channel="cookie", user_id=1)).id

    header = (await store.create({}, channel="header", user_id=1)).id
    assert await of("/plain") == (0, {})
    assert await of("/read") == (0, {})
    assert await of("/read", "junk") == (0, {})
    for path in ("/static/site.css", "/health", "/metrics"):
        assert await of(path, await user()) == (0, {})
    assert await of("/read", await user()) == (1, READ)
    assert await of("/profile", await user()) == (1, READ)
    assert await of("/profile", X_Session_ID=header) == (1, READ)
    assert await of("/begin") == (1, SCRIPT)
    assert await of("/modify", await user()) == (2, BOTH)
    assert await of("/same", await user()) == (1, READ)
    assert await of("/log_in") == (1, SCRIPT)
    # The session before is read, and ends after the next is made, because it may lie on another node. What parallel
    # requests have saved in it costs one more script to save, and one to end it. That script calls HGETALL too.
    assert await of("/log_in", await visitor()) == (3, {"hgetall": 2, "evalsha": 2})
    assert await of("/log_out", await user()) == (2, BOTH)
    assert await of("/rotate", await visitor()) == (2, BOTH)
    assert await of("/end_others", await user()) == (2, BOTH)
    for call in (store.list(1), store.end_all(1), store.delete(await user())):
        assert await cost.of(call) == (1, SCRIPT)
    assert await cost.of(store.epoch(1)) == (1, {"get": 1})
    await redis.aclose()
    await observer.aclose()


def with_routes(app: Quart) -> Quart:
    bodies: dict[str, Callable[[], Any]] = {
        "/plain": lambda: 1,
        "/health": lambda: 1,
        "/metrics": lambda: 1,
        "/read": lambda: session.get("n"),
        "/begin": lambda: session.update(n=0),
        "/modify": lambda: session.update(n=session["n"] + 1),
        "/same": lambda: session.update(n=session["n"]),
    }
    for path, body in bodies.items():
        serve(app, body, path)
    for view in (log_in, log_out, rotate, end_others, profile):
        app.add_url_rule(f"/{view.__name__}", view.__name__, view)
    return app


async def learn_scripts(store: SessionStore) -> None:
    """The server is sent each script once."""
    record = await store.create({"n": 0}, channel="cookie", user_id=1)
    await store.save(record, changed={"n": 1}, removed=())
    await store.rotate(record)
    await store.list(1)
    await store.end_all(1)
    await store.take(record)
    await store.delete(record.id)
