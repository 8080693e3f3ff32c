"""A view's response as the cache stores it (RFC 9111), and the conditional requests that it answers (RFC 9110, 13)."""

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from quart import Request, Response
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, parse_dict_header, parse_list_header, unquote_etag

from app.kit.cache.entry import Codec

# Headers that belong to one request or one connection (RFC 9110, 7.6.1), or are computed for each response.
_NOT_STORED = frozenset(
    {
        "age",
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "retry-after",
        "server-timing",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-cache",
        "x-request-id",
    }
)
_PREFIXES_NOT_STORED = ("ratelimit", "x-ratelimit-")
# The headers of a 304 (RFC 9110, 15.4.5), and the age of the response that it confirms.
_SENT_WITH_304 = frozenset({"age", "cache-control", "content-location", "etag", "expires", "vary"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What the cache stores. `made_at` is in epoch seconds, for Age."""

    status: int
    made_at: float
    headers: list[tuple[str, str]]
    body: bytes


class _Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The first line of the encoded response; the body follows."""

    status: int
    made_at: float
    headers: list[tuple[str, str]]


_decoder = msgspec.json.Decoder(_Head)


def _encode(response: StoredResponse) -> bytes:
    return b"%b\n%b" % (msgspec.json.encode(_Head(response.status, response.made_at, response.headers)), response.body)


def _decode(data: bytes) -> StoredResponse:
    head_bytes, _, body = data.partition(b"\n")
    head = _decoder.decode(head_bytes)
    if not 200 <= head.status <= 599 or not all(_is_sound(name, value) for name, value in head.headers):
        raise ValueError("not a response that this module has encoded")
    return StoredResponse(head.status, head.made_at, head.headers, body)


def _is_sound(name: str, value: str) -> bool:
    return bool(_TOKEN.fullmatch(name)) and _is_stored(name) and not _CONTROLS.search(value)


RESPONSE_CODEC = Codec(_encode, _decode, is_exact=True)


async def to_stored_response(response: Response, *, cache_control: str, vary: tuple[str, ...]) -> StoredResponse | None:
    """The response with its validators; None if it must not be stored (RFC 9111, 3).

    Not stored are streams, responses that set a cookie, that are private or no-store, or that vary with other headers
    than `vary`. `cache_control` is added unless the response has one.
    """
    if not isinstance(response, Response) or not isinstance(response.response, DataBody):
        return None
    headers = response.headers
    if "Set-Cookie" in headers or cache_directives(headers) & {"private", "no-store"}:
        return None
    if not _lower(parse_list_header(", ".join(headers.getlist("Vary")))) <= _lower(vary):
        return None
    body = await response.get_data(as_text=False)
    stored = Headers([(name, value) for name, value in headers if _is_stored(name)])
    stored.setdefault("Cache-Control", cache_control)
    stored.setdefault("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
    if vary:
        stored["Vary"] = ", ".join(vary)
    return StoredResponse(response.status_code, time.time(), list(stored), body)


def cache_directives(headers: Headers) -> frozenset[str]:
    """The names of the directives in Cache-Control, in lower case, without their arguments."""
    return _lower(parse_dict_header(", ".join(headers.getlist("Cache-Control"))))


def _lower(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


def _is_stored(name: str) -> bool:
    return name.lower() not in _NOT_STORED and not name.lower().startswith(_PREFIXES_NOT_STORED)


def is_unchanged(request: Request, headers: Headers) -> bool:
    """Whether the client already has the response with these headers. If-None-Match comes first (13.2.2)."""
    if "If-None-Match" in request.headers:
        etag, _ = unquote_etag(headers.get("ETag"))
        return etag is not None and request.if_none_match.contains_weak(etag)
    since, modified = request.if_modified_since, parse_date(headers.get("Last-Modified"))
    return since is not None and modified is not None and modified <= since


def not_modified(headers: Headers) -> Response:
    """The 304 in place of a response with these headers."""
    kept = Headers([(name, value) for name, value in headers if name.lower() in _SENT_WITH_304])
    response = Response(status=304, headers=kept)
    # There is no body that it could be the type of.
    del response.headers["Content-Type"]
    return response
