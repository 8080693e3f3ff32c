"""A small application with the real session store, for the tests of sessions, authentication and the CSRF rule."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from quart import Quart, Response
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionStore
from app.kit.telemetry import NoTelemetry
from app.web import problems
from app.web.context import EXTENSION
from app.web.edge import edge
from app.web.guard import GuardedQuart
from app.web.identity import auth, session_interface
from tests.services import free_port

HOSTS = ("site.example", "evil.example", "internal.example")
# A WebSocket of a browser says from which page it comes.
OWN_PAGE = {"Origin": "http://localhost"}
API_KEY = "key-of-user-3"
ROLES: dict[int, frozenset[str]] = {1: frozenset(), 2: frozenset({"editor"}), 3: frozenset({"admin"})}


class Directory:
    """The users and keys that the application under test knows."""

    async def user_roles(self, user_id: int) -> frozenset[str] | None:
        return ROLES.get(user_id)

    async def api_key_owner(self, key: str) -> tuple[int, frozenset[str]] | None:
        return (3, ROLES[3]) if key == API_KEY else None


def store_on(redis: Redis, keys: Keys, **options: Any) -> SessionStore:
    return SessionStore(redis, keys, **{"idle_seconds": 3600, "absolute_seconds": 86_400, **options})


@asynccontextmanager
async def store_on_nothing(keys: Keys) -> AsyncIterator[SessionStore]:
    """A store whose Redis is down: whoever asks it fails."""
    redis = connect(f"redis://127.0.0.1:{free_port()}", name="test", timeout_seconds=0.05)
    yield store_on(redis, keys)
    await redis.aclose()


def use_store(app: Quart, store: SessionStore) -> None:
    app.extensions[EXTENSION] = SimpleNamespace(sessions=store, telemetry=NoTelemetry())


def session_app(
    store: SessionStore, *, is_production: bool = False, lookups: auth.Lookups | None = None
) -> GuardedQuart:
    app = GuardedQuart("tests.web", static_folder="static")
    use_store(app, store)
    edge.register(app, edge.EdgeOptions(telemetry=NoTelemetry(), allowed_hosts=HOSTS))
    problems.register(app)
    session_interface.register(app, is_production=is_production, reads_session=app.reads_session)
    auth.register(app, lookups or Directory())
    return app


def serve(app: Quart, body: Callable[[], Any], path: str = "/") -> None:
    """Answer with what `body` makes of the session."""

    async def answer() -> Any:
        result = body()
        return result if isinstance(result, Response) else {"result": result}

    app.add_url_rule(path, path, answer, methods=["GET", "POST"])


async def get(app: Quart, path: str = "/", *, cookie: str | None = None, **headers: str) -> Response:
    """One request of a browser that has this session cookie."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is not None:
        sent["Cookie"] = f"{app.config['SESSION_COOKIE_NAME']}={cookie}"
    return await app.test_client(use_cookies=False).get(path, headers=sent)


async def result_of(response: Response) -> Any:
    assert response.status_code == 200
    return (await response.get_json())["result"]


async def stored(store: SessionStore, record: SessionRecord | str) -> dict[str, Any] | None:
    found = await store.get(record if isinstance(record, str) else record.id, channel="cookie")
    return found.data if found else None
