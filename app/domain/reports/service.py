"""Reports: ordering one, and reading one that is ready."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from app.db.base import now
from app.domain.reports import store
from app.domain.reports.models import Report
from app.domain.reports.schemas import NewReport, ReportAccepted
from app.domain.reports.tasks import MOST_ROWS, Order, count_rows, make_report
from app.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.model import is_task_id
from app.principal import Principal
from app.resources import Resources

Rows = list[list[Any]]
MOST_LISTED = 50


async def order_report(resources: Resources, principal: Principal, data: NewReport) -> ReportAccepted:
    """Invalid: it would have too many rows. While Redis is down this raises, and nothing is ordered.

    The task is enqueued directly, not by the outbox: nothing is written with it, and the answer has its position.
    """
    order = Order(data.type, data.date_range.start, data.date_range.end)
    if await count_rows(resources, order, principal.user_id) > MOST_ROWS:
        raise Invalid([{"loc": ["date_range"], "msg": f"the report would have more than {MOST_ROWS} rows"}])
    handle = await resources.queue.enqueue(make_report, order, owner=principal.user_id)
    return ReportAccepted(handle.id, handle.state, handle.position)


async def list_reports(resources: Resources, principal: Principal) -> Sequence[Report]:
    """The user's reports of the last day that were begun, the latest first."""
    async with resources.database.read(primary=True) as session:
        return await store.list_by_owner(session, principal.user_id, moment=now(), limit=MOST_LISTED)


async def get_order(resources: Resources, principal: Principal, task_id: str) -> TaskInfo:
    """The task of a report. Forbidden: another's. NotFound: no such report, or not any more."""
    info = await resources.queue.get(task_id)
    if info is None or info.name != make_report.name:
        raise NotFound("There is no such report.")
    _require_owner(principal, info.owner)
    return info


async def get_report(resources: Resources, principal: Principal, task_id: str) -> Report:
    """Forbidden: another's. NotFound: no such report, or not any more. Conflict: it is not ready."""
    if not is_task_id(task_id):
        raise NotFound("There is no such report.")
    async with resources.database.read(primary=True) as session:
        report = await store.get_finished(session, task_id, moment=now())
    if report is None:
        raise await _why_missing(resources, principal, task_id)
    _require_owner(principal, report.owner_id)
    return report


async def read_parts(resources: Resources, report: Report) -> AsyncIterator[Rows]:
    """The rows, part by part. Unavailable: the report was deleted meanwhile; what was sent is not all of it."""
    for number in range(report.parts or 0):
        async with resources.database.read(primary=True) as session:
            part = await store.get_part(session, report.id, number)
        if part is None:
            raise Unavailable("The report was deleted while it was sent.")
        yield msgspec.json.decode(part, type=Rows)


async def _why_missing(resources: Resources, principal: Principal, task_id: str) -> Exception:
    info = await get_order(resources, principal, task_id)
    match info.state:
        case "done":
            return NotFound("The report has expired.")
        case "failed" | "aborted":
            return Conflict(f"The report was not made: the state of its task is {info.state}.")
        case _:
            return Conflict(f"The report is not ready: the state of its task is {info.state}.")


def _require_owner(principal: Principal, owner_id: int | None) -> None:
    if not principal.is_admin and principal.user_id != owner_id:
        raise Forbidden("This report is not yours.")
