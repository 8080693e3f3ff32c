"""How much code a reader goes through to follow a cached response from the route to Redis and back."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest
from quart import Quart

from app.factory import create_app
from app.settings import load_settings
from tests.services import RedisServer

APP = Path(__file__).parents[3] / "app"
# The blocks that a hit crosses: guard, identity, limits, cache and client. A change that adds a file says why here.
MOST_FILES = 34
ROUTE = "/api/v1/articles"


class Trace:
    """Counts the calls of functions in each file of app/ while it is entered."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> "Trace":
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(APP):
            self.calls[str(path.relative_to(APP))] += 1


@pytest.fixture
def app(redis_server: RedisServer, sqlite_template: Path, tmp_path: Path) -> Quart:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "REDIS_URL": redis_server.url,
        "CONSUMER": "false",
    }
    return create_app(load_settings(environ))


@pytest.mark.server
async def test_a_hit_enters_few_files(app: Quart) -> None:
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        for _ in range(2):
            assert (await client.get(ROUTE)).status_code == 200
        with Trace() as trace:
            response = await client.get(ROUTE)
    assert response.headers["Age"] == "0"
    assert "RateLimit" in response.headers
    files = sorted(trace.calls)
    assert len(files) <= MOST_FILES, f"{len(files)} files: {files}"
