"""The application under a server in the loop of the test, which may stop it and start it again on its port."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from quart import Quart

from app.resources import Resources
from app.serving.engine import CONFIG_FILE
from app.serving.granian_server import serve_granian
from app.serving.handlers import Application
from app.serving.limits import Limits
from app.serving.sockets import listening
from app.serving.worker import Serving, serve
from app.settings import load_settings
from app.web.context import EXTENSION
from tests.application import create_test_app
from tests.services import free_port
from tests.waiting import eventually

# What serves: `ours` (Hypercorn's protocols in app/serving), `plain` (Hypercorn itself) or `granian`.
SERVER = os.environ.get("TEST_SERVER", "ours")


@asynccontextmanager
async def served(
    app: Quart, *, port: int = 0, limits: Limits | None = None, drain_seconds: float = 0
) -> AsyncIterator[int]:
    """The app with its lifespan, as `quartet serve` serves it; the port, a free one where none is given."""
    config = Config.from_toml(CONFIG_FILE)
    config.graceful_timeout = 1
    config.accesslog = config.errorlog = None
    port = port or free_port()
    config.bind = [f"127.0.0.1:{port}"]
    stop = asyncio.Event()

    async def drain() -> None:
        if EXTENSION in app.extensions:
            await app.extensions[EXTENSION].hub.drain(drain_seconds)

    serving = Serving(cast(Application, app), config, limits or Limits(), drain=drain)
    task = asyncio.create_task(_serve(serving, port, stop))
    try:
        await eventually(lambda: task.done() or _listens(port))
        if task.done():
            task.result()
        yield port
    finally:
        stop.set()
        await task


async def _serve(serving: Serving, port: int, stop: asyncio.Event) -> None:
    if SERVER == "granian":
        await serve_granian(serving, load_settings({"BIND": f"127.0.0.1:{port}"}), stop)
    elif SERVER == "plain":

        async def drained() -> None:
            await stop.wait()
            await serving.drain()

        await hypercorn_serve(cast(Any, serving.app), serving.config, shutdown_trigger=drained)
    else:
        await serve(replace(serving, plain=[listening(f"127.0.0.1:{port}")]), stop)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
