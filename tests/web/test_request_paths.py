"""How much code a reader goes through to follow a request from its route to Redis and back, in each block."""

import logging
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from quart import Blueprint, Quart

from app.domain.slice import Slice
from app.factory import create_app
from app.kit.keys import Keys
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.resources import Resources
from app.settings import load_settings
from app.web.context import EXTENSION, resources
from app.web.edge.edge import Edge
from app.web.limits.declare import rate_limit
from tests.domain.client import Client
from tests.domain.test_stream_revocation import streamed
from tests.notices import PATH
from tests.notices import SLICE as NOTICES
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server

APP = Path(__file__).parents[2] / "app"
# What runs beside an act, such as the first subscription, may last for some of its runs.
LEAST_RUNS, MOST_RUNS = 5, 100
# What runs at intervals, whether or not there is a request.
BESIDE = {
    "kit/client/watchdog.py",
    "kit/events/heartbeat.py",
    "kit/events/open_streams.py",
    "kit/supervisor.py",
    "kit/tasks/scheduler.py",
}
# How many files a request enters at most. A change that adds one says here why.
# The edge, what it asks early, how a GET goes on, the guard, who asks, the limit and the client: each other way begins
# with these.
LIMIT_CHECK = 21
# The edge answers it: the guard finds the route, and in place of the layers behind it the cache is asked.
CACHE_HIT = 26
# These, and an event on its way to Redis and from there to an open stream, whose writer is woken in its turn, by a flag
# (kit.aio) that takes 48 bytes in place of an asyncio.Event of 851: a process has ten thousand.
PUBLISHED_EVENT = 31
# These, a task on its way into the queue, and a worker that claims, runs and reports it.
CLAIMED_TASK = 40

blueprint = Blueprint("paths", __name__)


class Trace:
    """The files of app/ whose functions are called inside the block."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def __enter__(self) -> "Trace":
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        name = file_of(frame)
        if event == "call" and name and not is_beside(frame):
            self.files.add(name)


def file_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(APP)) if path.is_relative_to(APP) else None


def is_beside(frame: FrameType | None) -> bool:
    """Whether a file of BESIDE has called: on a loaded machine it may run in each of several requests."""
    while frame is not None:
        if file_of(frame) in BESIDE:
            return True
        frame = frame.f_back
    return False


@task(timeout_seconds=10)
async def greet(context: TaskContext, name: str) -> str:
    return f"Hello, {name}"


@blueprint.get("/limited")
@rate_limit("1000/minute")
async def limited() -> str:
    return "admitted"


@blueprint.post("/published")
@rate_limit("1000/minute")
async def published() -> str:
    await resources().publisher.publish("broadcast", "greeted", {"name": "Ada"})
    return "published"


@blueprint.post("/enqueued")
@rate_limit("1000/minute")
async def enqueued() -> str:
    handle = await resources().queue.enqueue(greet, "Ada")
    return handle.id


@pytest.fixture(params=[False])
async def app(
    request: pytest.FixtureRequest, redis_server: RedisServer, keys: Keys, sqlite_template: Path, tmp_path: Path
) -> AsyncIterator[Quart]:
    """The service on a real server; its parameter is whether it runs tasks."""
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "NAMESPACE": keys.namespace,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "REDIS_URL": redis_server.url,
        "CONSUMER": str(request.param),
        # A loaded machine may answer late.
        "REDIS_BUDGET_MS": "5000",
    }
    created = create_app(load_settings(environ), slices=(NOTICES, Slice(blueprint=blueprint, tasks=(greet,))))
    # Another test of this process may have configured the log, whose files would count.
    logging.disable(logging.INFO)
    async with created.test_app():
        yield created
    logging.disable(logging.NOTSET)


async def check(act: Callable[[], Awaitable[Any]], *, most: int, through: str) -> None:
    """Each of several runs enters at most so many files. What runs beside them for a while is not in each."""
    traces: list[set[str]] = []
    while len(traces) < MOST_RUNS:
        with Trace() as trace:
            await act()
        traces.append(set(trace.files))
        files = sorted(set.intersection(*traces))
        assert through in files
        if len(traces) >= LEAST_RUNS and len(files) <= most:
            return
    pytest.fail(f"{len(files)} files: {files}")


async def test_a_limit_check(app: Quart) -> None:
    client = app.test_client(use_cookies=False)

    async def act() -> None:
        response = await client.get("/limited")
        assert response.headers["X-RateLimit-Limit"] == "1000"

    await check(act, most=LIMIT_CHECK, through="kit/limits/limiter.py")


async def test_a_cache_hit(app: Quart) -> None:
    if not Edge.asks_early:
        pytest.skip("a hit leaves from the edge, which is off")
    client = app.test_client(use_cookies=False)
    assert (await client.get(PATH)).status_code == 200

    async def act() -> None:
        response = await client.get(PATH)
        assert "Age" in response.headers
        assert "RateLimit" in response.headers

    await check(act, most=CACHE_HIT, through="kit/cache/loader.py")


async def test_a_published_event(app: Quart) -> None:
    client = app.test_client(use_cookies=False)
    async with streamed(app, Client(app)) as stream:

        async def act() -> None:
            before = len(stream.events)
            assert (await client.post("/published")).status_code == 200
            await eventually(lambda: len(stream.events) > before)

        await check(act, most=PUBLISHED_EVENT, through="kit/events/stream.py")


@pytest.mark.parametrize("app", [True], indirect=True)
async def test_a_claimed_task(app: Quart) -> None:
    client = app.test_client(use_cookies=False)
    found: Resources = app.extensions[EXTENSION]

    async def act() -> None:
        task_id = await (await client.post("/enqueued")).get_data(as_text=True)
        record = found.keys.task_record("default", task_id)

        async def is_done() -> bool:
            return bool(await cast(Any, found.redis.hget(record, "state")) == b"done")

        await eventually(is_done)

    await check(act, most=CLAIMED_TASK, through="kit/tasks/executor.py")
