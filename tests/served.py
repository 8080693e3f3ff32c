"""The application under Hypercorn in the loop of the test, which may stop it and start it again on its port."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypercorn.asyncio import serve
from quart import Quart

from app.resources import Resources
from app.server import BoundedConfig
from app.web.context import EXTENSION
from tests.application import create_test_app
from tests.services import free_port
from tests.waiting import eventually


@asynccontextmanager
async def served(app: Quart, *, port: int = 0) -> AsyncIterator[int]:
    """The app with its lifespan, and the sockets of `quartet serve`; the port, a free one where none is given."""
    config = BoundedConfig()
    port = port or free_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 1
    config.accesslog = config.errorlog = None
    # As in hypercorn.toml.
    config.keep_alive_max_requests = 1_000_000_000
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        await eventually(lambda: _listens(port))
        yield port
    finally:
        stop.set()
        await serving


class Served:
    """The whole application on one port, between start() and stop()."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.port = free_port()
        self._environ = environ
        self._stack = AsyncExitStack()
        self.app = create_test_app(environ)

    async def start(self) -> None:
        await self._stack.enter_async_context(served(self.app, port=self.port))

    async def stop(self) -> None:
        """End the streams as `quartet serve` does, and the server. start() serves a new application."""
        await self.resources.hub.drain(0.1)
        await self._stack.aclose()
        self.app = create_test_app(self._environ)

    @property
    def resources(self) -> Resources:
        opened: Resources = self.app.extensions[EXTENSION]
        return opened

    def url(self, path: str = "/api/v1/events", *, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def publish(self, channel: str, type: str, data: object) -> str:
        return await self.resources.publisher.publish(channel, type, data)


@pytest.fixture
def served_settings() -> dict[str, str]:
    """A module may add settings to those of the server."""
    return {}


@pytest.fixture
async def server(served_settings: dict[str, str], sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Served]:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    database_url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    server = Served({"ENVIRONMENT": "testing", "DATABASE_URL": database_url, "CONSUMER": "0", **served_settings})
    await server.start()
    yield server
    await server.stop()


async def _listens(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
