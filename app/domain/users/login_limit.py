"""The limit on logins, for every route that takes a password for an address."""

from typing import TypeVar

from quart import request

from app.domain.users.service import login_email
from app.principal import Principal
from app.web.limit_subject import by_address
from app.web.rate_limit import rate_limit

Bearer = TypeVar("Bearer")
LIMIT = "5/minute"


async def by_account(_principal: Principal | None) -> str | None:
    """The address that the body names, whether it has an account or not. None: the request will not validate."""
    body = await request.get_json(silent=True) if request.is_json else await request.form
    email = body.get("email") if hasattr(body, "get") else None
    return f"account:{login_email(email)}" if isinstance(email, str) else None


def limit_logins(view: Bearer) -> Bearer:
    """By client and by account, both reserved before the password is checked; a success (below 400) is given back.

    Fails closed: without Redis there is no session to be had either.
    """
    for key in (by_address, by_account):
        view = rate_limit(LIMIT, key=key, scope="login", counts="reserved", on_error="closed", sensitive=True)(view)
    return view
