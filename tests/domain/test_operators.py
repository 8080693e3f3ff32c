"""What operators do to accounts from the command line."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from app.domain.users.passwords import authenticate
from app.domain.users.service import register_user, user_roles
from app.errors import Unauthorized
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.settings import load_settings
from tests.commands import quartet
from tests.services import RedisServer

PASSWORD = "correct horse battery"


@pytest.fixture
def environ(keys: Keys, sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    shutil.copy(sqlite_template, tmp_path / "test.db")
    return {"NAMESPACE": keys.namespace, "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"}


async def users(folder: Path, *arguments: str, **options: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(partial(quartet, folder, "users", *arguments, **options))


@pytest.mark.server
async def test_an_operator_gives_and_takes_a_role_and_the_sessions_end(
    environ: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    environ["REDIS_URL"] = redis_server.url
    async with open_resources(load_settings(environ), role="web", telemetry=NoTelemetry()) as resources:
        user = await register_user(resources, email="b@example.org", name="B", password=PASSWORD)
        for role, roles in (("editor", {"editor"}), ("user", set())):
            session = await resources.sessions.create({}, channel="header", user_id=user.id)
            done = await users(tmp_path, "set-role", "B@example.org", role, **environ)
            assert done.returncode == 0, done.stderr
            assert await user_roles(resources, user.id) == frozenset(roles)
            assert await resources.sessions.get(session.id, channel="header") is None


@pytest.mark.server
async def test_an_operator_ends_the_sessions_of_one_account(
    environ: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    environ["REDIS_URL"] = redis_server.url
    async with open_resources(load_settings(environ), role="web", telemetry=NoTelemetry()) as resources:
        ids = [
            (await register_user(resources, email=f"{name}@example.org", name=name, password=PASSWORD)).id
            for name in ("a", "b")
        ]
        mine, other = [await resources.sessions.create({}, channel="cookie", user_id=user_id) for user_id in ids]
        done = await users(tmp_path, "end-sessions", "a@example.org", **environ)
        assert (done.returncode, done.stdout) == (0, "1 ended\n")
        assert await resources.sessions.get(mine.id, channel="cookie") is None
        assert await resources.sessions.get(other.id, channel="cookie") is not None


@pytest.mark.server
async def test_an_operator_sets_a_password_and_the_sessions_end(
    environ: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    environ["REDIS_URL"] = redis_server.url
    async with open_resources(load_settings(environ), role="web", telemetry=NoTelemetry()) as resources:
        user = await register_user(resources, email="c@example.org", name="C", password=PASSWORD)
        session = await resources.sessions.create({}, channel="header", user_id=user.id)
        done = await users(tmp_path, "set-password", "C@example.org", input="another password\n", **environ)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert await resources.sessions.get(session.id, channel="header") is None
        assert (await authenticate(resources, email="c@example.org", password="another password"))[0].id == user.id
        with pytest.raises(Unauthorized):
            await authenticate(resources, email="c@example.org", password=PASSWORD)
    refused = await users(tmp_path, "set-password", "C@example.org", input="short\n", **environ)
    assert (refused.returncode, "password: String should have at least 8" in refused.stderr) == (1, True)


async def test_an_operator_makes_an_account(environ: dict[str, str], tmp_path: Path) -> None:
    create = partial(users, tmp_path, "create", "New@Example.org", "--name", "New", "--role", "admin", **environ)
    done = await create(input=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert "new@example.org" in done.stdout
    async with open_resources(load_settings(environ), role="web", telemetry=NoTelemetry()) as resources:
        assert await user_roles(resources, int(done.stdout.split()[1].rstrip(":"))) == frozenset({"admin"})
    again = await create(input=f"{PASSWORD}\n")
    assert again.returncode == 1
    assert "has an account" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "a@example.org", "--name", "A"), "password"),
        (("create", "no address", "--name", "A"), "email"),
        (("create", "a@example.org", "--name", "A", "--role", "king"), "king"),
        (("set-role", "a@example.org", "king"), "king"),
        (("set-role", "a@example.org", "admin"), "memory://"),
        (("end-sessions", "a@example.org"), "memory://"),
        (("set-password", "a@example.org"), "memory://"),
    ],
)
async def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...], reason: str, environ: dict[str, str], tmp_path: Path
) -> None:
    done = await users(tmp_path, *arguments, input="short\n", **environ)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert "short" not in done.stderr


@pytest.mark.server
@pytest.mark.parametrize("arguments", [("set-role", "a\udcff@example.org", "editor"), ("end-sessions", "a\udcff")])
async def test_a_text_that_is_no_address_has_no_account(
    arguments: tuple[str, ...], environ: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    environ["REDIS_URL"] = redis_server.url
    done = await users(tmp_path, *arguments, **environ)
    assert (done.returncode, done.stderr) == (1, "Error: There is no such user.\n")
