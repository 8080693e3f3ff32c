"""HTTP of reports."""

from quart import Blueprint, Response, jsonify, request
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.reports import service
from app.domain.reports.formats import as_csv, as_json
from app.domain.reports.order_limit import limit_orders
from app.domain.reports.schemas import NewReport, ReportAccepted, ReportFormat, ReportShown
from app.domain.reports.sources import columns_of
from app.web.answers import answers
from app.web.context import resources
from app.web.idempotency import idempotent
from app.web.identity import auth
from app.web.links import link_to

blueprint = Blueprint("reports", __name__, url_prefix="/api/v1/reports")
# Of 50,000 rows, for a slow client.
DOWNLOAD_SECONDS = 600


@blueprint.post("")
@idempotent
@auth.require_auth()
@limit_orders
@tag(["reports"])
@validate_request(NewReport)
@document_response(ReportAccepted, 202)
async def order_report(data: NewReport) -> ResponseReturnValue:
    """Order a report over at most 366 days and 50,000 rows. Its task publishes progress as events.

    article_views: articles published in the range. own_activity: one's articles and messages of the range.
    product_catalogue: products that were last changed in the range.
    """
    accepted = await service.order_report(resources(), auth.current_principal(), data)
    return jsonify(accepted), 202, {"Location": link_to("tasks.show", task_id=accepted.task_id)}


@blueprint.get("/<task_id>")
@answers(200, content_type="text/csv", description="With format=csv: the columns, and a line for each row.")
@answers(409)
@auth.require_auth()
@tag(["reports"])
@validate_querystring(ReportFormat)
@document_response(ReportShown)
async def get_report(task_id: str, query_args: ReportFormat) -> Response:
    """Download a report, as JSON or as CSV (text/csv), within a day. For its owner and admins.

    409: its task has not ended, or has failed. 404: there is no such report, or not any more.
    """
    report = await service.get_report(resources(), auth.current_principal(), task_id)
    columns = columns_of(report.type)
    parts = service.read_parts(resources(), report)
    body = as_csv(columns, parts) if query_args.format == "csv" else as_json(report, columns, parts)
    kind = "text/csv; charset=utf-8; header=present" if query_args.format == "csv" else "application/json"
    response = Response(b"" if request.method == "HEAD" else body, content_type=kind)
    if request.method == "HEAD":
        # The length of a stream is not known (RFC 9110, 8.6).
        response.headers.pop("Content-Length", None)
    name = f"{report.type}_{report.start}_{report.end}.{query_args.format}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.timeout = DOWNLOAD_SECONDS
    return response
