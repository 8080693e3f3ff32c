"""The ids of the request and the task in every line of the log, and the line that each request has."""

import logging
from typing import Any

from app.kit.tasks.context import running_task
from app.log_redaction import escape
from app.web.context import UNMATCHED, Exchange, current, current_request_id

logger = logging.getLogger("app.requests")
LONGEST_PATH = 200


def current_route() -> str:
    """The template of the route that is being answered."""
    exchange = current.get()
    return exchange.route if exchange else UNMATCHED


def log_fields() -> dict[str, Any]:
    """What each log line has: the id of the request, and of a task its id and that of the request that caused it."""
    task = running_task()
    if task is not None:
        return {"request_id": task.correlation_id, "task_id": task.id}
    return {"request_id": current_request_id()}


def log_answer(exchange: Exchange, method: str, status: int, seconds: float) -> None:
    """Without a route the path, cut and without control characters, stands for it."""
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": method,
        "route": exchange.route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "principal": exchange.principal_id,
    }
    if exchange.route == UNMATCHED:
        fields["path"] = escape(exchange.path[:LONGEST_PATH])
    logger.info("request", extra=fields)
