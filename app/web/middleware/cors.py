"""Cross-origin requests of other sites' pages (the Fetch standard, "CORS protocol"). Off unless origins are stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart import Quart, Response

from app.web.context import connection
from app.web.handshake import after_answer
from app.web.middleware.security import TRUSTED_ORIGINS

OFFERED = "GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = "ETag, Link, Location, Retry-After, X-Request-ID, RateLimit, RateLimit-Policy"
ACCEPTED = ("Content-Type", "Authorization", "X-Session-ID", "API-Key", "If-Match", "If-None-Match", "Idempotency-Key")
PREFLIGHT_SECONDS = 600
ALLOWED_ORIGIN = b"access-control-allow-origin"


@dataclass(frozen=True, slots=True)
class CrossOrigin:
    """Which origins' pages may read answers; `*`: any, without credentials. `headers`: which they may send too."""

    origins: Sequence[str]
    headers: Sequence[str]
    credentials: bool

    def allowed(self, origin: str) -> str | None:
        """The value of Access-Control-Allow-Origin; None: the page may not read the answer."""
        if "*" in self.origins:
            return "*"
        return origin if origin.lower() in self.origins else None


def register(app: Quart, policy: CrossOrigin) -> None:
    """Answer preflights before anything else of the application is asked, limits too; add headers to every answer."""
    if not policy.origins:
        return
    inner = app.asgi_app

    async def cross_origin(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and _is_preflight(scope):
            await _answer_preflight(policy, scope, send)
        else:
            await inner(scope, receive, send)

    async def add_headers(response: Response) -> Response:
        origin = connection().headers.get("Origin")
        if "*" not in policy.origins:
            # Caches keep the answers to different origins apart.
            response.vary.add("Origin")
        if origin and (allowed := policy.allowed(origin)):
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
            if policy.credentials:
                response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    app.config[TRUSTED_ORIGINS] = frozenset(policy.origins)
    app.asgi_app = cross_origin  # type: ignore[method-assign]
    after_answer(app, add_headers)


def _is_preflight(scope: HTTPScope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


async def _answer_preflight(policy: CrossOrigin, scope: HTTPScope, send: ASGISendCallable) -> None:
    origin = next(value for name, value in scope["headers"] if name == b"origin").decode("latin-1")
    headers = [(b"cache-control", b"no-store"), (b"vary", b"Origin, Access-Control-Request-Method")]
    allowed = policy.allowed(origin)
    if allowed:
        headers += [
            (ALLOWED_ORIGIN, allowed.encode("latin-1")),
            (b"access-control-allow-methods", OFFERED.encode()),
            (b"access-control-allow-headers", ", ".join((*ACCEPTED, *policy.headers)).encode()),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
        if policy.credentials:
            headers.append((b"access-control-allow-credentials", b"true"))
    start: Any = {"type": "http.response.start", "status": 204, "headers": headers}
    body: Any = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(start)
    await send(body)
