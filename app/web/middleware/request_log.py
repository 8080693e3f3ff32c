"""The id of the request, or of the task, in every line of the log."""

import logging

from app.kit.tasks.context import running_task
from app.web.context import current_request_id


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to every record: of a task its id and that of the request that caused it; "-" outside both."""

    def filter(self, record: logging.LogRecord) -> bool:
        task = running_task()
        if task is not None:
            record.request_id = f"{task.correlation_id or '-'} task:{task.id}"
        else:
            record.request_id = current_request_id() or "-"
        return True


def configure_logging(level: str) -> None:
    """Log to standard error, one line a record, with the request's id."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
