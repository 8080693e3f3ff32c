"""Fixtures for all tests: Redis in each deployment, and key names that no other test uses."""

import gc
import itertools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import cast

import pytest
from quart import Quart
from quart.testing import QuartClient
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.keys import Keys
from app.web.edge.edge import Edge
from tests.application import create_test_app
from tests.deployments import RedisCluster
from tests.services import RedisServer, postgres

pytest_plugins = ["tests.databases", "tests.served", "tests.browsing"]

_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--edge", choices=("on", "off"), default="on", help="off: the edge asks Redis nothing early")


def pytest_configure(config: pytest.Config) -> None:
    # The layers inside answer the same: the tests of the web run both ways.
    Edge.asks_early = config.getoption("edge") == "on"


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are CPUs: a part of the tests' time is waiting, for servers and for leases to end."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What is loaded by now lives as long as the run: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """pytest-xdist sends what a test has logged as UTF-8, which has no lone surrogates."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A test that configures the log of its process leaves it to the others as it was."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    if root.handlers != handlers or root.level != level:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real server for the whole run. A test that kills servers starts its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of one test's own, to be killed, stopped or filled."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One real cluster for the whole run. A node that waits for a loaded processor does not count as failed."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"), node_timeout_ms=15_000).start()
    yield cluster
    cluster.stop()


DEPLOYMENTS = ["memory", *(pytest.param(name, marks=pytest.mark.server) for name in ("server", "cluster"))]


@pytest.fixture(params=DEPLOYMENTS)
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each deployment that the kit's functional tests run on."""
    if request.param == "memory":
        return "memory://"
    deployment: RedisServer | RedisCluster = request.getfixturevalue(f"redis_{request.param}")
    return deployment.url


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


@pytest.fixture
async def app(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Quart]:
    """The whole application on the embedded stores, serving."""
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {"ENVIRONMENT": "testing", "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"}
    app = create_test_app(environ)
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> QuartClient:
    return cast(QuartClient, app.test_client())


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, str]:
    """The settings of a start without any server."""
    return {"REDIS_URL": "memory://", "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'walk.db'}"}
