"""What a request must satisfy before a view is chosen, and the security headers of every response.

What is malformed in its target or headers is removed before Quart reads it: Quart and Werkzeug raise for some values
where no error handler is called yet, and such a request would have no problem details, no id and no line in the log.
Others they parse in time that a client chooses. Then its Host is checked, and the rule against cross-site requests.
"""

import re
from collections.abc import Collection
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, HTTPScope

from app.errors import AppError, BadRequest, Forbidden, HeadersTooLarge, NotFound, URITooLong
from app.web.context import Exchange, RawHeaders
from app.web.host import host_name, is_own_machine

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# Of every response that does not state its own.
DEFAULT_HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
}

# Parsing takes time for each byte and field, in the event loop; nginx takes 8 KiB of a target and 32 KiB of headers.
MOST_TARGET_BYTES = 32 * 1024
MOST_QUERY_FIELDS = 1000
MOST_HEADER_BYTES = 32 * 1024
MOST_MEDIA_TYPE_BYTES = 1024
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(/.*)?", re.IGNORECASE | re.DOTALL)
_DAYS, _MONTHS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
# The three forms of HTTP-date (RFC 9110, 5.6.7).
_DATE = re.compile(
    rf"(?:{_DAYS}), [0-9]{{2}} (?:{_MONTHS}) [0-9]{{4}} {_TIME} GMT"
    rf"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{{2}}-(?:{_MONTHS})-[0-9]{{2}} {_TIME} GMT"
    rf"|(?:{_DAYS}) (?:{_MONTHS}) [ 0-9][0-9] {_TIME} [0-9]{{4}}".encode()
)
_ETAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')  # RFC 9110, 8.8.3
_RANGE = re.compile(rb"bytes=([0-9]{1,18})-([0-9]{0,18})")
_DATED = (b"if-modified-since", b"if-unmodified-since")
_CHECKED = frozenset({b"if-range", b"range", b"content-type", *_DATED})


def security_headers(hsts_seconds: int) -> RawHeaders:
    """DEFAULT_HEADERS, with Strict-Transport-Security unless `hsts_seconds` is 0."""
    if not hsts_seconds:
        return list(DEFAULT_HEADERS.items())
    return [*DEFAULT_HEADERS.items(), (b"strict-transport-security", b"max-age=%d; includeSubDomains" % hsts_seconds)]


def add_missing(headers: RawHeaders, defaults: RawHeaders, *, status: int) -> None:
    """Add those that the response does not have; nothing has no type, and 204 no length (RFC 9110, 8.6)."""
    present = dict(headers)
    if status == 204 or present.get(b"content-length") == b"0":
        dropped = (b"content-type", b"content-length") if status == 204 else (b"content-type",)
        headers[:] = without(headers, *dropped)
    headers.extend([pair for pair in defaults if pair[0] not in present])


def check_host(exchange: Exchange, allowed: Collection[str]) -> None:
    """BadRequest: this server does not answer for the request's Host."""
    name = host_name(exchange.text(b"host") or "")
    # A loopback name is always allowed: health checks use it, and no link is made from Host.
    if not is_own_machine(name) and name not in allowed:
        raise BadRequest("This server does not answer for that Host.")


def check_same_origin(
    exchange: Exchange, *, trusted: Collection[str], session_cookie: str, public_url: str = ""
) -> None:
    """Forbidden for an unsafe request from another origin (cross-site request forgery), login forms included.

    So is a WebSocket, whatever its method: its messages are not bound to any page (RFC 6455, 10.2). A credential in a
    header exempts: no browser adds one to another site's request. `trusted`: the origins of other sites whose pages may
    send unsafe requests; `*`: any, without a session.
    """
    is_websocket = exchange.scope["type"] == "websocket"
    if (exchange.method in SAFE_METHODS and not is_websocket) or exchange.has_header_credential:
        return
    site, origin = exchange.text(b"sec-fetch-site"), exchange.text(b"origin")
    has_session = bool(exchange.cookies(session_cookie))
    if (origin or "").lower() in trusted or ("*" in trusted and not has_session):
        return
    if site is not None:
        # Fetch Metadata: browsers set it, pages cannot. "none" is an action of the user, such as a bookmark.
        allowed = site in ("same-origin", "none")
        if is_websocket and origin is not None:
            allowed = allowed and _is_own(exchange.host, origin, public_url)
    elif origin is not None:
        allowed = _is_own(exchange.host, origin, public_url)
    else:
        # No current browser; but an old one, which sends neither header, may have sent the cookie.
        allowed = not has_session
    if not allowed:
        raise Forbidden("The request does not come from this site's own pages.")


