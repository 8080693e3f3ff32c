"""Cross-origin requests of other sites' pages (the Fetch standard, "CORS protocol"). Off unless origins are stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypercorn.typing import ASGISendCallable, HTTPScope

from app.web.context import RawHeaders

OFFERED = "GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = "ETag, Link, Location, Retry-After, X-Request-ID, RateLimit, RateLimit-Policy"
ACCEPTED = ("Content-Type", "Authorization", "X-Session-ID", "API-Key", "If-Match", "If-None-Match", "Idempotency-Key")
PREFLIGHT_SECONDS = 600
ALLOWED_ORIGIN = b"access-control-allow-origin"


@dataclass(frozen=True, slots=True)
class CrossOrigin:
    """Which origins' pages may read answers; `*`: any, without credentials. `headers`: which they may send too."""

    origins: Sequence[str] = ()
    headers: Sequence[str] = ()
    credentials: bool = False

    def allowed(self, origin: str) -> str | None:
        """The value of Access-Control-Allow-Origin; None: the page may not read the answer."""
        if "*" in self.origins:
            return "*"
        return origin if origin.lower() in self.origins else None


def add_grants(policy: CrossOrigin, origin: str | None, headers: RawHeaders) -> None:
    """Let the pages that may do so read the response."""
    if "*" not in policy.origins:
        # Caches keep the answers to different origins apart.
        vary = [value for name, value in headers if name == b"vary"]
        headers[:] = [pair for pair in headers if pair[0] != b"vary"]
        headers.append((b"vary", b", ".join([*vary, b"Origin"])))
    if origin and (allowed := policy.allowed(origin)):
        headers += [(ALLOWED_ORIGIN, allowed.encode("latin-1")), (b"access-control-expose-headers", EXPOSED.encode())]
        if policy.credentials:
            headers.append((b"access-control-allow-credentials", b"true"))


def is_preflight(scope: HTTPScope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


async def answer_preflight(policy: CrossOrigin, scope: HTTPScope, send: ASGISendCallable) -> None:
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
