"""The same application under Granian (2.8), embedded in our loop, with the same order of a stop.

What it cannot do is refused (`refusals`), or said at the start.
"""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.utils import wrap_app

from app.kit.aio import first_of
from app.serving.sockets import listening
from app.serving.worker import CANCEL_SECONDS, Serving, timed
from app.settings import Settings

logger = logging.getLogger(__name__)
# Limits that Granian does not have: they keep their defaults, which have no effect.
WITHOUT_EFFECT = (
    "MAX_CONNECTIONS_PER_ADDRESS",
    "MAX_REQUEST_LINE_BYTES",
    "MAX_HEADER_COUNT",
    "MIN_BODY_BYTES_PER_SECOND",
    "SEND_TIMEOUT_SECONDS",
)
# hyper reads no less.
LEAST_HEADER_BYTES = 8192


def refusals(settings: Settings) -> list[str]:
    """What is asked of it and it cannot do: it is not started."""
    wanted = {
        "BIND=fd://: Granian opens its sockets itself": settings.bind.startswith("fd://"),
        "REDIRECT_BIND: Granian listens on one address": bool(settings.redirect_bind),
        "WORKERS: with Granian, each node has one; `quartet serve` replaces none": settings.workers > 1,
        "WORKER_MAX_REQUESTS: with Granian, a process is not replaced": bool(settings.worker_max_requests),
        f"MAX_HEADER_BYTES: Granian takes {LEAST_HEADER_BYTES} at the least": (
            settings.max_header_bytes < LEAST_HEADER_BYTES
        ),
    }
    changed = [name for name in WITHOUT_EFFECT if _is_changed(settings, name.lower())]
    return [
        *(problem for problem, is_wanted in wanted.items() if is_wanted),
        *(f"{name}: Granian has no such limit" for name in changed),
    ]


def _is_changed(settings: Settings, name: str) -> bool:
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


class Cuttable:
    """The application, whose requests can be counted and cancelled: Granian waits for them without an end."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._tasks.add(task)
        try:
            await (self._socket if scope["type"] == "websocket" else self._request)(scope, receive, send)
        finally:
            self._tasks.discard(task)

    async def _request(self, scope: Any, receive: Any, send: Any) -> None:
        """One that ends without a response is 400, not Granian's 500: its body was malformed, or its client left."""
        is_answered = False

        async def answer(message: Any) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        await self._app(scope, receive, answer)
        if not is_answered:
            headers = [(b"connection", b"close"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        """Granian closes none while something receives from it, as Quart does without a pause."""
        closing, unheard, closed = asyncio.Event(), asyncio.Lock(), asyncio.Event()

        async def receive_message() -> Any:
            # Quart reads both, and Granian sends one.
            return {"bytes": None, "text": None, **await receive()}

        async def hear() -> Any:
            async with unheard:
                message = await first_of(closing.wait(), receive_message())
            if not isinstance(message, dict):
                # Quart ends the handler at this message: not before its close has been sent.
                await closed.wait()
                return {"type": "websocket.disconnect", "code": 1005}
            return message

        async def say(message: Any) -> None:
            if message["type"] != "websocket.close":
                await send(message)
                return
            closing.set()
            async with unheard:
                await send(message)
            closed.set()

        await self._app(scope, hear, say)

    async def end(self, *, within_seconds: float) -> int:
        """Wait for the requests, and cancel those that take longer; the number of these."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CANCEL_SECONDS)
        return len(left)


async def serve_granian(serving: Serving, settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. CannotListen where the address cannot be had."""
    logger.warning(
        "Granian has no such limits: %s, nor on TLS handshakes and WebSocket messages; "
        "a WebSocket is refused without a body",
        ", ".join(WITHOUT_EFFECT),
    )
    _probe(settings.bind)
    loop = asyncio.get_running_loop()
    lifespan = Lifespan(wrap_app(serving.app, 0, "asgi"), serving.config, loop, {})  # type: ignore[arg-type]
    running = loop.create_task(lifespan.handle_lifespan())
    await lifespan.wait_for_startup()
    if running.done():
        running.result()
    app = Cuttable(serving.app)
    server = _server(app, serving, settings)
    served = loop.create_task(server.serve())
    serving.ready()
    try:
        await first_of(stop.wait(), asyncio.wait({served}))
        if served.done():
            served.result()
        await _stop(app, server, served, serving)
    finally:
        with timed("stopped the application"):
            await lifespan.wait_for_shutdown()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _probe(address: str) -> None:
    """CannotListen. Granian would share a port that is served already, and fails where a Unix socket has its file."""
    listening(address).close()
    if address.startswith("unix:"):
        os.unlink(address.removeprefix("unix:"))


def _server(app: Any, serving: Serving, settings: Settings) -> Server:
    host, _, port = settings.bind.rpartition(":")
    where: dict[str, Any] = {"address": host.strip("[]"), "port": int(port)} if settings.listens_on_network else {}
    if not where:
        where = {"uds": Path(settings.bind.removeprefix("unix:"))}
    if settings.has_tls:
        where |= {"ssl_cert": Path(settings.tls_certificate), "ssl_key": Path(settings.tls_key)}
    return Server(
        app,
        **where,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto if settings.http2 else HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.header_timeout_seconds * 1000),
            max_buffer_size=settings.max_header_bytes,
        ),
        http2_settings=HTTP2Settings(
            max_headers_size=settings.max_header_bytes,
            max_concurrent_streams=serving.config.h2_max_concurrent_streams,
        ),
        backlog=serving.config.backlog,
        # What comes beyond waits to be accepted. Without a free descriptor Granian would spin.
        backpressure=serving.limits.connections,
        ssl_protocol_min=SSLProtocols.tls12,
        log_enabled=False,
    )


async def _stop(app: Cuttable, server: Server, served: "asyncio.Task[None]", serving: Serving) -> None:
    serving.unready()
    if serving.readiness_delay_seconds:
        with timed("waited, so that balancers see that this node is not ready"):
            await asyncio.sleep(serving.readiness_delay_seconds)
    server.stop()  # type: ignore[no-untyped-call]
    with timed("stopped accepting, and drained"):
        await serving.drain()
    with timed("finished requests"):
        left = await app.end(within_seconds=serving.config.graceful_timeout)
    if left:
        logger.info("%d requests are cut: their clients do not end", left)
    await asyncio.wait({served}, timeout=CANCEL_SECONDS)
    served.cancel()
    await asyncio.wait({served}, timeout=CANCEL_SECONDS)
