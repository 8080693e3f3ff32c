"""The SQL of reports and their parts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from app.db.database import ReadSession, WriteSession
from app.domain.reports.models import Report, ReportPart


async def create_report(session: WriteSession, report: Report) -> None:
    """Sets the report's id."""
    session.add(report)
    await session.flush()


async def create_part(session: WriteSession, part: ReportPart) -> None:
    session.add(part)
    await session.flush()


async def update_finished(session: WriteSession, report_id: int, *, rows: int, parts: int, moment: datetime) -> None:
    finished = update(Report).where(Report.id == report_id).values(rows=rows, parts=parts, finished_at=moment)
    await session.execute(finished)


async def get_finished(session: ReadSession, task_id: str, *, moment: datetime) -> Report | None:
    """The first report that an attempt of the task has finished, until it expires."""
    finished = select(Report).where(Report.task_id == task_id, Report.finished_at.is_not(None))
    return await session.scalar(finished.where(Report.expires_at > moment).order_by(Report.id).limit(1))


async def list_by_owner(session: ReadSession, owner_id: int, *, moment: datetime, limit: int) -> Sequence[Report]:
    """Those that have not expired, the latest first."""
    owned = select(Report).where(Report.owner_id == owner_id, Report.expires_at > moment)
    return await session.scalars(owned.order_by(Report.id.desc()).limit(limit))


async def get_part(session: ReadSession, report_id: int, number: int) -> str | None:
    """The rows of a part, as JSON."""
    part = select(ReportPart.rows).where(ReportPart.report_id == report_id, ReportPart.number == number)
    return await session.scalar(part)


async def delete_expired(session: WriteSession, *, moment: datetime, limit: int) -> int:
    """Deletes up to `limit` reports with their parts; returns how many."""
    expired = select(Report.id).where(Report.expires_at <= moment).order_by(Report.expires_at).limit(limit)
    return (await session.execute(delete(Report).where(Report.id.in_(expired)))).rowcount
