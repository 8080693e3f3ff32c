"""Serves a peer's application on uvicorn, and publishes as standard input says."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop

from bench.event_server import obey
from bench.event_streams import raise_file_limit


def run(app: Any, publish: Callable[[], Awaitable[object]]) -> None:
    raise_file_limit()
    uvloop.run(_main(app, publish))


async def _main(app: Any, publish: Callable[[], Awaitable[object]]) -> None:
    config = uvicorn.Config(app, port=int(os.environ["PORT"]), backlog=4096, log_level="warning", access_log=False)
    serving = asyncio.create_task(uvicorn.Server(config).serve())
    await obey(publish)
    serving.cancel()
