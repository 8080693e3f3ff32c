"""Demo data for a first look: three accounts, and what each slice adds to them. Existing data stays as it is."""

import secrets

from app.domain.slice import DemoUser
from app.domain.slices import SLICES
from app.domain.users.service import register_user
from app.errors import Conflict
from app.resources import Resources

ACCOUNTS = (
    ("admin@example.com", "Ada Admin", ("admin",)),
    ("editor@example.com", "Edgar Editor", ("editor",)),
    ("reader@example.com", "Rita Reader", ()),
)


async def seed(resources: Resources) -> list[DemoUser]:
    """Make the accounts that are missing, and the slices' data for them; returns the new accounts."""
    made = []
    for email, name, roles in ACCOUNTS:
        password = secrets.token_urlsafe(12)
        try:
            user = await register_user(resources, email=email, name=name, password=password, roles=roles)
        except Conflict:
            continue
        made.append(DemoUser(user.id, email, password, roles))
    for each in SLICES:
        await each.seed(resources, made)
    return made
