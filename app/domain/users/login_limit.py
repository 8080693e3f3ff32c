"""The limits on logins and on password resets: by client and by account."""

from typing import TypeVar

from quart import request

from app.domain.fields import LONGEST_EMAIL
from app.domain.users.service import login_email
from app.errors import BadRequest
from app.principal import Principal
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_address, reads_body

Bearer = TypeVar("Bearer")
LIMIT = "5/minute"
# A mail annoys, and costs more than a refused login.
RESET_LIMITS = "3/hour", "10/day"


@reads_body
async def by_account(_principal: Principal | None) -> str | None:
    """The email address in the body, with or without an account. None for a body that will not validate."""
    try:
        body = await request.get_json(silent=True) if request.is_json else await request.form
    except BadRequest:
        # The view answers 400, and the limit by address counts it.
        return None
    email = body.get("email") if hasattr(body, "get") else None
    if not isinstance(email, str) or len(email) > LONGEST_EMAIL:
        return None
    return f"account:{login_email(email)}"


def limit_logins(view: Bearer) -> Bearer:
    """By client and by account. Both are reserved before the password is checked; a success (below 400) is refunded.

    Fails closed: without Redis no session can be made either.
    """
    for key in (by_address, by_account):
        view = rate_limit(LIMIT, key=key, scope="login", counts="reserved", on_error="closed", sensitive=True)(view)
    return view


def limit_resets(view: Bearer) -> Bearer:
    """By client and by account, with one or without. Fails closed: without Redis no mail can be sent either."""
    for key in (by_address, by_account):
        view = rate_limit(*RESET_LIMITS, key=key, scope="password-reset", on_error="closed", sensitive=True)(view)
    return view
