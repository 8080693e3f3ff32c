"""What operators do to accounts from the command line."""

import asyncio
import shutil
from functools import partial
from pathlib import Path

import pytest

from app.domain.users.service import register_user, user_roles
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.settings import load_settings
from tests.commands import quartet
from tests.services import RedisServer


@pytest.mark.server
async def test_an_operator_gives_a_role_and_the_sessions_end(
    keys: Keys, redis_server: RedisServer, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "test.db")
    environ = {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'test.db'}",
    }
    async with open_resources(load_settings(environ), role="web", telemetry=NoTelemetry()) as resources:
        user = await register_user(resources, email="b@example.org", name="B", password="correct horse battery")
        session = await resources.sessions.create({}, channel="header", user_id=user.id)
        command = partial(quartet, tmp_path, "users", "set-roles", "B@example.org", "editor", **environ)
        done = await asyncio.to_thread(command)
        assert done.returncode == 0, done.stderr
        assert await user_roles(resources, user.id) == frozenset({"editor"})
        assert await resources.sessions.get(session.id, channel="header") is None
