"""The `quartet` command: serve, worker, db and seed. The one place, beside asgi.py, where a process begins."""

import asyncio
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import click
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from app.domain.seed import ACCOUNTS
from app.domain.seed import seed as seed_demo
from app.domain.users.models import ROLES
from app.domain.users.service import set_roles_of
from app.errors import AppError
from app.factory import JOBS, check_redis_url, create_app
from app.kit.telemetry import NoTelemetry
from app.lifespan import consuming, open_resources, relaying
from app.migrations import upgrade
from app.server import configuration, serve_many, serve_one
from app.settings import Settings, SettingsError, load_settings
from app.web.request_log import configure_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Quartet: an asynchronous service on Quart and Redis. Settings come from the environment (docs/settings.md)."""
    try:
        context.obj = load_settings()
        check_redis_url(context.obj)
    except SettingsError as error:
        raise click.ClickException("the settings are not valid:\n  " + "\n  ".join(error.problems)) from error
    configure_logging(context.obj.log_level)
    # A child process for a task runs its parent's main file again (anyio does it): a second's worth of imports, of
    # which pdb's (through Quart) fails on Python 3.13, where it looks for __main__. Without a file it runs none.
    vars(sys.modules["__main__"]).pop("__file__", None)


@main.command()
@click.pass_obj
def serve(settings: Settings) -> None:
    """Serve HTTP until Ctrl-C."""
    config = configuration(settings)
    if settings.workers == 1:
        try:
            config.bind_now()
        except OSError as error:
            raise click.ClickException(f"cannot listen on {settings.bind}: {error.strerror or error}") from error
    click.echo(f"Quartet listens on {_address(settings.bind)} (Ctrl-C ends it)")
    if settings.uses_embedded_redis:
        click.echo("Redis is embedded in this process (memory://): what it holds is forgotten at exit.")
    if settings.workers > 1:
        sys.exit(serve_many(config))
    serve_one(create_app(settings), settings, config)


@main.command()
@click.pass_obj
def worker(settings: Settings) -> None:
    """Run background tasks in a process of their own, until SIGTERM or Ctrl-C."""
    _refuse_embedded(settings, "a worker of its own would wait at a store that no other process sees")
    _run(_work(settings))


@main.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
@click.pass_obj
def db_upgrade(settings: Settings) -> None:
    """Bring the database's schema up to date."""
    try:
        upgrade(settings.database_url)
    except (OSError, SQLAlchemyError) as error:
        # Only the kind of error: its text may hold the URL, and so the password.
        raise click.ClickException(f"the database cannot be reached, or refuses: {type(error).__name__}") from error


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
    try:
        _run(_set_roles(settings, email, roles))
    except AppError as error:
        raise click.ClickException(error.detail) from error


@main.command()
@click.pass_obj
def seed(settings: Settings) -> None:
    """Fill the database with demo users and articles. Their passwords are shown once. Not in production."""
    if settings.is_production:
        raise click.ClickException("demo data has no place in production (ENVIRONMENT=production)")
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
        consuming(settings, resources, JOBS),
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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main_coroutine)


def _address(bind: str) -> str:
    return bind if bind.startswith("unix:") else f"http://{bind}"


def _refuse_embedded(settings: Settings, reason: str) -> None:
    if settings.uses_embedded_redis:
        raise click.ClickException(f"REDIS_URL is memory://, and {reason}")


if __name__ == "__main__":
    main()
