"""quartet db, and quartet seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app.cli.running import refuse_production, run_to_end
from app.domain.seed import ACCOUNTS
from app.domain.seed import seed as seed_demo
from app.errors import AppError, root_cause
from app.kit.client.deadline import budget
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.migrations import new_revision, upgrade
from app.settings import Settings


@click.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
@click.pass_obj
def dbupgrade_schema(settings: Settings) -> None:
    """Bring the database's schema up to date."""
    upgrade_schema(settings)


@db.command("revision")
@click.argument("branch")
@click.argument("message")
@click.pass_obj
def db_revision(settings: Settings, branch: str, message: str) -> None:
    """Write the next migration of BRANCH (a slice's name), or its first, from what the models have and the database
    has not. MESSAGE is its docstring."""
    with _database_errors():
        new_revision(settings.database_url, branch, message)


@click.command()
@click.pass_obj
def seed(settings: Settings) -> None:
    """Add the demo data. The demo users' passwords are shown once. Not in production."""
    refuse_production(settings)
    add_demo_data(settings)


def upgrade_schema(settings: Settings) -> None:
    with _database_errors():
        upgrade(settings.database_url)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except AppError as error:
        raise click.ClickException(str(error)) from error
    except (OSError, SQLAlchemyError) as error:
        # Only the kind of error: its text may hold the URL, and so the password.
        kind = type(root_cause(error)).__name__
        raise click.ClickException(f"the database cannot be reached, or refuses: {kind}") from error
    except CommandError as error:
        # Alembic's text names migrations, and no part of the URL.
        raise click.ClickException(
            f"the migrations do not fit this database: {error}. A later version has migrated it (`quartet serve` "
            "serves it as it is), or an earlier one or a slice that is gone made it: then start with a new database."
        ) from error


def add_demo_data(settings: Settings) -> None:
    made = {user.email: user.password for user in run_to_end(_seed(settings))}
    for email, _, roles in ACCOUNTS:
        shown = f"password {made[email]}" if email in made else "(its password was shown when it was made)"
        click.echo(f"demo user {email}  {shown}  {', '.join(roles) or 'no roles'}")


async def _seed(settings: Settings) -> Any:
    # With the budget of a request: without Redis all is in the outbox, and a relay delivers it later.
    with budget(settings.redis_budget_ms / 1000):
        async with open_resources(settings, role="seed", telemetry=NoTelemetry()) as resources:
            return await seed_demo(resources)
