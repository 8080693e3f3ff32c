"""Bare streams of Quart on Hypercorn: a queue a client, and the text put into each."""

import asyncio
import os
from collections.abc import AsyncGenerator

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response

from bench.event_server import obey
from bench.event_streams import TEXT, raise_file_limit

app = Quart(__name__)
queues: set[asyncio.Queue[bytes]] = set()


@app.get("/events")
async def events() -> Response:
    async def stream() -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        queues.add(queue)
        try:
            yield b":\n\n"
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    response = Response(stream(), content_type="text/event-stream")
    response.timeout = None
    return response


async def publish() -> None:
    frame = b"data: %s\n\n" % TEXT.encode()
    for queue in queues:
        queue.put_nowait(frame)


async def main() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    config.backlog = 4096
    config.accesslog = None
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=asyncio.Event().wait))
    await obey(publish)
    serving.cancel()


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(main())
