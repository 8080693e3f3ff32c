"""quartet users."""

import click

from app.cli.running import refuse_embedded, run_to_end
from app.domain.users.models import ROLES
from app.domain.users.service import set_roles_of
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.settings import Settings


@click.group()
def users() -> None:
    """The accounts."""


@users.command("set-roles")
@click.argument("email")
@click.argument("roles", nargs=-1)
@click.pass_obj
def users_set_roles(settings: Settings, email: str, roles: tuple[str, ...]) -> None:
    """Give the account EMAIL these ROLES (admin, editor) and no others. Its sessions end."""
    refuse_embedded(settings, "the sessions to be ended are those of the serving process")
    if unknown := set(roles) - ROLES:
        raise click.ClickException(f"no such role: {', '.join(sorted(unknown))} (there are {', '.join(sorted(ROLES))})")
    run_to_end(_set_roles(settings, email, roles))


async def _set_roles(settings: Settings, email: str, roles: tuple[str, ...]) -> None:
    async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:
        await set_roles_of(resources, email, roles)
