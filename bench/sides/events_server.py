"""Serves Quartet as `quartet serve` does, and publishes as standard input says."""

import asyncio
import gc
import os
from typing import Any, cast

import uvloop

from app.factory import create_app
from app.serving.engine import GC_THRESHOLDS, configuration, limits_of, open_sockets
from app.serving.worker import Serving, serve
from app.settings import load_settings
from app.web.context import EXTENSION
from bench.event_server import obey
from bench.event_streams import TEXT, raise_file_limit


async def main() -> None:
    settings = load_settings(os.environ)
    app = create_app(settings)

    async def publish() -> None:
        await app.extensions[EXTENSION].publisher.publish("broadcast", "tick", TEXT)

    config = configuration(settings)
    limits = limits_of(settings, config)
    plain = open_sockets(settings).plain
    serving = asyncio.create_task(serve(Serving(cast(Any, app), config, limits, plain), asyncio.Event()))
    await obey(publish)
    serving.cancel()


if __name__ == "__main__":
    raise_file_limit()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    uvloop.run(main())
