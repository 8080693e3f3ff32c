"""The SQL of accounts, their pictures and API keys."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update

from app.db.database import ReadSession, WriteSession
from app.domain.users.models import ApiKey, Avatar, User


async def get_user(session: ReadSession, user_id: int) -> User | None:
    return await session.get(User, user_id)


async def list_users(session: ReadSession, *, after: int, limit: int) -> Sequence[User]:
    return await session.scalars(select(User).where(User.id > after).order_by(User.id).limit(limit))


async def get_user_for_update(session: WriteSession, user_id: int) -> User | None:
    """Locks the row until this transaction ends."""
    return await session.scalar(select(User).where(User.id == user_id).with_for_update())


async def get_user_id(session: ReadSession, email: str) -> int | None:
    """`email` is normalized."""
    return await session.scalar(select(User.id).where(User.email == email))


async def get_user_of_login(session: ReadSession, user_id: int | None) -> User | None:
    """Runs the query for None too, so that an unknown account takes as long as a known one."""
    return await session.scalar(select(User).where(User.id == user_id))


async def create_user(session: WriteSession, user: User) -> None:
    """Sets the user's id."""
    session.add(user)
    await session.flush()


async def delete_user(session: WriteSession, user_id: int) -> None:
    """The API keys go too. Other slices' rows go or stay as their foreign keys say."""
    await session.execute(delete(User).where(User.id == user_id))


async def get_avatar(session: ReadSession, user_id: int) -> Avatar | None:
    return await session.get(Avatar, user_id)


async def get_image(session: ReadSession, user_id: int, version: str) -> bytes | None:
    """None unless this is the version that the user shows."""
    shown = select(Avatar.image).join(User, User.id == Avatar.user_id)
    return await session.scalar(shown.where(User.id == user_id, User.avatar_version == version))


async def delete_avatar(session: WriteSession, user_id: int) -> None:
    await session.execute(delete(Avatar).where(Avatar.user_id == user_id))


async def create_api_key(session: WriteSession, key: ApiKey) -> None:
    session.add(key)
    await session.flush()


async def list_api_keys(session: ReadSession, user_id: int) -> Sequence[ApiKey]:
    return await session.scalars(select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id))


async def count_api_keys(session: ReadSession, user_id: int) -> int:
    return await session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id)) or 0


async def get_api_key(session: ReadSession, key_hash: str) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.key_hash == key_hash))


async def update_last_used(session: WriteSession, key_id: int, moment: datetime) -> None:
    await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=moment))


async def delete_api_key(session: WriteSession, key_id: int, *, user_id: int) -> str | None:
    """The hash of the deleted key; None when the user has no key with this id."""
    chosen = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
    return await session.scalar(chosen.returning(ApiKey.key_hash))
