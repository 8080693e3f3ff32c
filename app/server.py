"""Serving under Hypercorn: bounds on what a client may do to it, and a shutdown that ends event streams first."""

import asyncio
import gc
import logging
import socket
import sys
from pathlib import Path
from typing import Any, cast

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets
from hypercorn.protocol import ws_stream
from hypercorn.run import run
from quart import Quart

from app.kit.aio import stop_signal
from app.settings import Settings
from app.web.context import EXTENSION

logger = logging.getLogger(__name__)

CONFIG_FILE = Path(__file__).parent.parent / "hypercorn.toml"
# A connection ends when sent data stays unacknowledged for this long (TCP_USER_TIMEOUT, RFC 5482). Only Linux has the
# option; elsewhere the system's retransmission limit ends such a connection later.
USER_TIMEOUT_MS = 10_000
# The kernel's buffer for one connection. Small, so that a slow client is noticed here.
SEND_BUFFER_BYTES = 64 * 1024
DEVELOPMENT_GRACE_SECONDS = 0.5
LAST_SECONDS = 10.0
# Objects made before the youngest generation is collected, and collections of one before the next older's. The
# defaults (700, 10, 10) suit scripts: with 10,000 streams open, each full collection stops the loop for long.
GC_THRESHOLDS = (10_000, 20, 50)


# asyncio's message for an error that a server has not caught.
CONNECTION_FAILED = "Unhandled exception in client_connected_cb"


class BoundedConfig(Config):
    """Hypercorn's configuration, whose TCP sockets bound the memory of a stalled client."""

    _bound: Sockets | None = None

    def bind_now(self) -> None:
        """Bind before anything else begins. OSError where the address cannot be had.

        As for one worker: its workers share these sockets, and with SO_REUSEPORT, which Hypercorn sets for several,
        a second server on the same port would take a part of the connections.
        """
        workers, self.workers = self.workers, 1
        try:
            self._bound = self.create_sockets()
        finally:
            self.workers = workers

    def create_sockets(self) -> Sockets:
        if self._bound is not None:
            return self._bound
        sockets = super().create_sockets()
        for listening in (*sockets.secure_sockets, *sockets.insecure_sockets):
            if listening.family in (socket.AF_INET, socket.AF_INET6):
                # Accepted connections inherit both on Linux.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                if sys.platform == "linux":
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        return sockets


def configuration(settings: Settings) -> BoundedConfig:
    """hypercorn.toml, with the address and the number of workers from the settings."""
    config = cast(BoundedConfig, BoundedConfig.from_toml(CONFIG_FILE))
    config.bind = [settings.bind]
    config.workers = settings.workers
    # The end of the lifespan: the tasks' grace period, and time for the last reports and the outbox.
    config.shutdown_timeout = settings.task_grace_seconds + LAST_SECONDS
    if not settings.is_production:
        # Ctrl-C ends it at once, also during a request.
        config.graceful_timeout = DEVELOPMENT_GRACE_SECONDS
    # Hypercorn's own handler would write each line a second time.
    config.errorlog = logging.getLogger("hypercorn")
    return config


def harden(app: Quart) -> None:
    """Close what Hypercorn leaves open to any client, before the app is served: compression and tracebacks.

    A compressed WebSocket message (RFC 7692) is inflated before its size is checked: 1 MB would take 1 GB of memory.
    And each malformed frame, as each connection that times out, would write some sixty lines to the log.
    """
    # Hypercorn has no setting for it. None: no extension is accepted.
    ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]

    @app.before_serving
    async def report_in_one_line() -> None:
        asyncio.get_running_loop().set_exception_handler(_report)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if context["message"] != CONNECTION_FAILED:
        loop.default_exception_handler(context)
        return
    error: BaseException | None = context.get("exception")
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    traceback = error if logger.isEnabledFor(logging.DEBUG) else None
    logger.warning("a connection has failed: %s", type(error).__name__, exc_info=traceback)


def serve_one(app: Quart, settings: Settings, config: Config) -> None:
    """Serve in this process until SIGINT or SIGTERM."""
    harden(app)
    # What is loaded now stays: the collector skips it, and visits the rest less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, config, drain_seconds=settings.drain_seconds))


def serve_many(config: Config) -> int:
    """Serve in config.workers processes under Hypercorn's supervision; returns the exit code.

    Event streams are cut at hypercorn.toml's graceful_timeout: Hypercorn has no shutdown trigger for its workers.
    """
    config.application_path = "app.asgi:app"
    return run(config)


async def _serve(app: Quart, config: Config, *, drain_seconds: float) -> None:
    stop = stop_signal()

    async def drained() -> None:
        """Hypercorn closes its sockets when this returns; the streams have ended before."""
        await stop.wait()
        await app.extensions[EXTENSION].hub.drain(drain_seconds)

    await serve(app, config, shutdown_trigger=drained)
