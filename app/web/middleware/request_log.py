"""What every line of the log says of the request and the task in which it is written."""

from typing import Any

from app.kit.tasks.context import running_task
from app.web.context import UNMATCHED, current, current_request_id


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
