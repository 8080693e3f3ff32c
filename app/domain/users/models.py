"""Accounts, their pictures and their API keys."""

from sqlalchemy import JSON, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NUMBERS_ARE_NOT_REUSED, Base, BigInt, Id, Moment

ROLES = frozenset({"admin", "editor"})


class User(Base):
    """An account. `email` is stored in lower case, so that its uniqueness does not depend on case."""

    __tablename__ = "users"
    __table_args__ = NUMBERS_ARE_NOT_REUSED

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(String(320), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(255))
    roles: Mapped[list[str]] = mapped_column(JSON, default=list)
    avatar_version: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[Moment]


class Avatar(Base):
    """A user's picture: the upload until it is resized, and the image that is shown until then and after.

    `version` is that of the latest upload. The image's own is User.avatar_version.
    """

    __tablename__ = "avatars"

    user_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[str] = mapped_column(String(32))
    upload: Mapped[bytes | None] = mapped_column(LargeBinary)
    image: Mapped[bytes | None] = mapped_column(LargeBinary)


class ApiKey(Base):
    """A key is stored as its SHA-256: 256 random bits need no slow hash. `last_used_at` is accurate to a minute."""

    __tablename__ = "api_keys"
    __table_args__ = NUMBERS_ARE_NOT_REUSED

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[Moment]
    last_used_at: Mapped[Moment | None]
