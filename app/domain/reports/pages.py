"""The pages of reports: ordering one, its progress, and its download."""

from datetime import timedelta

from quart import Blueprint, Response, redirect, render_template, request
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.db.base import now
from app.domain.reports import service
from app.domain.reports.order_limit import limit_orders
from app.domain.reports.schemas import NewReport
from app.errors import AppError, Invalid
from app.web.context import resources
from app.web.html.forms import SEE_OTHER, FormField, PageForm, show_form, show_problems, typed, validated
from app.web.html.layout import PageLink
from app.web.identity import auth

blueprint = Blueprint(
    "report_pages",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static/reports",
)
LINKS = (PageLink("/reports", "Reports", "users"),)
TITLES = {
    "article_views": "Views of articles",
    "own_activity": "My articles and messages",
    "product_catalogue": "Changes of the catalogue",
}
ORDER = PageForm(
    "Order a report",
    "Make the report",
    (
        FormField("type", "What it is about", "select", choices=tuple(TITLES.items())),
        FormField("start", "First day", "date"),
        FormField("end", "Last day", "date", hint="at most 366 days, in UTC"),
    ),
)
LATEST_DAYS = 30


async def _show(values: dict[str, str], problem: AppError | None = None) -> Response:
    reports = await service.list_reports(resources(), auth.current_principal())
    return await show_form(
        ORDER, values, problem=problem, template="reports/reports.html", reports=reports, titles=TITLES
    )


async def _show_problem(problem: AppError) -> Response:
    return await _show(await typed(ORDER), problem)


show_problems(blueprint, _show_problem, keeps=(ORDER,))


@blueprint.get("/reports")
@hide
@auth.require_auth("cookie")
async def reports_page() -> Response:
    today = now().date()
    first = today - timedelta(days=LATEST_DAYS)
    return await _show({"type": "article_views", "start": first.isoformat(), "end": today.isoformat()})


@blueprint.post("/reports")
@hide
@auth.require_auth("cookie")
@limit_orders
async def order() -> ResponseReturnValue:
    form = await request.form
    days = {name: form.get(name, "") for name in ("start", "end")}
    try:
        data = validated(NewReport, {"type": form.get("type", ""), "date_range": days})
        accepted = await service.order_report(resources(), auth.current_principal(), data)
    except Invalid as problem:
        raise Invalid([{**each, "loc": _field_of(each["loc"])} for each in problem.extra["errors"]]) from None
    return redirect(f"/reports/{accepted.task_id}", SEE_OTHER)


def _field_of(place: list[str]) -> list[str]:
    """What is wrong with the range as a whole is said at its end."""
    return place[1:] or ["end"] if place[0] == "date_range" else place


@blueprint.get("/reports/<task_id>")
@hide
@auth.require_auth("cookie")
async def report_page(task_id: str) -> str:
    task = await service.get_order(resources(), auth.current_principal(), task_id)
    return await render_template("reports/report.html", task=task, titles=TITLES)
