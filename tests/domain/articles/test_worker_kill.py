"""The worker of the whole service, killed with -9 in the middle of its work: everything accepted still gets done."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.domain.articles.models import Article
from app.domain.articles.service import create_article
from app.domain.users.service import register_user
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources, relaying
from app.principal import Principal
from app.resources import Resources
from app.settings import load_settings
from tests.commands import environment
from tests.services import RedisServer, end
from tests.waiting import eventually

pytestmark = pytest.mark.server

ARTICLES = 200
# A task whose worker died three times is taken for the cause, and kept as dead.
KILLS = 2


@pytest.fixture
def environ(redis_server: RedisServer, sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    shutil.copy(sqlite_template, tmp_path / "worker.db")
    return {
        "REDIS_URL": redis_server.url,
        "NAMESPACE": "worker-kill",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'worker.db'}",
        # A killed worker's tasks are taken over when their lease ends.
        "TASK_LEASE_SECONDS": "1",
    }


@pytest.fixture
async def resources(environ: dict[str, str]) -> AsyncIterator[Resources]:
    """A node that accepts articles and relays their tasks, and runs none itself."""
    settings = load_settings(environ)
    async with open_resources(settings, role="web", telemetry=NoTelemetry()) as resources, relaying(resources):
        yield resources


class WorkerProcess:
    """`quartet worker` as an operator starts it."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._environ = environment(environ)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "app.cli", "worker"]
        self._process = subprocess.Popen(command, cwd=self._folder, env=self._environ, stderr=subprocess.DEVNULL)

    def end(self, number: int) -> int:
        assert self._process is not None
        end(self._process, with_signal=number)
        return self._process.returncode


@pytest.fixture
def worker(environ: dict[str, str], tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(environ, tmp_path)
    worker.start()
    yield worker
    worker.end(signal.SIGKILL)


async def processed(resources: Resources) -> int:
    async with resources.database.read(primary=True) as session:
        counted = await session.scalar(select(func.count()).select_from(Article).where(Article.summary.is_not(None)))
        return counted or 0


async def test_killed_in_the_middle_of_200_articles(resources: Resources, worker: WorkerProcess) -> None:
    user = await register_user(resources, email="a@example.org", name="A", password="correct horse battery")
    author = Principal(user.id, frozenset(), "session")
    for number in range(ARTICLES):
        content = f"Article {number} tells of a harbour. Ships of the harbour carry grain. The grain feeds the town."
        await create_article(resources, author, title=f"Harbour {number}", content=content)
    for kill in range(1, KILLS + 1):
        await eventually(partial(_at_least, resources, kill * 50), seconds=60)
        assert worker.end(signal.SIGKILL) == -signal.SIGKILL
        assert await processed(resources) < ARTICLES
        worker.start()
    await eventually(partial(_at_least, resources, ARTICLES), seconds=60)
    depth = await resources.queue.depth()
    assert (depth["dead"], depth["high"] + depth["normal"] + depth["low"]) == (0, 0)
    # And SIGTERM ends it in order.
    assert await asyncio.to_thread(worker.end, signal.SIGTERM) == 0


async def _at_least(resources: Resources, number: int) -> bool:
    return await processed(resources) >= number
