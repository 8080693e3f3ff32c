"""Accounts: registration, changes, deletion, and the roles that authentication looks up."""

from collections.abc import Collection, Sequence

from app.db.base import now
from app.db.database import WriteSession
from app.domain.fields import normalize_email
from app.domain.users import store
from app.domain.users.models import User
from app.domain.users.schemas import Account
from app.domain.users.tags import ACCOUNTS_TAG, key_tag, user_tag
from app.errors import Conflict, Forbidden, NotFound
from app.kit.cache.memoize import memoize
from app.principal import Principal
from app.resources import Resources


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
        avatar_version=user.avatar_version,
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
    password_hash = await resources.passwords.hash(password)
    async with resources.database.write() as session:
        if await store.get_user_id(session, email) is not None:
            raise Conflict("This email address has an account.")
        user = User(email=email, name=name, password_hash=password_hash, roles=sorted(roles), created_at=now())
        await store.create_user(session, user)
        # That no user had this id may be cached.
        resources.outbox.invalidate(session, user_tag(user.id))
    return user


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
        _end_credentials(resources, session, user_id)


async def set_roles(resources: Resources, user_id: int, roles: Collection[str]) -> None:
    """For operators. The user's sessions end, so that none keeps a role that was removed."""
    async with resources.database.write() as session:
        user = await store.get_user_for_update(session, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        user.roles = sorted(roles)
        resources.outbox.invalidate(session, user_tag(user_id))
        _end_credentials(resources, session, user_id)


async def account_id(resources: Resources, email: str) -> int:
    """The id of the account with this address. NotFound where there is none, and for a text that is no address."""
    try:
        address = normalize_email(email)
    except ValueError:
        raise NotFound("There is no such user.") from None
    async with resources.database.read(primary=True) as session:
        user_id = await store.get_user_id(session, address)
    if user_id is None:
        raise NotFound("There is no such user.")
    return user_id


async def list_accounts(resources: Resources, *, after: int, limit: int) -> Sequence[User]:
    """For operators: the accounts whose ids follow `after`, in their order."""
    async with resources.database.read() as session:
        return await store.list_users(session, after=after, limit=limit)


def login_email(text: str) -> str:
    """The normalized form by which an address is looked up and counted. Accepts any text."""
    try:
        return normalize_email(text)
    except ValueError:
        return text.strip().lower()


def _end_credentials(resources: Resources, session: WriteSession, user_id: int) -> None:
    """End the sessions, and what was opened with API keys, after the commit. Unavailable: see Outbox.end_sessions()."""
    resources.outbox.end_credential(session, user_id)
    resources.outbox.end_sessions(session, user_id)


def _require_self_or_admin(principal: Principal, user_id: int) -> None:
    if not principal.may_write(user_id):
        raise Forbidden("This account is not yours.")
