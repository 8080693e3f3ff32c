"""quartet run, quartet serve and quartet subscribe."""

import errno
import socket
import sys

import click

from app.cli.database import add_demo_data, upgrade_schema
from app.cli.running import refuse_embedded, refuse_production, run_to_end
from app.db.engine import make_folder
from app.errors import AppError
from app.factory import create_app, handlers_of
from app.kit.aio import stop_signal
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources, relaying, subscribing
from app.server import BoundedConfig, configuration, serve_many, serve_one
from app.settings import Settings


@click.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Upgrade the database, add the demo data, and serve until Ctrl-C: all in one process. Not in production."""
    refuse_production(settings)
    config = _bound(settings)
    upgrade_schema(settings)
    add_demo_data(settings)
    _serve(settings, config)


@click.command()
@click.pass_obj
def serve(settings: Settings) -> None:
    """Serve HTTP until Ctrl-C."""
    _serve(settings, _bound(settings))


@click.command()
@click.pass_obj
def subscribe(settings: Settings) -> None:
    """Call the handlers of events in a process of their own, until SIGTERM or Ctrl-C."""
    refuse_embedded(settings, "a subscriber of its own would wait at a store that no other process sees")
    if not handlers_of():
        raise click.ClickException("no slice has a handler of events (docs/events.md)")
    run_to_end(_subscribe(settings))


def _bound(settings: Settings) -> BoundedConfig:
    """The server's configuration, its address bound: what cannot serve fails before anything else begins."""
    config = configuration(settings)
    try:
        config.bind_now()
    except OSError as error:
        reason = f"{error.strerror or error}{_hint(error, settings.bind)}"
        raise click.ClickException(f"cannot listen on {settings.bind}: {reason}") from error
    for url in (settings.database_url, settings.database_replica_url):
        try:
            make_folder(url)
        except AppError as error:
            raise click.ClickException(str(error)) from error
    return config


def _hint(error: OSError, bind: str) -> str:
    """What may help, or nothing."""
    if bind.startswith("unix:"):
        return ""
    if error.errno == errno.EADDRINUSE:
        return "; BIND=127.0.0.1:9000 serves elsewhere"
    if error.errno == errno.EACCES:
        return "; a port below 1024 may need rights that this user lacks, and BIND=127.0.0.1:8000 needs none"
    return ""


def _serve(settings: Settings, config: BoundedConfig) -> None:
    click.echo(f"Quartet listens on {_address(settings.bind)} (Ctrl-C ends it)")
    if settings.uses_embedded_redis:
        click.echo("Redis is embedded in this process (memory://): what it holds is forgotten at exit.")
    if settings.workers > 1:
        sys.exit(serve_many(config))
    serve_one(create_app(settings), settings, config)


async def _subscribe(settings: Settings) -> None:
    stop = stop_signal()
    async with (
        open_resources(settings, role="subscriber", telemetry=NoTelemetry()) as resources,
        relaying(resources),
        subscribing(resources, handlers_of()),
    ):
        click.echo(f"Quartet's subscriber runs on {socket.gethostname()}")
        await stop.wait()


def _address(bind: str) -> str:
    return bind if bind.startswith("unix:") else f"http://{bind}"
