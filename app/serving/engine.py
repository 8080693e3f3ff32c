"""Hypercorn in one process, and as one of several workers: its configuration, its limits, its signals."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import uvloop
from hypercorn.config import Config
from quart import Quart

from app.serving.handlers import Application
from app.serving.limits import Limits, affordable_connections
from app.serving.redirect import Redirect
from app.serving.sockets import Sockets, from_descriptor, listening
from app.serving.supervisor import READY, RECYCLE
from app.serving.tls import Certificate, TLSError
from app.serving.worker import Serving, serve
from app.settings import Settings
from app.web.context import EXTENSION
from app.web.routes.health import STOPPING
from app.web.routes.metrics import TELEMETRY_EXTENSION

logger = logging.getLogger(__name__)
CONFIG_FILE = Path(__file__).parent.parent.parent / "hypercorn.toml"
DEVELOPMENT_GRACE_SECONDS = 0.5
LAST_SECONDS = 10.0
# Objects made before the youngest generation is collected, and collections of one before the next older's. The
# defaults (700, 10, 10) suit scripts: with 10,000 streams open, each full collection stops the loop for long.
GC_THRESHOLDS = (10_000, 20, 50)


class ServerMissing(Exception):
    """The server that is asked for is not installed."""


@dataclass(frozen=True, slots=True)
class Supervised:
    """What a worker knows of its supervisor: the pipe to report to."""

    report_to: int

    def report(self, what: bytes) -> None:
        os.write(self.report_to, what)


def configuration(settings: Settings) -> Config:
    """hypercorn.toml, with what the settings say."""
    config = Config.from_toml(CONFIG_FILE)
    config.bind = [settings.bind]
    # The end of the lifespan: the tasks' grace period, and time for the last reports and the outbox.
    config.shutdown_timeout = settings.task_grace_seconds + LAST_SECONDS
    if not settings.is_production:
        # Ctrl-C ends it at once, also during a request.
        config.graceful_timeout = DEVELOPMENT_GRACE_SECONDS
    # Hypercorn's own handler would write each line a second time.
    config.errorlog = logging.getLogger("hypercorn")
    return config


def limits_of(settings: Settings, config: Config) -> Limits:
    connections = affordable_connections(settings.max_connections)
    if connections < settings.max_connections:
        logger.warning("MAX_CONNECTIONS is %d here: the limit of open files (ulimit -n) allows no more", connections)
    return Limits(
        connections=connections,
        connections_per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
        request_line_bytes=settings.max_request_line_bytes,
        header_bytes=settings.max_header_bytes,
        header_count=settings.max_header_count,
        header_seconds=settings.header_timeout_seconds,
        idle_seconds=config.keep_alive_timeout,
        body_bytes_per_second=settings.min_body_bytes_per_second,
        send_seconds=settings.send_timeout_seconds,
    )


def open_sockets(settings: Settings) -> Sockets:
    """CannotListen, before anything else begins."""
    bound = listening(settings.bind)
    sockets = Sockets(secure=[bound]) if settings.has_tls else Sockets(plain=[bound])
    if settings.redirect_bind:
        sockets.redirect.append(listening(settings.redirect_bind))
    return sockets


def inherited_sockets(descriptors: str) -> Sockets:
    """Of `KIND:NUMBER,...`, as `described` writes it."""
    sockets = Sockets()
    for part in descriptors.split(","):
        kind, _, number = part.partition(":")
        getattr(sockets, kind).append(from_descriptor(int(number)))
    return sockets


def described(sockets: Sockets) -> str:
    kinds = ("plain", "secure", "redirect")
    return ",".join(f"{kind}:{made.fileno()}" for kind in kinds for made in getattr(sockets, kind))


def certificate_of(settings: Settings) -> Certificate | None:
    """TLSError where the files are not valid."""
    if not settings.has_tls:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key, http2=settings.http2)


def granian() -> Any:
    """The module, whose dependency is an extra. ServerMissing where that is not installed."""
    try:
        return import_module("app.serving.granian_server")
    except ModuleNotFoundError as error:
        raise ServerMissing("SERVER=granian: it is not installed (pip install 'quartet[granian]')") from error


def patience_seconds(settings: Settings) -> float:
    """What a stop takes at most."""
    config = configuration(settings)
    before = settings.readiness_delay_seconds + settings.drain_seconds + config.graceful_timeout
    return before + config.shutdown_timeout + LAST_SECONDS


def serve_one(
    app: Quart, settings: Settings, sockets: Sockets | None = None, *, supervised: Supervised | None = None
) -> None:
    """Serve in this process until SIGINT or SIGTERM, or until its supervisor lets it go.

    CannotListen and TLSError before it serves.
    """
    is_granian = settings.server == "granian"
    sockets = sockets or (Sockets() if is_granian else open_sockets(settings))
    certificate = None if is_granian else certificate_of(settings)
    serving = _serving(app, settings, sockets, certificate, supervised)
    # What is loaded now stays: the collector skips it, and visits the rest less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(serving, settings, sockets, certificate, supervised))


def _serving(
    app: Quart,
    settings: Settings,
    sockets: Sockets,
    certificate: Certificate | None,
    supervised: Supervised | None,
) -> Serving:
    config = configuration(settings)

    async def drain() -> None:
        await app.extensions[EXTENSION].hub.drain(settings.drain_seconds)

    def unready() -> None:
        app.extensions[STOPPING] = True

    return Serving(
        app=cast(Application, app),
        config=config,
        limits=limits_of(settings, config),
        plain=sockets.plain,
        secure=sockets.secure,
        tls=certificate.context if certificate else None,
        max_requests=settings.worker_max_requests if supervised else 0,
        readiness_delay_seconds=settings.readiness_delay_seconds,
        drain=drain,
        unready=unready,
        ready=(lambda: supervised.report(READY)) if supervised else lambda: None,
        wants_successor=(lambda: supervised.report(RECYCLE)) if supervised else lambda: None,
        telemetry=app.extensions[TELEMETRY_EXTENSION],
    )


async def _run(
    serving: Serving,
    settings: Settings,
    sockets: Sockets,
    certificate: Certificate | None,
    supervised: Supervised | None,
) -> None:
    stop, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop_or_force(stop))
    if certificate is not None and sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, _reload, certificate)
    if supervised is not None:
        # The supervisor holds the other end: a worker never outlives one that was killed.
        loop.add_reader(sys.stdin.fileno(), leave.set)
    if settings.server == "granian":
        await granian().serve_granian(serving, settings, stop)
        return
    services = [serve(serving, stop, leave)]
    if sockets.redirect:
        redirect = Redirect(settings.public_url)
        services.append(serve(_redirecting(serving, redirect, sockets), stop, leave))
    await asyncio.gather(*services)


def _redirecting(serving: Serving, redirect: Redirect, sockets: Sockets) -> Serving:
    nothing = Serving(app=redirect, config=serving.config, limits=serving.limits)
    return replace(nothing, plain=sockets.redirect, readiness_delay_seconds=serving.readiness_delay_seconds)


def _stop_or_force(stop: asyncio.Event) -> Callable[[], None]:
    def on_signal() -> None:
        if stop.is_set():
            # As if it were killed: tasks return by their leases, and the outbox keeps what was not relayed.
            logger.warning("a second signal: ended at once")
            logging.shutdown()
            os._exit(1)
        logger.info("a signal: this process stops")
        stop.set()

    return on_signal


def _reload(certificate: Certificate) -> None:
    try:
        certificate.reload()
    except TLSError as error:
        logger.error("the certificate stays as it is: %s", error)
    else:
        logger.info("the certificate and its key were read again")
