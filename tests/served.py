"""The application under our server in the loop of the test, which may stop it and start it again on its port."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from hypercorn.config import Config
from quart import Quart

from app.resources import Resources
from app.serving.engine import CONFIG_FILE
from app.serving.handlers import Application
from app.serving.limits import Limits
from app.serving.sockets import listening
from app.serving.worker import Serving, serve
from app.web.context import EXTENSION
from tests.application import create_test_app
from tests.services import free_port


@asynccontextmanager
async def served(
    app: Quart, *, port: int = 0, limits: Limits | None = None, drain_seconds: float = 0
) -> AsyncIterator[int]:
    """The app with its lifespan, as `quartet serve` serves it; the port, a free one where none is given."""

    async def drain() -> None:
        await app.extensions[EXTENSION].hub.drain(drain_seconds)

    config = Config.from_toml(CONFIG_FILE)
    config.graceful_timeout = 1
    config.accesslog = config.errorlog = None
    socket = listening(f"127.0.0.1:{port or free_port()}")
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = Serving(
        app=cast(Application, app),
        config=config,
        limits=limits or Limits(),
        plain=[socket],
        ready=ready.set,
        drain=drain,
    )
    task = asyncio.create_task(serve(serving, stop))
    try:
        await asyncio.wait({task, waiting := asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        yield socket.getsockname()[1]
    finally:
        stop.set()
        await task


class Served:
    """The whole application on one port, between start() and stop()."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.port = free_port()
        self._environ = environ
        self._stack = AsyncExitStack()
        self.app = create_test_app(environ)

    async def start(self) -> None:
        await self._stack.enter_async_context(served(self.app, port=self.port, drain_seconds=0.1))

    async def stop(self) -> None:
        """End the streams as `quartet serve` does, and the server. start() serves a new application."""
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
