"""Removes what is malformed in a request's target and headers, before Quart reads them.

Quart and Werkzeug raise for some values where no error handler is called yet; such a request would have no problem
details, no id and no line in the log.
"""

import re
from typing import Any, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart import Quart

from app.web.host import host_name

Headers = list[tuple[bytes, bytes]]

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
_RANGE = re.compile(rb"bytes=[0-9]{1,18}-[0-9]{0,18}")
_DATED = (b"if-modified-since", b"if-unmodified-since")


def register(app: Quart) -> None:
    """Wrap the whole application, WebSockets included."""
    inner = app.asgi_app

    async def well_formed(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await inner(scope if scope["type"] == "lifespan" else _clean(cast(HTTPScope, scope)), receive, send)

    app.asgi_app = well_formed  # type: ignore[method-assign]


def _clean(scope: HTTPScope) -> HTTPScope:
    path, headers = scope["path"], list(scope["headers"])
    if not path.startswith("/"):
        absolute = _ABSOLUTE.fullmatch(path)
        if absolute:
            # RFC 9112, 3.2.2: the target's host replaces the one in Host.
            headers = [*_without(headers, b"host"), (b"host", absolute[1].encode("latin-1", "replace"))]
        path = (absolute[2] or "/") if absolute else f"/{path}"
    cleaned: Any = {**scope, "path": path, "headers": _clean_headers(headers)}
    return cast(HTTPScope, cleaned)


def _clean_headers(headers: Headers) -> Headers:
    hosts = [value for name, value in headers if name == b"host"]
    if hosts and (len(hosts) > 1 or not host_name(hosts[0].decode("latin-1"))):
        # RFC 9112, 3.2: 400, which the check of Host answers for an empty one.
        headers = [*_without(headers, b"host"), (b"host", b"")]
    conditions = [value for name, value in headers if name == b"if-range"]
    if any(not (_ETAG.fullmatch(value) or _DATE.fullmatch(value)) for value in conditions):
        # RFC 9110, 13.1.5: a condition that cannot be true, so that the range does not count.
        headers = _without(headers, b"if-range", b"range")
    return [(name, value) for name, value in headers if not _is_ignored(name, value)]


def _is_ignored(name: bytes, value: bytes) -> bool:
    """RFC 9110, 13.1.3 and 13.1.4: a date that is none is ignored; and 14.2: any Range may be."""
    if name in _DATED:
        return not _DATE.fullmatch(value)
    # Ranges of one part from the front. Quart answers those from the end, and those of several parts, wrongly.
    return name == b"range" and not _RANGE.fullmatch(value)


def _without(headers: Headers, *names: bytes) -> Headers:
    return [(name, value) for name, value in headers if name not in names]
