"""Conditional requests for what a client has already (RFC 9110, section 13), and the validators they need."""

import hashlib
from datetime import datetime

from quart import Request, Response
from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, unquote_etag

# What a 304 repeats of the answer that it stands for (RFC 9110, 15.4.5), and how old that is.
_KEPT_IN_304 = frozenset({"age", "cache-control", "content-location", "etag", "expires", "vary"})


def body_etag(body: bytes) -> str:
    """A strong validator: other bytes, other tag."""
    return f'"{hashlib.sha256(body).hexdigest()}"'


def is_unchanged(request: Request, headers: Headers) -> bool:
    """Whether the client has what an answer with these headers says. If-None-Match comes first (13.2.2)."""
    if "If-None-Match" in request.headers:
        etag, _ = unquote_etag(headers.get("ETag"))
        return etag is not None and request.if_none_match.contains_weak(etag)
    since, modified = request.if_modified_since, _last_modified(headers)
    return since is not None and modified is not None and modified <= since


def headers_of_304(headers: Headers) -> Headers:
    return Headers([(name, value) for name, value in headers if name.lower() in _KEPT_IN_304])


def not_modified(headers: Headers) -> Response:
    """The 304 that stands for an answer with these headers."""
    response = Response(status=304, headers=headers_of_304(headers))
    # There is no body that it could be the type of.
    del response.headers["Content-Type"]
    return response


def _last_modified(headers: Headers) -> datetime | None:
    return parse_date(headers.get("Last-Modified"))