def _is_own(host: str, origin: str, public_url: str) -> bool:
    """Whether an origin is that of the request's host; at the public host with the public scheme, too.

    At other hosts the scheme is not known behind a proxy that ends TLS.
    """
    scheme, _, own = origin.lower().partition("://")
    public_scheme, _, public_host = public_url.lower().partition("://")
    return bool(host) and own == host and (host != public_host or scheme == public_scheme)


def bounded(receive: ASGIReceiveCallable, most: int) -> ASGIReceiveCallable:
    """The first `most` bytes of the body, and then its end; the rest is dropped as it comes."""
    left, is_whole = most, False

    async def received() -> Any:
        nonlocal left, is_whole
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            if not is_whole:
                body = message.get("body", b"")[:left]
                left -= len(body)
                is_whole = not left or not message.get("more_body", False)
                return {**message, "body": body, "more_body": not is_whole}

    return received


def clean(scope: HTTPScope) -> tuple[HTTPScope, type[AppError] | None]:
    """The request without what is malformed, and the error of one that no route may see."""
    path, headers = scope["path"], list(scope["headers"])
    if not path.startswith("/"):
        absolute = _ABSOLUTE.fullmatch(path)
        if absolute:
            # RFC 9112, 3.2.2: the target's host replaces the one in Host.
            headers = [*without(headers, b"host"), (b"host", absolute[1].encode("latin-1", "replace"))]
        path = (absolute[2] or "/") if absolute else f"/{path}"
    cleaned: Any = {**scope, "path": path, "headers": _clean_headers(headers)}
    query = scope["query_string"]
    refusal: type[AppError] | None = None
    if len(path) + len(query) > MOST_TARGET_BYTES or query.count(b"&") >= MOST_QUERY_FIELDS:
        cleaned |= {"path": "/", "query_string": b""}
        refusal = URITooLong
    elif "\0" in path:
        # No file system and no text of PostgreSQL has this character: nothing has such a name.
        cleaned |= {"path": "/"}
        refusal = NotFound
    elif sum([len(name) + len(value) for name, value in headers]) > MOST_HEADER_BYTES:
        cleaned |= {"headers": [each for each in cleaned["headers"] if each[0] == b"host"]}
        refusal = HeadersTooLarge
    return cleaned, refusal


def _clean_headers(headers: RawHeaders) -> RawHeaders:
    names = [name for name, _ in headers]
    hosts = [value for name, value in headers if name == b"host"]
    if hosts and (len(hosts) > 1 or not host_name(hosts[0].decode("latin-1"))):
        # RFC 9112, 3.2: 400, which the check of Host answers for an empty one.
        headers = [*without(headers, b"host"), (b"host", b"")]
    if _CHECKED.isdisjoint(names):
        return headers
    conditions = [value for name, value in headers if name == b"if-range"]
    if any(not (_ETAG.fullmatch(value) or _DATE.fullmatch(value)) for value in conditions):
        # RFC 9110, 13.1.5: a condition that cannot be true, so that the range does not count.
        headers = without(headers, b"if-range", b"range")
    return [(name, value) for name, value in headers if not _is_ignored(name, value)]


def _is_ignored(name: bytes, value: bytes) -> bool:
    """RFC 9110, 13.1.3 and 13.1.4: a date that is none is ignored; 14.2: any Range may be. A long type is unknown."""
    if name in _DATED:
        return not _DATE.fullmatch(value)
    if name == b"content-type":
        return len(value) > MOST_MEDIA_TYPE_BYTES
    # Ranges of one part from the front. Quart answers those from the end, and those of several parts, wrongly.
    return name == b"range" and not _is_range(value)


def _is_range(value: bytes) -> bool:
    found = _RANGE.fullmatch(value)
    # RFC 9110, 14.1.1: one that ends before it begins is not valid.
    return found is not None and (not found[2] or int(found[1]) <= int(found[2]))


def without(headers: RawHeaders, *names: bytes) -> RawHeaders:
    return [(name, value) for name, value in headers if name not in names]
