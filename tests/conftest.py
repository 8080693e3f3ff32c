"""Fixtures for all tests: Redis in each deployment, and key names that no other test uses."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from app.kit.client import connect
from app.kit.keys import Keys
from tests.services import RedisServer, postgres

pytest_plugins = ["tests.databases"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real server for the whole run. A test that kills servers starts its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.server)])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each deployment that the kit's functional tests run on."""
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="test", timeout_seconds=5)
    yield client
    await client.aclose()


@pytest.fixture
async def real_redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A real server, for what the embedded store cannot show: round trips, memory, faults."""
    client = connect(redis_server.url, name="test", timeout_seconds=5)
    yield client
    await client.aclose()


@pytest.fixture
def keys() -> Keys:
    """A namespace of this test alone."""
    return Keys(f"test{next(_numbers)}")
