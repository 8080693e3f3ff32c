"""quartet run, quartet serve and quartet subscribe."""

import socket
import sys

import click

from app.cli.database import add_demo_data, upgrade_schema
from app.cli.running import end_at_interrupt, refuse_embedded, refuse_production, run_to_end
from app.db.engine import make_folder
from app.errors import AppError
from app.factory import create_app, handlers_of
from app.kit.aio import stop_signal
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources, relaying, subscribing
from app.serving.engine import (
    ServerMissing,
    Supervised,
    certificate_of,
    described,
    granian,
    inherited_sockets,
    open_sockets,
    patience_seconds,
    serve_one,
)
from app.serving.sockets import CannotListen, Sockets
from app.serving.supervisor import Supervisor
from app.serving.tls import TLSError
from app.settings import Settings
from app.tracing import make_tracer
from app.web.telemetry import count_as


@click.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Upgrade the database, add the demo data, and serve until Ctrl-C: all in one process. Not in production."""
    refuse_production(settings)
    sockets = _prepared(settings)
    upgrade_schema(settings)
    add_demo_data(settings)
    _serve(settings, sockets)


@click.command()
@click.option("--server", type=click.Choice(["hypercorn", "granian"]), help="[default: SERVER]")
@click.option("--sockets", "descriptors", hidden=True, help="Sockets of the supervisor, as KIND:DESCRIPTOR,...")
@click.option("--report-to", type=int, hidden=True, help="The supervisor's pipe.")
@click.option("--slot", default="", hidden=True, help="The name under which this worker counts.")
@click.pass_obj
def serve(settings: Settings, *, server: str | None, descriptors: str | None, report_to: int | None, slot: str) -> None:
    """Serve HTTP until Ctrl-C.

    SIGTERM and Ctrl-C let what is under way end (docs/serving.md); a second one ends the process at once. SIGHUP reads
    the certificate again, and with WORKERS above 1 replaces the workers one by one. Exit code 0: all has drained.
    """
    if server is not None:
        settings = settings.model_copy(update={"server": server})
    if descriptors is None or report_to is None:
        _serve(settings, _prepared(settings))
        return
    count_as(slot)
    serve_one(create_app(settings), settings, inherited_sockets(descriptors), supervised=Supervised(report_to))


@click.command()
@click.pass_obj
def subscribe(settings: Settings) -> None:
    """Call the handlers of events in a process of their own, until SIGTERM or Ctrl-C."""
    refuse_embedded(settings, "a subscriber of its own would wait at a store that no other process sees")
    if not handlers_of():
        raise click.ClickException("no slice has a handler of events (docs/events.md)")
    end_at_interrupt()
    run_to_end(_subscribe(settings))


def _prepared(settings: Settings) -> Sockets:
    """The sockets. What cannot serve fails before anything else begins."""
    try:
        certificate_of(settings)
        if settings.server == "granian" and (problems := granian().refusals(settings)):
            raise click.ClickException("\n  ".join(["SERVER=granian:", *problems]))
        sockets = open_sockets(settings)
        for url in (settings.database_url, settings.database_replica_url):
            make_folder(url)
    except (CannotListen, TLSError, ServerMissing, AppError) as error:
        raise click.ClickException(str(error)) from error
    if settings.server == "granian":
        # It was possible; Granian opens its own.
        for each in sockets.all():
            each.close()
        return Sockets()
    return sockets


def _serve(settings: Settings, sockets: Sockets) -> None:
    end_at_interrupt()
    click.echo(f"Quartet listens on {_address(settings)} (Ctrl-C ends it)")
    if settings.uses_embedded_redis:
        click.echo("Redis is embedded in this process (memory://): what it holds is forgotten at exit.")
    if settings.workers == 1 and not settings.worker_max_requests:
        serve_one(create_app(settings), settings, sockets)
        return
    supervisor = Supervisor(
        [sys.executable, "-m", "app.cli", "serve", f"--sockets={described(sockets)}"],
        settings.workers,
        descriptors=[each.fileno() for each in sockets.all()],
        patience_seconds=patience_seconds(settings),
    )
    sys.exit(run_to_end(supervisor.run()))


async def _subscribe(settings: Settings) -> None:
    stop, tracer = stop_signal(), make_tracer(settings, role="subscriber")
    async with (
        open_resources(settings, role="subscriber", telemetry=NoTelemetry(), tracer=tracer) as resources,
        relaying(resources),
        subscribing(resources, handlers_of()),
    ):
        click.echo(f"Quartet's subscriber runs on {socket.gethostname()}")
        await stop.wait()


def _address(settings: Settings) -> str:
    return f"{settings.scheme}://{settings.bind}" if settings.listens_on_network else settings.bind
