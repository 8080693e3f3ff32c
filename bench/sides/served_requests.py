"""What a server costs beside its application: CPU time a request and a delivery, under SERVER (`ours` or `plain`).

The application does next to nothing, and its clients are in a process of their own.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any, cast

import uvloop
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from app.serving.limits import Limits
from app.serving.sockets import listening
from app.serving.worker import Serving, serve
from bench.sides.served_clients import CONNECTIONS, DELIVERIES, REQUESTS, STREAMS
from tests.services import free_port

CHUNK = b'id: 1792-0\nevent: tick\ndata: {"number":1}\n\n'


class Application:
    """/ is answered at once; /stream sends a chunk at each turn, when all streams are open."""

    def __init__(self) -> None:
        self.streams = 0
        self.all_open = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        if scope["path"] == "/stream":
            await self._stream(send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    async def _stream(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.streams += 1
        if self.streams == STREAMS:
            self.all_open.set()
        await self.all_open.wait()
        for _ in range(DELIVERIES):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


async def main(server: str) -> None:
    port, stop = free_port(), asyncio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 1
    app: Any = Application()
    if server == "plain":
        running = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=cast(Any, stop.wait)))
    else:
        made = listening(config.bind[0])
        running = asyncio.create_task(serve(Serving(app, config, Limits(), plain=[made]), stop))
    figures = {}
    for figure, kind, amount in (
        ("CPU, µs a request", "requests", CONNECTIONS * REQUESTS),
        ("CPU, µs a delivery", "streams", STREAMS * DELIVERIES),
    ):
        clients = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.sides.served_clients", str(port), kind, stdout=asyncio.subprocess.PIPE
        )
        assert clients.stdout is not None
        # They are connected: neither their start nor the server's is measured.
        await clients.stdout.readline()
        began = time.process_time()
        if await clients.wait():
            raise RuntimeError("a client has failed")
        figures[figure] = (time.process_time() - began) / amount * 1e6
    stop.set()
    await running
    print(json.dumps(figures))


if __name__ == "__main__":
    uvloop.run(main(os.environ["SERVER"]))
