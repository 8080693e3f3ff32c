"""The `quartet` command and its subcommands."""

import asyncio
import errno
import json
import logging
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click
import uvloop
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.domain.seed import ACCOUNTS
from app.domain.seed import seed as seed_demo
from app.domain.users.models import ROLES
from app.domain.users.service import set_roles_of
from app.errors import AppError
from app.factory import check_redis_url, create_app, jobs_of
from app.kit.client.errors import UNAVAILABLE
from app.kit.telemetry import NoTelemetry
from app.lifespan import consuming, open_resources, relaying
from app.migrations import new_revision, upgrade
from app.server import BoundedConfig, configuration, serve_many, serve_one
from app.settings import Reading, Settings, SettingsError, read_settings
from app.settings_report import report, table
from app.web.middleware.request_log import configure_logging

READING = "app.cli.reading"
REFUSED_OR_DOWN: tuple[type[Exception], ...] = (AppError, *UNAVAILABLE)
logger = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quartet", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Quartet: an asynchronous service on Quart and Redis.

    Settings come from the environment and from .env in the working directory (docs/settings.md).
    """
    try:
        reading = read_settings()
        context.obj = reading.settings
        check_redis_url(context.obj)
    except SettingsError as error:
        raise click.ClickException("the settings are not valid:\n  " + "\n  ".join(error.problems)) from error
    configure_logging(context.obj.log_level)
    context.meta[READING] = reading
    # A child process for a task runs its parent's main file again (anyio does it): a second's worth of imports, of
    # which pdb's (through Quart) fails on Python 3.13, where it looks for __main__. Without a file it runs none.
    vars(sys.modules["__main__"]).pop("__file__", None)


@main.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Upgrade the database, add the demo data, and serve until Ctrl-C: all in one process. Not in production."""
    _refuse_production(settings)
    _warn()
    config = _bound(settings)
    _upgrade(settings)
    _add_demo_data(settings)
    _serve(settings, config)


@main.command()
@click.pass_obj
def serve(settings: Settings) -> None:
    """Serve HTTP until Ctrl-C."""
    _warn()
    _serve(settings, _bound(settings))


@main.command()
@click.pass_obj
def worker(settings: Settings) -> None:
    """Run background tasks in a process of their own, until SIGTERM or Ctrl-C."""
    _warn()
    _refuse_embedded(settings, "a worker of its own would wait at a store that no other process sees")
    _run(_work(settings))


@main.command("settings")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object, for programs.")
@click.pass_context
def show_settings(context: click.Context, as_json: bool) -> None:
    """Show every setting, its value and where it came from. Secrets are hidden."""
    reading: Reading = context.meta[READING]
    click.echo(json.dumps(report(reading), indent=2) if as_json else table(reading))


@main.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
@click.pass_obj
def db_upgrade(settings: Settings) -> None:
    """Bring the database's schema up to date."""
    _upgrade(settings)


@db.command("revision")
@click.argument("branch")
@click.argument("message")
@click.pass_obj
def db_revision(settings: Settings, branch: str, message: str) -> None:
    """Write the next migration of BRANCH (a slice's name), or its first, from what the models have and the database
    has not. MESSAGE is its docstring."""
    with _database_errors():
        new_revision(settings.database_url, branch, message)


@main.group()
def users() -> None:
    """The accounts."""


@users.command("set-roles")
@click.argument("email")
@click.argument("roles", nargs=-1)
@click.pass_obj
def users_set_roles(settings: Settings, email: str, roles: tuple[str, ...]) -> None:
    """Give the account EMAIL these ROLES (admin, editor) and no others. Its sessions end."""
    _refuse_embedded(settings, "the sessions to be ended are those of the serving process")
    if unknown := set(roles) - ROLES:
        raise click.ClickException(f"no such role: {', '.join(sorted(unknown))} (there are {', '.join(sorted(ROLES))})")
    _run(_set_roles(settings, email, roles))


@main.command()
@click.pass_obj
def seed(settings: Settings) -> None:
    """Add the demo data. The demo users' passwords are shown once. Not in production."""
    _refuse_production(settings)
    _add_demo_data(settings)


def _bound(settings: Settings) -> BoundedConfig:
    """The server's configuration. With one worker its address is bound now, so that one in use fails first."""
    config = configuration(settings)
    if settings.workers == 1:
        try:
            config.bind_now()
        except OSError as error:
            hint = "; BIND=127.0.0.1:9000 serves elsewhere" if error.errno == errno.EADDRINUSE else ""
            raise click.ClickException(f"cannot listen on {settings.bind}: {error.strerror or error}{hint}") from error
    return config


def _serve(settings: Settings, config: BoundedConfig) -> None:
    click.echo(f"Quartet listens on {_address(settings.bind)} (Ctrl-C ends it)")
    if settings.uses_embedded_redis:
        click.echo("Redis is embedded in this process (memory://): what it holds is forgotten at exit.")
    if settings.workers > 1:
        sys.exit(serve_many(config))
    serve_one(create_app(settings), settings, config)


def _upgrade(settings: Settings) -> None:
    with _database_errors():
        upgrade(settings.database_url)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        # Alembic's text names migrations, and no part of the URL.
        raise click.ClickException(
            f"the migrations do not fit this database: {error}. It was made by another version, or by a slice that is "
            "gone: go back with the version that made it, or start with a new database."
        ) from error
    except (OSError, SQLAlchemyError) as error:
        # Only the kind of error: its text may hold the URL, and so the password.
        raise click.ClickException(f"the database cannot be reached, or refuses: {type(error).__name__}") from error


def _add_demo_data(settings: Settings) -> None:
    made = {user.email: user.password for user in _run(_seed(settings))}
    for email, _, roles in ACCOUNTS:
        shown = f"password {made[email]}" if email in made else "(its password was shown when it was made)"
        click.echo(f"demo user {email}  {shown}  {', '.join(roles) or 'no roles'}")


async def _work(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        open_resources(settings, role="worker", telemetry=NoTelemetry()) as resources,
        relaying(resources),
        consuming(settings, resources, jobs_of()),
    ):
        click.echo(f"Quartet's worker runs on {socket.gethostname()}")
        await stop.wait()


async def _seed(settings: Settings) -> Any:
    async with open_resources(settings, role="seed", telemetry=NoTelemetry()) as resources:
        return await seed_demo(resources)


async def _set_roles(settings: Settings, email: str, roles: tuple[str, ...]) -> None:
    async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:
        await set_roles_of(resources, email, roles)


def _run(main_coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end. What a service refuses, and a backend that is down, is one line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(main_coroutine)
        except REFUSED_OR_DOWN as error:
            raise click.ClickException(str(error)) from error


def _address(bind: str) -> str:
    return bind if bind.startswith("unix:") else f"http://{bind}"


def _warn() -> None:
    """Warn of names that look like settings and are none: they have no effect."""
    reading: Reading = click.get_current_context().meta[READING]
    for warning in reading.warnings:
        logger.warning("%s", warning)


def _refuse_production(settings: Settings) -> None:
    if settings.is_production:
        raise click.ClickException("demo data has no place in production (ENVIRONMENT=production)")


def _refuse_embedded(settings: Settings, reason: str) -> None:
    if settings.uses_embedded_redis:
        raise click.ClickException(f"REDIS_URL is memory://, and {reason}")


if __name__ == "__main__":
    main()
