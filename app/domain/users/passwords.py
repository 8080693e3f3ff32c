"""The service of passwords: their check at a login, their change, and the reset by mail."""

import hmac
from contextlib import suppress

from app.domain.users import store
from app.domain.users.models import User
from app.domain.users.reset_token import ResetToken, fingerprint_of, read_reset_token
from app.domain.users.service import login_email
from app.domain.users.tasks import send_password_reset
from app.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from app.kit.keys import digest
from app.principal import Principal
from app.resources import Resources


async def authenticate(resources: Resources, *, email: str, password: str) -> tuple[User, str]:
    """The user with this address and password, and the epoch in which the new session must be made.

    Unauthorized otherwise, with the same response in the same time for an unknown address and a wrong password.
    """
    async with resources.database.read(primary=True) as session:
        user_id = await store.get_user_id(session, login_email(email))
    # The epoch is read before the hash: a password change in between ends the epoch, so this login fails.
    epoch = await resources.sessions.epoch(user_id or 0)
    async with resources.database.read(primary=True) as session:
        user = await store.get_user_of_login(session, user_id)
    matches = await resources.passwords.verify(user.password_hash if user else None, password)
    if not matches or user is None:
        raise Unauthorized("The email address or the password is wrong.")
    if resources.passwords.is_outdated(user.password_hash):
        # A parallel login may have renewed it, or a change ended the epoch: the session is then refused.
        # Fails open: what only reads, or is busy, must not refuse a login; the next one renews the hash.
        with suppress(Conflict, Unavailable):
            await _set_password(resources, user, password, ends_sessions=False)
    return user, epoch


async def change_password(resources: Resources, principal: Principal, *, current: str, new: str, keep: str) -> None:
    """Ends the user's sessions, except the one with the public id `keep`. Forbidden: `current` is not the password."""
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, principal.user_id)
    if user is None or not await resources.passwords.verify(user.password_hash, current):
        raise Forbidden("The current password is wrong.")
    await _set_password(resources, user, new, ends_sessions=True, keep=keep)


async def request_reset(resources: Resources, *, email: str) -> None:
    """Have a link for a new password sent to this address, if it has an account.

    The account is looked up by the task, so the answer takes as long for an unknown address. Unavailable: no mail can
    be sent.
    """
    if resources.mailer is None:
        raise Unavailable("This service sends no mail.", retry_after_seconds=3600)
    # While one waits to be sent, no second one is.
    await resources.queue.submit([send_password_reset.call(email, unique=digest(email))])


async def reset_password(resources: Resources, *, token: str, password: str) -> None:
    """Set a new password and end all sessions. Invalid: the token is not valid, has expired or was used."""
    wanted = read_reset_token(token, secret_key=resources.secret_key)
    if wanted is None:
        raise _bad_token()
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, wanted.user_id)
    if user is None or not _is_current(wanted, user):
        raise _bad_token()
    try:
        await _set_password(resources, user, password, ends_sessions=True)
    except Conflict:
        # Another request with the same token was faster.
        raise _bad_token() from None


async def set_password(resources: Resources, user_id: int, password: str) -> None:
    """For operators. The user's sessions end. NotFound: there is no such user."""
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, user_id)
    if user is None:
        raise NotFound("There is no such user.")
    await _set_password(resources, user, password, ends_sessions=True)


def _is_current(token: ResetToken, user: User) -> bool:
    return hmac.compare_digest(token.fingerprint, fingerprint_of(user.email, user.password_hash))


def _bad_token() -> Invalid:
    return Invalid([{"loc": ["token"], "msg": "is not valid: it was used, has expired, or is not whole"}])


async def _set_password(
    resources: Resources, user: User, password: str, *, ends_sessions: bool, keep: str | None = None
) -> None:
    """Conflict when the password has changed since `user` was read. `keep`: see Outbox.end_sessions()."""
    password_hash = await resources.passwords.hash(password)
    async with resources.database.write() as session:
        found = await store.get_user_for_update(session, user.id)
        if found is None or found.password_hash != user.password_hash:
            raise Conflict("The password has been changed by another request.")
        found.password_hash = password_hash
        if ends_sessions:
            # After the commit, so that a login with the old password is ended too.
            resources.outbox.end_sessions(session, user.id, keep=keep)
