"""Edge: the outermost ASGI layer. One request's way through it is _answer(); what each response gets, _finish()."""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart

from app.errors import AppError
from app.kit.client.deadline import start_budget
from app.kit.telemetry import NoTelemetry, Telemetry
from app.log_redaction import escape
from app.resources import Resources
from app.web.client_address import is_from_proxy
from app.web.context import EXTENSION, UNMATCHED, Exchange, RawHeaders, StreamedBody, current
from app.web.edge.direct import DirectConnection
from app.web.edge.early import EarlyAnswer, ask_early
from app.web.guard import GuardedQuart
from app.web.limits.enforce import limit_headers, settle
from app.web.links import PUBLIC_URL
from app.web.middleware import cors, security

logger = logging.getLogger("app.requests")
# Of a path, in the log.
LONGEST_PATH = 200
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
# The messages that have the status and the headers of an answer; the acceptance of a WebSocket is a 101.
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_REFUSED_HANDSHAKE = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """`redis_budget_seconds`: how long one request may wait for a Redis that does not answer; None: without an end."""

    telemetry: Telemetry
    allowed_hosts: Collection[str] = ()
    hsts_seconds: int = 0
    cross_origin: cors.CrossOrigin = cors.CrossOrigin()
    redis_budget_seconds: float | None = None


def register(app: Quart, options: EdgeOptions | None = None) -> None:
    """Put the edge around the whole application, WebSockets included."""
    app.asgi_http_class = DirectConnection
    app.asgi_app = Edge(app, options or EdgeOptions(telemetry=NoTelemetry()))  # type: ignore[method-assign]


class Edge:
    """`asks_early`: whether Redis is asked before the framework is entered. The answers are the same without."""

    asks_early = True

    def __init__(self, app: Quart, options: EdgeOptions) -> None:
        self._app = app
        self._inner = app.asgi_app
        self._options = options
        # Only its routes have policies that are known before the framework is entered.
        self._guarded = app if isinstance(app, GuardedQuart) else None
        self._headers = security.security_headers(options.hsts_seconds)
        # Requests and handshakes whose answer has not begun: a stream lasts for hours after that.
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif self._options.cross_origin.origins and scope["type"] == "http" and cors.is_preflight(scope):
            # Before anything else is asked or counted, limits too.
            await cors.answer_preflight(self._options.cross_origin, scope, send)
        else:
            streamed = await self._answer(scope, receive, send)
            if streamed is not None:
                # Nothing of the request and of the framework is held while a stream lasts.
                await streamed.send(receive, send)

    async def _answer(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> StreamedBody | None:
        """One request's way; a stream's body is still to be sent."""
        cleaned, refusal = security.clean(scope)
        exchange = Exchange(cleaned)
        if b"x-request-id" in exchange.headers and is_from_proxy(cleaned, self._app.config):
            exchange.adopt_id()
        exchange.refusal = refusal or self._refusal(exchange)
        token = current.set(exchange)
        self._count_in_flight(1)
        start_budget(self._options.redis_budget_seconds)
        try:
            early = await self._ask_early(exchange)
            if early is None:
                await self._inner(cleaned, self._bounded(cleaned, receive), partial(self._send, exchange, send))
            else:
                await self._send_early(exchange, early, send)
        finally:
            current.reset(token)
            if not exchange.answered:
                self._count_in_flight(-1)
        return exchange.streamed

    async def _ask_early(self, exchange: Exchange) -> EarlyAnswer | None:
        if self._guarded is None or not self.asks_early or exchange.refusal or exchange.scope["type"] != "http":
            return None
        try:
            return await ask_early(self._guarded, exchange)
        except Exception as error:
            # A defect: raised inside, where it is answered and logged like that of a view.
            exchange.refusal = error
            return None

    def _refusal(self, exchange: Exchange) -> AppError | None:
        """The error of a request that may not reach a view, which the guard raises: it is answered like any other."""
        try:
            security.check_host(exchange, self._options.allowed_hosts)
            security.check_same_origin(
                exchange,
                trusted=self._options.cross_origin.origins,
                session_cookie=self._app.config["SESSION_COOKIE_NAME"],
                public_url=self._app.config.get(PUBLIC_URL, ""),
            )
        except AppError as error:
            return error
        return None

    async def _send_early(self, exchange: Exchange, early: EarlyAnswer, send: Any) -> None:
        headers = await self._finish(exchange, early.status, early.headers)
        await send({"type": "http.response.start", "status": early.status, "headers": headers})
        await send({"type": "http.response.body", "body": early.body, "more_body": False})

    def _bounded(self, scope: Any, receive: ASGIReceiveCallable) -> ASGIReceiveCallable:
        method = scope.get("method", "GET")
        if method in ("GET", "HEAD"):
            # DirectConnection drops their bodies; a WebSocket has none.
            return receive
        # The body of a safe method has no meaning (RFC 9110, 9.3.1). Of others one byte more than is allowed makes a
        # 413; Quart 0.23 would collect all that is sent.
        most = 0 if method in security.SAFE_METHODS else self._app.config["MAX_CONTENT_LENGTH"] + 1
        return security.bounded(receive, most)

    async def _send(self, exchange: Exchange, send: ASGISendCallable, message: Any) -> None:
        if message["type"] in _ANSWERS:
            status = message.get("status", 101)
            headers = await self._finish(exchange, status, [*message["headers"]])
            message = {**message, "headers": headers}
        elif message["type"] == "websocket.close" and not exchange.answered:
            # A close before the acceptance; a server sends its own answer then.
            await self._finish(exchange, _REFUSED_HANDSHAKE, [])
        await send(message)

    async def _finish(self, exchange: Exchange, status: int, headers: RawHeaders) -> RawHeaders:
        """The headers of the response, once its limits are settled and it is recorded."""
        if not exchange.answered:
            exchange.answered = True
            self._count_in_flight(-1)
        if exchange.decisions:
            resources: Resources = self._app.extensions[EXTENSION]
            await settle(exchange.decisions, resources.limiter, succeeded=status < 400)
            headers += limit_headers(exchange.decisions)
        security.add_missing(headers, self._headers, status=status)
        if self._options.cross_origin.origins:
            cors.add_grants(self._options.cross_origin, exchange.text(b"origin"), headers)
        headers.append((b"x-request-id", exchange.id.encode()))
        self._record(exchange, status)
        return headers

    def _count_in_flight(self, change: int) -> None:
        self._in_flight += change
        self._options.telemetry.gauge("http_requests_in_flight", self._in_flight)

    def _record(self, exchange: Exchange, status: int) -> None:
        """Two metrics and one log line, without a credential. Of a WebSocket the handshake is recorded.

        Without a route the path stands for it in the log, cut and without control characters.
        """
        seconds, route, telemetry = time.perf_counter() - exchange.began, exchange.route, self._options.telemetry
        # Clients make up methods.
        method = exchange.method if exchange.method in METHODS else "other"
        telemetry.count("http_requests", method=method, route=route, status=str(status))
        telemetry.observe("http_request_seconds", seconds, route=route)
        if not logger.isEnabledFor(logging.INFO):
            return
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "principal": exchange.principal_id,
        }
        if route == UNMATCHED:
            fields["path"] = escape(exchange.path[:LONGEST_PATH])
        logger.info("request", extra=fields)
