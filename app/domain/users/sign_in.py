"""Signing in, by a header or in the browser: the password, what the slices do at a login, and the session."""

from collections.abc import Iterator
from contextlib import contextmanager

from quart import current_app

from app.domain.slice import AT_LOGIN, LoginHook
from app.domain.users.models import User
from app.domain.users.passwords import authenticate
from app.errors import Unauthorized
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionsEnded
from app.web.client_address import client_address
from app.web.context import resources
from app.web.identity import auth
from app.web.identity.browser_session import current_browser_session


async def sign_in_by_header(*, email: str, password: str) -> tuple[User, SessionRecord]:
    """A session for a client that sends its id in a header. Unauthorized: see authenticate()."""
    user, epoch = await authenticate(resources(), email=email, password=password)
    await _run_login_hooks(user.id)
    metadata = auth.session_metadata(client_address())
    with _session_or_unauthorized():
        record = await resources().sessions.create(
            {}, channel="header", user_id=user.id, metadata=metadata, epoch=epoch
        )
    return user, record


async def sign_in_browser(*, email: str, password: str, remember: bool) -> None:
    """Make the browser's session the user's. Unauthorized: see authenticate()."""
    user, epoch = await authenticate(resources(), email=email, password=password)
    await _run_login_hooks(user.id)
    with _session_or_unauthorized():
        await auth.sign_in(user.id, ip=client_address(), epoch=epoch, remember=remember)


async def sign_in_new_user(user: User) -> None:
    """Make the browser's session that of a user who has just registered in it."""
    await _run_login_hooks(user.id)
    await auth.sign_in(user.id, ip=client_address())


async def _run_login_hooks(user_id: int) -> None:
    """Before the session is made, so that a hook that fails leaves the visitor's session as it was."""
    browser = current_browser_session()
    if browser is None or browser.record is None or browser.record.user_id is not None:
        # No visitor's session: there is nothing to be taken over, least of all another user's.
        return
    hooks: tuple[LoginHook, ...] = current_app.extensions[AT_LOGIN]
    for hook in hooks:
        await hook(resources(), user_id, browser)


@contextmanager
def _session_or_unauthorized() -> Iterator[None]:
    try:
        yield
    except SessionsEnded:
        raise Unauthorized("All sessions of this account were ended just now.") from None
