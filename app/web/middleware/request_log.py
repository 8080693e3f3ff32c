"""The id of each request, and one log line and metrics at its end. None of them holds a credential."""

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from quart import Quart, Response, g, has_app_context

from app.kit.tasks.context import running_task
from app.kit.telemetry import Telemetry
from app.log_redaction import escape
from app.web.context import connection
from app.web.handshake import after_answer, before_view

logger = logging.getLogger("app.requests")
HEADER = "X-Request-ID"
UNMATCHED = "unmatched"
LONGEST_PATH = 200
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_answered: ContextVar[str] = ContextVar("answered_route", default=UNMATCHED)
# What begins an answer: a stream lasts for hours after it.
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start", "websocket.close"})
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")

_App = Callable[[Any, Any, Any], Awaitable[None]]


def current_request_id() -> str | None:
    """None outside a request."""
    return g.get("request_id") if has_app_context() else None


def current_route() -> str:
    """The template of the route whose answer is being sent."""
    return _answered.get()


def log_fields() -> dict[str, Any]:
    """What each log line has: the id of the request, and of a task its id and that of the request that caused it."""
    task = running_task()
    if task is not None:
        return {"request_id": task.correlation_id, "task_id": task.id}
    return {"request_id": current_request_id()}


def access_fields(seconds: float, principal: int | None, route: str, path: str) -> dict[str, Any]:
    """Beside method, route and status. Without a route the path, cut and without control characters, stands for it."""
    fields: dict[str, Any] = {"duration_ms": round(seconds * 1000, 1), "principal": principal}
    if route == UNMATCHED:
        fields["path"] = escape(path[:LONGEST_PATH])
    return fields


def register(app: Quart, telemetry: Telemetry) -> None:
    """Give each request an id (the client's, where it is well-formed), count it, and record how it was answered.

    For a WebSocket the handshake is recorded: 101 where it was accepted.
    """

    async def begin() -> None:
        given = connection().headers.get(HEADER, "")
        g.request_id = given if _VALID_ID.fullmatch(given) else secrets.token_hex(8)
        g.began = time.perf_counter()

    async def finish(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        seconds = time.perf_counter() - g.began
        asked = connection()
        # The route's template, not the path: paths hold ids, and clients make up any number of them.
        route = asked.url_rule.rule if asked.url_rule else UNMATCHED
        _answered.set(route)
        # Clients make up methods, too.
        method = asked.method if asked.method in METHODS else "other"
        labels = {"method": method, "route": route, "status": str(response.status_code)}
        telemetry.count("http_requests", **labels)
        telemetry.observe("http_request_seconds", seconds, route=route)
        if logger.isEnabledFor(logging.INFO):
            fields = {"method": method, "route": route, "status": response.status_code}
            identity = g.get("identity")
            principal = identity.principal.user_id if identity and identity.principal else None
            logger.info("request", extra={**fields, **access_fields(seconds, principal, route, asked.path)})
        return response

    before_view(app, begin)
    after_answer(app, finish)
    app.asgi_app = count_in_flight(app.asgi_app, telemetry)  # type: ignore[method-assign, assignment]


def count_in_flight(app: _App, telemetry: Telemetry) -> _App:
    """Counts a request or a handshake from its arrival until its answer begins, or until it ends without one."""
    amount = 0

    def add(change: int) -> None:
        nonlocal amount
        amount += change
        telemetry.gauge("http_requests_in_flight", amount)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        waits = True

        def answered() -> None:
            nonlocal waits
            if waits:
                waits = False
                add(-1)

        async def observed(message: Any) -> None:
            if message["type"] in _ANSWERS:
                answered()
            await send(message)

        add(1)
        try:
            await app(scope, receive, observed)
        finally:
            answered()

    return counted
