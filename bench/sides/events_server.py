"""Serves Quartet as `quartet serve` does, and publishes as standard input says."""

import asyncio
import gc
import os

import uvloop
from hypercorn.asyncio import serve

from app.factory import create_app
from app.server import GC_THRESHOLDS, configuration
from app.settings import load_settings
from app.web.context import EXTENSION
from bench.event_server import obey
from bench.event_streams import TEXT, raise_file_limit


async def main() -> None:
    settings = load_settings(os.environ)
    app = create_app(settings)

    async def publish() -> None:
        await app.extensions[EXTENSION].publisher.publish("broadcast", "tick", TEXT)

    serving = asyncio.create_task(serve(app, configuration(settings), shutdown_trigger=asyncio.Event().wait))
    await obey(publish)
    serving.cancel()


if __name__ == "__main__":
    raise_file_limit()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    uvloop.run(main())
