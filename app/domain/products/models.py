"""Products and their categories."""

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NUMBERS_ARE_NOT_REUSED, Base, BigInt, Id, Moment


class Category(Base):
    __tablename__ = "categories"
    __table_args__ = NUMBERS_ARE_NOT_REUSED

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100), unique=True)


class Product(Base):
    """`price_cents`: hundredths, because SQLite has no exact decimal type."""

    __tablename__ = "products"
    __table_args__ = (
        Index(None, "name", "id"),
        Index(None, "category_id", "name", "id"),
        Index(None, "updated_at", "id"),
        NUMBERS_ARE_NOT_REUSED,
    )

    id: Mapped[Id]
    category_id: Mapped[int] = mapped_column(BigInt, ForeignKey("categories.id", ondelete="RESTRICT"))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    price_cents: Mapped[int] = mapped_column(BigInt)
    updated_at: Mapped[Moment]
