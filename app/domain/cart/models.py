"""The carts of accounts."""

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, BigInt


class Cart(Base):
    """`items`: the quantity by product id, in the order in which they were added (JSON has no integer keys).

    `merged` is the id of the visitor's cart that was merged last, so that a repeated login does not merge it again.
    """

    __tablename__ = "carts"

    user_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    items: Mapped[dict[str, int]] = mapped_column(JSON)
    merged: Mapped[str | None] = mapped_column(String(32))
