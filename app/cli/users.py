"""quartet users."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from app.cli.running import refuse_embedded, run_to_end
from app.domain.users.models import ROLES
from app.domain.users.passwords import set_password
from app.domain.users.schemas import NewPassword, Registration
from app.domain.users.service import account_id, delete_account, list_accounts, register_user, set_roles
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.principal import Principal
from app.resources import Resources
from app.settings import Settings

# What an account without a role is called here.
NO_ROLE = "user"
ModelT = TypeVar("ModelT", bound=BaseModel)
ROLE = click.Choice([*sorted(ROLES), NO_ROLE])


class GivenPassword(BaseModel):
    password: NewPassword


@click.group()
def users() -> None:
    """The accounts."""


@users.command("create")
@click.argument("email")
@click.option("--name", required=True, help="The name that others see.")
@click.option("--role", type=ROLE, default=NO_ROLE, show_default=True)
@click.pass_obj
def users_create(settings: Settings, email: str, name: str, role: str) -> None:
    """Make an account for EMAIL. The password is asked for, or is the first line of standard input."""
    # Not an option: the arguments of a process are seen by every user of the machine.
    data = _validated(Registration, email=email, name=name, password=_password())

    async def create(resources: Resources) -> None:
        user = await register_user(
            resources, email=data.email, name=data.name, password=data.password, roles=_roles(role)
        )
        click.echo(f"user {user.id}: {user.email}")

    _run(settings, create)


@users.command("list")
@click.option("--after", default=0, show_default=True, help="Begin after the account with this id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.pass_obj
def users_list(settings: Settings, after: int, limit: int) -> None:
    """List the accounts by their ids."""

    async def show(resources: Resources) -> None:
        for user in await list_accounts(resources, after=after, limit=limit):
            click.echo(f"{user.id}\t{user.email}\t{', '.join(user.roles) or NO_ROLE}\t{user.created_at:%Y-%m-%d}")

    _run(settings, show)


@users.command("delete")
@click.argument("email")
@click.confirmation_option(prompt="Delete the account and all that belongs to it?")
@click.pass_obj
def users_delete(settings: Settings, email: str) -> None:
    """Delete the account EMAIL. Its sessions and API keys end."""
    _refuse_embedded(settings)

    async def delete(resources: Resources) -> None:
        user_id = await account_id(resources, email)
        await delete_account(resources, Principal(user_id, frozenset(), "session"), user_id)
        await resources.outbox.drain()

    _run(settings, delete)


@users.command("set-role")
@click.argument("email")
@click.argument("role", type=ROLE)
@click.pass_obj
def users_set_role(settings: Settings, email: str, role: str) -> None:
    """Give the account EMAIL this ROLE and no other. Its sessions end."""
    _refuse_embedded(settings)

    async def change(resources: Resources) -> None:
        await set_roles(resources, await account_id(resources, email), _roles(role))

    _run(settings, change)


@users.command("set-password")
@click.argument("email")
@click.pass_obj
def users_set_password(settings: Settings, email: str) -> None:
    """Give the account EMAIL a password, which is asked for, or is the first line of standard input. Its sessions
    end."""
    _refuse_embedded(settings)
    data = _validated(GivenPassword, password=_password())

    async def change(resources: Resources) -> None:
        await set_password(resources, await account_id(resources, email), data.password)

    _run(settings, change)


@users.command("end-sessions")
@click.argument("email")
@click.pass_obj
def users_end_sessions(settings: Settings, email: str) -> None:
    """End all sessions of the account EMAIL. Its API keys stay."""
    _refuse_embedded(settings)

    async def end(resources: Resources) -> None:
        ended = await resources.sessions.end_all(await account_id(resources, email))
        click.echo(f"{ended} ended")

    _run(settings, end)


def _password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")


def _validated(model: type[ModelT], **values: str) -> ModelT:
    try:
        return model(**values)
    except ValidationError as error:
        problems = [f"{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]
        raise click.ClickException("; ".join(problems)) from None


def _roles(role: str) -> tuple[str, ...]:
    return () if role == NO_ROLE else (role,)


def _refuse_embedded(settings: Settings) -> None:
    refuse_embedded(settings, "the sessions to be ended are those of the serving process")


def _run(settings: Settings, action: Callable[[Resources], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:
            await action(resources)

    run_to_end(run())
