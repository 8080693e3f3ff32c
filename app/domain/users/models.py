"""Accounts and their API keys."""

from sqlalchemy import JSON, ForeignKey, String
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
    avatar_url: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[Moment]


class ApiKey(Base):
    """A key is stored as its SHA-256: 256 random bits need no slow hash."""

    __tablename__ = "api_keys"
    __table_args__ = NUMBERS_ARE_NOT_REUSED

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[Moment]
