"""Messages."""

from sqlalchemy import ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NUMBERS_ARE_NOT_REUSED, Base, BigInt, Id, Moment


class Message(Base):
    """A message belongs to its recipient: it is deleted with the recipient's account, and outlives the sender's.

    `sender_id` is then None.
    """

    __tablename__ = "messages"
    __table_args__ = (
        Index(None, "recipient_id", "id"),
        Index(None, "sender_id", "id"),
        # Of the unread ones alone, which are counted with each page of an inbox.
        Index(
            "ix_messages_unread",
            "recipient_id",
            sqlite_where=text("read_at IS NULL"),
            postgresql_where=text("read_at IS NULL"),
        ),
        NUMBERS_ARE_NOT_REUSED,
    )

    id: Mapped[Id]
    sender_id: Mapped[int | None] = mapped_column(BigInt, ForeignKey("users.id", ondelete="SET NULL"))
    recipient_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"))
    content: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Moment]
    read_at: Mapped[Moment | None]
