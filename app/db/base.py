"""Shared by all tables: the registry of models, names of constraints, and column types for both databases."""

from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no time zones: it stores a naive one, which is read as aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone could mean any moment")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    return datetime.now(UTC)


# 64 bits on both databases; SQLite assigns ids only in a column of the exact type INTEGER.
BigInt = BigInteger().with_variant(Integer(), "sqlite")
Id = Annotated[int, mapped_column(BigInt, primary_key=True)]
Moment = Annotated[datetime, mapped_column(UtcDateTime())]

# By default SQLite gives the id of a deleted last row to the next row. What a deleted user's id still opens (a cached
# page, a session that ends this second) must not be open to a new user.
NUMBERS_ARE_NOT_REUSED = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """The models' base. Constraints get names, so that a migration can alter them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
