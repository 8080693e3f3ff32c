"""A small application, and a server of ours around it in the loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from hypercorn.config import Config

from app.serving.limits import Limits
from app.serving.sockets import listening
from app.serving.worker import Serving, serve
from tests.services import free_port

HEAD = b" HTTP/1.1\r\nHost: x\r\n"


class Application:
    """Answers /slow and /stubborn when told so, /stream without an end, /read when the body has come, and the rest at
    once; accepts a WebSocket at /socket; counts what is under way, and notes the end of its lifespan."""

    def __init__(self) -> None:
        self.streams = self.waiting = self.answered = self.written = 0
        self.release = asyncio.Event()
        self.chunk = b"data\n"
        self.note: Callable[[str], object] = str

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    self.note("shutdown")
                    return
        elif scope["type"] == "websocket" and scope["path"] == "/socket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["path"] == "/stream":
            await self._stream(receive, send)
        else:
            await self._wait(scope["path"], receive)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            self.answered += 1

    async def _wait(self, path: str, receive: Any) -> None:
        self.waiting += 1
        try:
            if path == "/slow":
                await self.release.wait()
            while path == "/stubborn" and not self.release.is_set():
                with suppress(asyncio.CancelledError):
                    await self.release.wait()
            while path == "/read" and (await receive()).get("more_body"):
                pass
        finally:
            self.waiting -= 1

    async def _stream(self, receive: Any, send: Any) -> None:
        self.streams += 1
        left = asyncio.ensure_future(self._until_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not left.done():
                await send({"type": "http.response.body", "body": self.chunk, "more_body": True})
                self.written += 1
                await asyncio.sleep(0.005)
        finally:
            left.cancel()
            self.streams -= 1

    async def _until_left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


def configured() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None
    config.graceful_timeout, config.keep_alive_timeout = 0.3, 75
    config.websocket_max_message_size = 1000
    return config


@asynccontextmanager
async def ours(app: Application, **options: Any) -> AsyncIterator[int]:
    stop, ready = asyncio.Event(), asyncio.Event()
    made = listening(f"127.0.0.1:{free_port()}")
    limits = options.pop("limits", Limits())
    where: Any = {"secure" if "tls" in options else "plain": [made]}
    serving = Serving(cast(Any, app), configured(), limits, ready=ready.set, **where, **options)
    task = asyncio.create_task(serve(serving, stop))
    await ready.wait()
    try:
        yield made.getsockname()[1]
    finally:
        stop.set()
        await task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, closed at the end of the block. Its reader takes no more than a few KiB unasked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
