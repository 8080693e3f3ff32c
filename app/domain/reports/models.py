"""Reports and the parts that hold their rows."""

from datetime import date

from sqlalchemy import Date, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NUMBERS_ARE_NOT_REUSED, Base, BigInt, Id, Moment


class Report(Base):
    """What one attempt of a task makes: attempts of one task never write to the same report.

    `finished_at`, `rows` and `parts` are None until all parts are written. `end` is the last day.
    """

    __tablename__ = "reports"
    __table_args__ = NUMBERS_ARE_NOT_REUSED

    id: Mapped[Id]
    task_id: Mapped[str] = mapped_column(String(64), index=True)
    owner_id: Mapped[int] = mapped_column(BigInt, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(32))
    start: Mapped[date] = mapped_column(Date)
    end: Mapped[date] = mapped_column(Date)
    rows: Mapped[int | None]
    parts: Mapped[int | None]
    created_at: Mapped[Moment]
    finished_at: Mapped[Moment | None]
    expires_at: Mapped[Moment] = mapped_column(index=True)


class ReportPart(Base):
    """Some rows of a report, as a JSON array of arrays. Parts count from 0."""

    __tablename__ = "report_parts"

    report_id: Mapped[int] = mapped_column(BigInt, ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rows: Mapped[str] = mapped_column(Text)
