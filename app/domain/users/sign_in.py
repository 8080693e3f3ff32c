"""Signing in, by a header or in the browser: the password, what the slices do at a login, and the session."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from quart import current_app
from redis.exceptions import RedisError

from app.domain.slice import AT_LOGIN, LoginHook
from app.domain.users.models import User
from app.domain.users.passwords import authenticate
from app.errors import Unauthorized
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.store import SessionsEnded
from app.web.client_address import client_address
from app.web.context import resources
from app.web.identity import auth
from app.web.identity.browser_session import BrowserSession, current_browser_session


async def sign_in_by_header(*, email: str, password: str) -> tuple[User, SessionRecord]:
    """A session for a client that sends its id in a header. Unauthorized: see authenticate()."""
    user, epoch = await authenticate(resources(), email=email, password=password)
    metadata, store = auth.session_metadata(client_address()), resources().sessions
    with _session_or_unauthorized():
        record = await store.create({}, channel="header", user_id=user.id, metadata=metadata, epoch=epoch)
    if _has_visitors_session():
        try:
            await _run_login_hooks(user.id)
        except BaseException:
            with suppress(RedisError):
                await store.delete(record.id)
            raise
    return user, record


async def sign_in_browser(*, email: str, password: str, remember: bool) -> None:
    """Make the browser's session the user's. Unauthorized: see authenticate()."""
    user, epoch = await authenticate(resources(), email=email, password=password)
    await _sign_in(user.id, epoch=epoch, remember=remember)


async def sign_in_new_user(user: User) -> None:
    """Make the browser's session that of a user who has just registered in it."""
    await _sign_in(user.id)


async def _sign_in(user_id: int, *, epoch: str | None = None, remember: bool = True) -> None:
    """The hooks come last: only then the session holds all that parallel requests have saved in the visitor's."""
    before = current_browser_session()
    is_repeat = before is not None and before.record is not None and before.record.user_id == user_id
    with _session_or_unauthorized():
        await auth.sign_in(user_id, ip=client_address(), epoch=epoch, remember=remember)
    browser = cast(BrowserSession, current_browser_session())
    try:
        await _run_login_hooks(user_id)
    except BaseException:
        if not is_repeat:
            # The login fails: a visitor's session begins with the data.
            data = browser.copy()
            browser.clear()
            browser.update(data)
        raise


def _has_visitors_session() -> bool:
    browser = current_browser_session()
    return browser is not None and browser.record is not None and browser.record.user_id is None


async def _run_login_hooks(user_id: int) -> None:
    browser = cast(BrowserSession, current_browser_session())
    hooks: tuple[LoginHook, ...] = current_app.extensions[AT_LOGIN]
    for hook in hooks:
        await hook(resources(), user_id, browser)


@contextmanager
def _session_or_unauthorized() -> Iterator[None]:
    try:
        yield
    except SessionsEnded:
        raise Unauthorized("All sessions of this account were ended just now.") from None
