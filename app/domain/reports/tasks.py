"""The tasks of reports: making one, and deleting those that have expired."""

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta

import msgspec
from msgspec import Struct

from app.db.base import now
from app.domain.reports import store
from app.domain.reports.models import Report, ReportPart
from app.domain.reports.schemas import ReportType
from app.domain.reports.sources import TABLES, Cells, Position, Scope
from app.domain.users.store import get_user_for_update
from app.kit.tasks.context import TaskContext
from app.kit.tasks.outcome import Fail
from app.kit.tasks.schedule import Cron
from app.kit.tasks.task import task
from app.resources import Resources

ROWS_A_PART = 500
MOST_ROWS = 50_000
# How long a report and the record of its task are kept.
KEEP_SECONDS = 24 * 60 * 60
EXPIRED_BATCH = 20


class Order(Struct, frozen=True):
    """What a report is about. `end` is the last day."""

    type: ReportType
    start: date
    end: date


async def count_rows(resources: Resources, order: Order, owner_id: int) -> int:
    """How many rows the report would have; counts up to one more than MOST_ROWS for each source."""
    scope = Scope.of_days(owner_id, order.start, order.end)
    async with resources.database.read(primary=True) as session:
        return sum([await each.count(session, scope, most=MOST_ROWS + 1) for each in TABLES[order.type].sources])


@task(timeout_seconds=600, max_attempts=3, keep_seconds=KEEP_SECONDS, events=True)
async def make_report(context: TaskContext, order: Order) -> int | None:
    """Make the owner's report, part by part; returns the number of its rows.

    None where the owner's account was deleted. An attempt that is repeated begins a report of its own.
    """
    resources: Resources = context.resources
    if context.owner is None:
        raise Fail("a report has an owner")
    total = await count_rows(resources, order, context.owner)
    report = await _begin(resources, order, task_id=context.id, owner_id=context.owner)
    if report is None:
        return None
    rows, parts = 0, 0
    async for chunk in _chunks(resources, order, context.owner):
        rows += len(chunk)
        if rows > MOST_ROWS:
            raise Fail(f"The report has more than {MOST_ROWS} rows: choose a shorter range.")
        async with resources.database.write() as session:
            part = ReportPart(report_id=report.id, number=parts, rows=msgspec.json.encode(chunk).decode())
            await store.create_part(session, part)
        parts += 1
        context.report_progress(rows * 100 // max(rows, total))
    async with resources.database.write() as session:
        await store.update_finished(session, report.id, rows=rows, parts=parts, moment=now())
    return rows


async def _begin(resources: Resources, order: Order, *, task_id: str, owner_id: int) -> Report | None:
    """None: the owner has no account any more."""
    moment = now()
    report = Report(
        task_id=task_id,
        owner_id=owner_id,
        type=order.type,
        start=order.start,
        end=order.end,
        created_at=moment,
        expires_at=moment + timedelta(seconds=KEEP_SECONDS),
    )
    async with resources.database.write() as session:
        if await get_user_for_update(session, owner_id) is None:
            return None
        await store.create_report(session, report)
    return report


async def _chunks(resources: Resources, order: Order, owner_id: int) -> AsyncIterator[Sequence[Cells]]:
    """The rows in their order, up to ROWS_A_PART at a time. No transaction is open between two chunks."""
    scope = Scope.of_days(owner_id, order.start, order.end)
    for source in TABLES[order.type].sources:
        after: Position | None = None
        while True:
            async with resources.database.read(primary=True) as session:
                chunk, after = await source.list(session, scope, after=after, limit=ROWS_A_PART)
            if chunk:
                yield chunk
            if after is None:
                break


@task(timeout_seconds=300, max_attempts=1)
async def expire_reports(context: TaskContext) -> int:
    """Delete the reports that have expired, unfinished ones too; returns how many."""
    resources: Resources = context.resources
    deleted = 0
    while True:
        async with resources.database.write() as session:
            batch = await store.delete_expired(session, moment=now(), limit=EXPIRED_BATCH)
        deleted += batch
        if batch < EXPIRED_BATCH:
            return deleted


TASKS = (make_report, expire_reports)
SCHEDULE = (Cron(expire_reports, "17 * * * *"),)
