"""The whole application on each deployment, without a server process in between."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import cast

import pytest
from quart import Quart
from sqlalchemy import make_url

from app.factory import create_app, jobs_of
from app.kit.keys import Keys
from app.resources import Resources
from app.settings import Settings, load_settings
from app.web.context import EXTENSION
from tests.application import ALL_SLICES, CHEAP_PASSWORDS, PATIENT, create_test_app
from tests.databases import create_postgres
from tests.domain.client import Client
from tests.domain.worker import TaskWorker
from tests.raw_requests import Door
from tests.services import RedisServer


@pytest.fixture(params=["embedded", pytest.param("servers", marks=[pytest.mark.server, pytest.mark.postgres])])
def settings(request: pytest.FixtureRequest, keys: Keys, tmp_path: Path) -> Settings:
    """Redis, and a database that is migrated and empty. Tasks wait, for a test that wants them run to run them.

    The test client stands for a proxy, so that a test can be several clients.
    """
    common = {
        **CHEAP_PASSWORDS,
        **PATIENT,
        "NAMESPACE": keys.namespace,
        "CONSUMER": "0",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    if request.param == "embedded":
        path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "test.db")
        return load_settings(common | {"DATABASE_URL": f"sqlite+aiosqlite:///{path}"})
    redis: RedisServer = request.getfixturevalue("redis_server")
    template: str = request.getfixturevalue("postgres_template")
    database_url = create_postgres(template, template=str(make_url(template).database))
    return load_settings(common | {"REDIS_URL": redis.url, "DATABASE_URL": database_url})


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    created = create_app(settings, slices=ALL_SLICES)
    async with created.test_app():
        yield created


@pytest.fixture
async def app_on_own_server(
    keys: Keys, tmp_path: Path, own_server: RedisServer, sqlite_template: Path
) -> AsyncIterator[Quart]:
    """The service on a Redis of this test's own, to be stopped. Its tasks wait."""
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    environ = {
        "NAMESPACE": keys.namespace,
        "CONSUMER": "0",
        "REDIS_URL": own_server.url,
        "REDIS_BUDGET_MS": "100",
        "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
    }
    created = create_test_app(environ)
    async with created.test_app():
        yield created


@pytest.fixture
def resources(app: Quart) -> Resources:
    """What the running application has open."""
    opened: Resources = app.extensions[EXTENSION]
    return opened


@pytest.fixture
def worker(resources: Resources) -> TaskWorker:
    """For the tasks of all slices; it runs none until it is told to."""
    return TaskWorker(resources, jobs_of(ALL_SLICES).tasks)


@pytest.fixture
def client(app: Quart) -> Client:
    return Client(app)


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    """The application for generated requests, which come from a test that is no coroutine."""
    created = create_app(settings, slices=ALL_SLICES)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(cast(AbstractAsyncContextManager[object], created.test_app())))
        yield Door(created, runner)
        runner.run(stack.aclose())
