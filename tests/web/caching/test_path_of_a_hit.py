"""How much code a reader goes through to follow a cached response from the route to Redis and back."""

import shutil
import sys
from pathlib import Path
from types import FrameType

import pytest
from quart import Quart

from tests.application import create_test_app
from tests.notices import PATH
from tests.services import RedisServer

APP = Path(__file__).parents[3] / "app"
# The blocks that a hit crosses: guard, identity, limits, cache and client. A change that adds a file says why here.
MOST_FILES = 26
# Runs each 10 ms while commands are under way.
BESIDE = {"kit/client/watchdog.py"}


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
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(APP):
            self.files.add(str(path.relative_to(APP)))


@pytest.fixture
def app(redis_server: RedisServer, sqlite_template: Path, tmp_path: Path) -> Quart:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    environ = {
        "ENVIRONMENT": "testing",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        "REDIS_URL": redis_server.url,
        "CONSUMER": "false",
    }
    return create_test_app(environ)


@pytest.mark.server
async def test_a_hit_enters_few_files(app: Quart) -> None:
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        for _ in range(2):
            assert (await client.get(PATH)).status_code == 200
        traces = []
        for _ in range(5):
            with Trace() as trace:
                response = await client.get(PATH)
            traces.append(trace.files)
            assert "Age" in response.headers
            assert "RateLimit" in response.headers
    # What runs beside the requests is not in each of them, or is named.
    files = sorted(set.intersection(*traces) - BESIDE)
    assert "kit/cache/loader.py" in files
    assert len(files) <= MOST_FILES, f"{len(files)} files: {files}"
