"""The news articles."""

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NUMBERS_ARE_NOT_REUSED, Base, BigInt, Id, Moment


class Article(Base):
    """`version` counts the edits; `processed_version` is the version that summary and keywords are of (0: none).

    An article stays when its author's account is deleted: `author_id` is then None.
    """

    __tablename__ = "articles"
    __table_args__ = (Index(None, "published_at", "id"), NUMBERS_ARE_NOT_REUSED)

    id: Mapped[Id]
    author_id: Mapped[int | None] = mapped_column(BigInt, ForeignKey("users.id", ondelete="SET NULL"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    content: Mapped[str] = mapped_column(Text)
    summary: Mapped[str | None] = mapped_column(Text)
    keywords: Mapped[list[str]] = mapped_column(JSON, default=list)
    views: Mapped[int] = mapped_column(BigInt, default=0, index=True)
    version: Mapped[int] = mapped_column(default=1)
    processed_version: Mapped[int] = mapped_column(default=0)
    published_at: Mapped[Moment]
    updated_at: Mapped[Moment]
