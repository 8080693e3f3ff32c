"""One worker: serves until it is told to stop, and then stops in one order (docs/serving.md).

In place of hypercorn.asyncio.run.worker_serve (Hypercorn 0.18), which on Python 3.12 and later waits for clients
without an end (hypercorn #308), and closes idle connections into which a request may be on its way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from random import randint
from socket import socket
from ssl import SSLContext
from typing import Any

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import wrap_app

from app.kit.aio import end_tasks, first_of
from app.kit.telemetry import NoTelemetry, Telemetry
from app.serving.acceptor import Acceptor
from app.serving.connection import Connection
from app.serving.handlers import Application, Handlers, ProtocolFlag
from app.serving.limits import Limits
from app.serving.listener import Listener

logger = logging.getLogger(__name__)
# What a handler may take to end when it is cancelled.
CANCEL_SECONDS = 1.0
# How long the idle connections of a worker that has a successor may stay.
REPLACED_SECONDS = 5.0


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Serving:
    """What a worker serves, and what it does around it.

    `ready` is called when connections are accepted, `wants_successor` when max_requests have been. At a stop
    `unready` is called first, and `drain` ends long responses after the sockets are closed.
    """

    app: Application
    config: Config
    limits: Limits
    plain: Sequence[socket] = ()
    secure: Sequence[socket] = ()
    tls: SSLContext | None = None
    max_requests: int = 0
    readiness_delay_seconds: float = 0.0
    drain: Callable[[], Awaitable[None]] = _nothing
    unready: Callable[[], None] = lambda: None
    ready: Callable[[], None] = lambda: None
    wants_successor: Callable[[], None] = lambda: None
    telemetry: Telemetry = field(default_factory=NoTelemetry)


async def serve(serving: Serving, stop: asyncio.Event, leave: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set, or `leave`, where another serves on the same sockets already.

    Raises what the application's start raises.
    """
    leave = leave or asyncio.Event()
    state: dict[str, Any] = {}
    loop = asyncio.get_running_loop()
    lifespan = Lifespan(wrap_app(serving.app, 0, "asgi"), serving.config, loop, state)  # type: ignore[arg-type]
    running = loop.create_task(lifespan.handle_lifespan())
    await lifespan.wait_for_startup()
    if running.done():
        running.result()
    # With jitter, so that workers which began together do not end together.
    most = serving.max_requests and randint(serving.max_requests * 9 // 10, serving.max_requests)  # noqa: S311
    context = WorkerContext(most or None)
    context.event_class = ProtocolFlag
    handlers = Handlers(serving.app)
    listener = Listener(handlers, serving.config, serving.limits, context, state=state, telemetry=serving.telemetry)
    acceptors = _listen(listener, serving)
    watching = loop.create_task(listener.watch())
    serving.ready()
    try:
        successor = loop.create_task(_call_after(context.terminate.wait(), serving.wants_successor))
        try:
            await first_of(stop.wait(), leave.wait())
        finally:
            await end_tasks([successor])
        await _stop(serving, listener, acceptors, is_replaced=not stop.is_set())
    finally:
        await end_tasks([watching])
        listener.report()
        with timed("stopped the application"):
            await lifespan.wait_for_shutdown()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _listen(listener: Listener, serving: Serving) -> list[Acceptor]:
    make, seconds = partial(Connection, listener), serving.limits.header_seconds
    acceptors = [Acceptor(sock, make) for sock in serving.plain]
    acceptors += [Acceptor(sock, make, tls=serving.tls, handshake_seconds=seconds) for sock in serving.secure]
    for acceptor in acceptors:
        acceptor.start(serving.config.backlog)
    return acceptors


async def _stop(serving: Serving, listener: Listener, acceptors: Sequence[Acceptor], *, is_replaced: bool) -> None:
    """Within the readiness delay, the drain and the graceful timeout, whatever clients do."""
    serving.unready()
    if serving.readiness_delay_seconds and not is_replaced:
        with timed("waited, so that balancers see that this node is not ready"):
            await asyncio.sleep(serving.readiness_delay_seconds)
    await asyncio.gather(*(acceptor.close() for acceptor in acceptors))
    # From here each response says that its connection closes.
    await listener.context.terminated.set()
    with timed("stopped accepting, and drained"):
        await serving.drain()
    if is_replaced:
        # There is no hurry: an idle connection learns with its next response that it closes.
        await listener.all_gone(REPLACED_SECONDS, close_idle=False)
    with timed("finished requests"):
        left = await listener.all_gone(serving.config.graceful_timeout)
    if left:
        logger.info("%d connections are cut: their clients do not end", left)
        listener.cut()
    stuck = await listener.handlers.end(seconds=CANCEL_SECONDS)
    if stuck:
        logger.error("%d handlers did not end when they were cancelled", stuck)


async def _call_after(wait: Awaitable[object], call: Callable[[], None]) -> None:
    await wait
    call()


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Log how long a step of the stop took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        yield
    finally:
        logger.info("stop: %s, %.2f s", step, loop.time() - began)
