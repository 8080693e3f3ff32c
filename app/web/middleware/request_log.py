"""The id of each request, and one log line and metrics at its end. None of them holds a credential."""

import logging
import re
import secrets
import time

from quart import Quart, Response, g, has_app_context

from app.kit.tasks.context import running_task
from app.kit.telemetry import Telemetry
from app.web.context import connection
from app.web.handshake import after_answer, before_view

logger = logging.getLogger("app.requests")
HEADER = "X-Request-ID"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


def current_request_id() -> str | None:
    """None outside a request."""
    return g.get("request_id") if has_app_context() else None


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


def register(app: Quart, telemetry: Telemetry) -> None:
    """Give each request an id (the client's, where it is well-formed) and record how it was answered.

    For a WebSocket the handshake is recorded: 101 where it was accepted.
    """

    async def begin() -> None:
        given = connection().headers.get(HEADER, "")
        g.request_id = given if _VALID_ID.fullmatch(given) else secrets.token_hex(8)
        g.began = time.perf_counter()

    async def finish(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        seconds = time.perf_counter() - g.began
        # The route's template, not the path: paths hold ids, and clients make up any number of them.
        asked = connection()
        route = asked.url_rule.rule if asked.url_rule else "unmatched"
        # Clients make up methods, too.
        method = asked.method if asked.method in METHODS else "other"
        labels = {"method": method, "route": route, "status": str(response.status_code)}
        telemetry.count("http_requests", **labels)
        telemetry.observe("http_request_seconds", seconds, route=route)
        logger.info("%s %s %s %.1f ms", method, route, response.status_code, seconds * 1000)
        return response

    before_view(app, begin)
    after_answer(app, finish)
