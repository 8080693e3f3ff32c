"""Redis is killed between the commit of a change and the end of the sessions: they end when it is back."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart, Response
from sqlalchemy import func, select

from app.db.outbox import OutboxRow
from app.domain.users import store
from app.domain.users.reset_token import fingerprint_of, make_reset_token
from app.domain.users.service import set_roles, user_roles
from app.errors import Unavailable
from app.kit.keys import Keys
from app.resources import Resources
from app.web.context import EXTENSION
from tests.application import create_test_app
from tests.commands import quartet
from tests.domain.client import PASSWORD, Client
from tests.domain.test_stream_revocation import streamed
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server
NEW = "another battery staple"
STORED = "The change is stored"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """It keeps each write: the sessions are there again when it is back."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


@pytest.fixture
def environ(server: RedisServer, keys: Keys, sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    return {
        "NAMESPACE": keys.namespace,
        "CONSUMER": "0",
        "REDIS_URL": server.url,
        "REDIS_BUDGET_MS": "2000",
        "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
    }


@pytest.fixture
async def app(environ: dict[str, str]) -> AsyncIterator[Quart]:
    created = create_test_app(environ)
    async with created.test_app():
        yield created


@pytest.fixture
def resources(app: Quart) -> Resources:
    opened: Resources = app.extensions[EXTENSION]
    return opened


async def rows(resources: Resources) -> int:
    async with resources.database.read(primary=True) as session:
        return await session.scalar(select(func.count()).select_from(OutboxRow)) or 0


async def change_password(ada: Client, _resources: Resources) -> Response:
    return await ada.put("/password", {"current": PASSWORD, "new": NEW})


async def reset_password(ada: Client, resources: Resources) -> Response:
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, ada.user_id)
    assert user is not None
    fingerprint = fingerprint_of(user.email, user.password_hash)
    token = make_reset_token(user.id, fingerprint=fingerprint, secret_key=resources.secret_key)
    return await Client(ada.app).post("/password-reset/confirm", {"token": token, "password": NEW})


async def delete_account(ada: Client, _resources: Resources) -> Response:
    return await ada.delete(f"/users/{ada.user_id}")


async def change_role(ada: Client, resources: Resources) -> None:
    with pytest.raises(Unavailable, match=STORED):
        await set_roles(resources, ada.user_id, {"admin"})


Change = Callable[[Client, Resources], Awaitable[Response | None]]


@pytest.mark.parametrize("change", [change_password, reset_password, delete_account, change_role])
async def test_what_was_committed_ends_the_sessions_when_redis_is_back(
    app: Quart, resources: Resources, server: RedisServer, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    client = Client(app)
    ada = await client.registered()
    phone, keyed = await client.signed_in(), await ada.by_api_key()
    await eventually(lambda: no_rows(resources))
    end_all, killed = resources.sessions.end_all, asyncio.Event()

    async def kill_first(*arguments: Any, **named: Any) -> int:
        if not killed.is_set():
            killed.set()
            await asyncio.to_thread(server.kill)
        return await end_all(*arguments, **named)

    monkeypatch.setattr(resources.sessions, "end_all", kill_first)
    async with streamed(app, phone) as stream, streamed(app, keyed) as by_key:
        answer = await change(ada, resources)
        if answer is not None:
            assert answer.status_code == 503
            assert (await answer.get_json())["detail"].startswith(STORED)
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await phone.get("/profile")).status_code == 503
        await asyncio.to_thread(server.start)

        async def phone_is_out() -> bool:
            return (await phone.get("/profile")).status_code == 401

        await eventually(phone_is_out, seconds=30)
        await eventually(stream.has_ended, seconds=30)
        if change in (delete_account, change_role):
            await eventually(by_key.has_ended, seconds=30)
    await eventually(lambda: no_rows(resources), seconds=30)
    if change is change_password:
        # The session that changed it is kept.
        assert (await ada.get("/profile")).status_code == 200
    if change in (change_password, reset_password):
        assert (await client.log_in()).status_code == 401
        assert (await client.log_in(password=NEW)).status_code == 200


async def no_rows(resources: Resources) -> bool:
    return await rows(resources) == 0


async def test_an_operator_is_told_and_the_rest_is_left_to_the_service(
    environ: dict[str, str], app: Quart, resources: Resources, server: RedisServer, tmp_path: Path
) -> None:
    ada = await Client(app).registered()
    await eventually(lambda: no_rows(resources))
    server.kill()
    done = await asyncio.to_thread(quartet, tmp_path, "users", "set-role", "ada@example.com", "editor", **environ)
    assert done.returncode == 1
    assert STORED in done.stderr
    assert "Traceback" not in done.stderr
    assert await user_roles(resources, ada.user_id) == frozenset({"editor"})
    # The service's relay finds them, though another process has written them.
    assert await rows(resources) == 3
    # With it the application stops faster.
    await asyncio.to_thread(server.start)
