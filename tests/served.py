"""An application under Hypercorn, in the loop of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from hypercorn.asyncio import serve
from quart import Quart

from app.server import BoundedConfig
from tests.services import free_port
from tests.waiting import eventually


@asynccontextmanager
async def served(app: Quart) -> AsyncIterator[int]:
    """The app with its lifespan, and the sockets of `quartet serve`; the port."""
    config = BoundedConfig()
    port = free_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 1
    config.accesslog = config.errorlog = None
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        await eventually(lambda: _listens(port))
        yield port
    finally:
        stop.set()
        await serving


async def _listens(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
