"""Accounts: registration, login, changes, deletion, and the lookups of authentication."""

from collections.abc import Collection, Mapping

from redis.exceptions import RedisError

from app.db.base import now
from app.domain.fields import normalize_email
from app.domain.users import store
from app.domain.users.models import User
from app.domain.users.passwords import hash_password, is_outdated, verify_password
from app.domain.users.schemas import Account
from app.errors import Conflict, Forbidden, NotFound, Unauthorized
from app.kit.cache.memoize import memoize
from app.kit.client.errors import record_failure
from app.kit.sessions.record import SessionRecord
from app.kit.sessions.revocation import Revocation, publish_revocation
from app.kit.sessions.store import SessionsEnded
from app.principal import Principal
from app.resources import Resources

# On cached values that name accounts: they are invalidated when an account is deleted.
ACCOUNTS_TAG = "accounts"


def user_tag(user_id: int) -> str:
    """On all cached values of a user."""
    return f"user:{user_id}"


def key_tag(key_hash: str) -> str:
    """On the cached owner of an API key."""
    return f"api-key:{key_hash}"


@memoize(ttl_seconds=300, tags=lambda user_id: user_tag(user_id), type=Account | None)
async def get_account(resources: Resources, user_id: int) -> Account | None:
    """None when there is no such user."""
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, user_id)
    if user is None:
        return None
    return Account(
        id=user.id,
        email=user.email,
        name=user.name,
        avatar_url=user.avatar_url,
        created_at=user.created_at,
        roles=tuple(user.roles),
    )


async def require_account(resources: Resources, user_id: int) -> Account:
    account = await get_account(resources, user_id)
    if account is None:
        raise NotFound("There is no such user.")
    return account


async def user_roles(resources: Resources, user_id: int) -> frozenset[str] | None:
    """None when there is no such user."""
    account = await get_account(resources, user_id)
    return None if account is None else frozenset(account.roles)


async def register_user(
    resources: Resources, *, email: str, name: str, password: str, roles: Collection[str] = ()
) -> User:
    """Conflict when the address has an account. `email` is normalized."""
    password_hash = await hash_password(password)
    async with resources.database.write() as session:
        if await store.get_user_id(session, email) is not None:
            raise Conflict("This email address has an account.")
        user = User(email=email, name=name, password_hash=password_hash, roles=sorted(roles), created_at=now())
        await store.create_user(session, user)
        # That no user had this id may be cached.
        resources.outbox.invalidate(session, user_tag(user.id))
    return user


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
    if not await verify_password(user.password_hash if user else None, password) or user is None:
        raise Unauthorized("The email address or the password is wrong.")
    if is_outdated(user.password_hash):
        await _set_password(resources, user, await hash_password(password))
    return user, epoch


async def log_in(
    resources: Resources, *, email: str, password: str, metadata: Mapping[str, str]
) -> tuple[User, SessionRecord]:
    """A session for a client that sends its id in a header. Unauthorized: see authenticate()."""
    user, epoch = await authenticate(resources, email=email, password=password)
    try:
        record = await resources.sessions.create({}, channel="header", user_id=user.id, metadata=metadata, epoch=epoch)
    except SessionsEnded:
        raise Unauthorized("All sessions of this account were ended just now.") from None
    return user, record


async def change_password(resources: Resources, principal: Principal, *, current: str, new: str, keep: str) -> None:
    """Ends the user's sessions, except the one with the id `keep`. Forbidden: `current` is not the password."""
    async with resources.database.read(primary=True) as session:
        user = await store.get_user(session, principal.user_id)
    if user is None or not await verify_password(user.password_hash, current):
        raise Forbidden("The current password is wrong.")
    await _set_password(resources, user, await hash_password(new))
    # After the commit, so that a login with the old password is ended too. If Redis fails here, the response is 503.
    await resources.sessions.end_all(user.id, keep=keep)


async def _set_password(resources: Resources, user: User, password_hash: str) -> None:
    """Conflict when the password has changed since `user` was read."""
    async with resources.database.write() as session:
        found = await store.get_user_for_update(session, user.id)
        if found is None or found.password_hash != user.password_hash:
            raise Conflict("The password has been changed by another request.")
        found.password_hash = password_hash


async def change_account(
    resources: Resources, principal: Principal, user_id: int, *, name: str, email: str | None
) -> Account:
    """`email` None: unchanged. An API key cannot change it, because a lost password is reset by mail."""
    _require_self_or_admin(principal, user_id)
    if email is not None and principal.credential == "api_key":
        raise Forbidden("An API key cannot change the email address.")
    async with resources.database.write() as session:
        user = await store.get_user_for_update(session, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        if email is not None and await store.get_user_id(session, email) not in (None, user_id):
            raise Conflict("This email address has an account.")
        user.name, user.email = name, email or user.email
        resources.outbox.invalidate(session, user_tag(user_id))
    return await require_account(resources, user_id)


async def delete_account(resources: Resources, principal: Principal, user_id: int) -> None:
    """The user's sessions, API keys and caches end. Other slices' rows go or stay as their foreign keys say."""
    _require_self_or_admin(principal, user_id)
    async with resources.database.write() as session:
        if await store.get_user(session, user_id) is None:
            raise NotFound("There is no such user.")
        tags = [key_tag(key.key_hash) for key in await store.list_api_keys(session, user_id)]
        await store.delete_user(session, user_id)
        resources.outbox.invalidate(session, user_tag(user_id), *tags, ACCOUNTS_TAG)
    await end_streams(resources, user_id)
    await resources.sessions.end_all(user_id)


async def set_roles(resources: Resources, user_id: int, roles: Collection[str]) -> None:
    """For operators. The user's sessions end, so that none keeps a role that was removed."""
    async with resources.database.write() as session:
        user = await store.get_user_for_update(session, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        user.roles = sorted(roles)
        resources.outbox.invalidate(session, user_tag(user_id))
    await end_streams(resources, user_id)
    await resources.sessions.end_all(user_id)


async def end_streams(resources: Resources, user_id: int, credential: str | None = None) -> None:
    """End what is open for the user, or for one API key's hash, on all nodes. Sessions do so by themselves."""
    try:
        await publish_revocation(resources.redis, resources.keys, Revocation(user_id, credential))
    except RedisError as error:
        # Fails open: each node checks its streams when it has reached Redis again.
        record_failure(error, block="sessions", telemetry=resources.telemetry)


async def set_roles_of(resources: Resources, email: str, roles: Collection[str]) -> None:
    """set_roles() for the account with this address. NotFound where there is none."""
    async with resources.database.read(primary=True) as session:
        user_id = await store.get_user_id(session, login_email(email))
    if user_id is None:
        raise NotFound("There is no such user.")
    await set_roles(resources, user_id, roles)


def login_email(text: str) -> str:
    """The normalized form by which an address is looked up and counted. Accepts any text."""
    try:
        return normalize_email(text)
    except ValueError:
        return text.strip().lower()


def _require_self_or_admin(principal: Principal, user_id: int) -> None:
    if not principal.may_write(user_id):
        raise Forbidden("This account is not yours.")
