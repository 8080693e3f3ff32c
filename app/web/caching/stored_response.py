"""A view's answer as the cache keeps it: status, headers and body."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from quart import Response
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers

from app.kit.cache.model import Codec
from app.web.caching.conditional import body_etag

# What belongs to one request or one connection (RFC 9110, 7.6.1), and what is computed anew for each answer.
_NOT_KEPT = frozenset(
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
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token (RFC 9110, 5.6.2)
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PREFIXES_NOT_KEPT = ("ratelimit", "x-ratelimit-")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What the cache keeps. `made_at` is in epoch seconds, for Age."""

    status: int
    made_at: float
    headers: list[tuple[str, str]]
    body: bytes


class _Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The first line of the bytes that are stored; the body follows."""

    status: int
    made_at: float
    headers: list[tuple[str, str]]


_decoder = msgspec.json.Decoder(_Head)


def _encode(answer: StoredResponse) -> bytes:
    return b"%b\n%b" % (msgspec.json.encode(_Head(answer.status, answer.made_at, answer.headers)), answer.body)


def _decode(stored: bytes) -> StoredResponse:
    head_bytes, _, body = stored.partition(b"\n")
    head = _decoder.decode(head_bytes)
    if not 200 <= head.status <= 599 or not all(_may_stand(name, value) for name, value in head.headers):
        raise ValueError("no answer of ours")
    return StoredResponse(head.status, head.made_at, head.headers, body)


def _may_stand(name: str, value: str) -> bool:
    """False for what keep() would not have kept, and what is no header at all."""
    return bool(_NAME.fullmatch(name)) and _is_kept(name) and not _CONTROLS.search(value)


RESPONSE_CODEC = Codec(_encode, _decode)


async def to_stored_response(response: Response, *, cache_control: str, vary: tuple[str, ...]) -> StoredResponse | None:
    """The answer with its validators; None where it must not be kept (RFC 9111, 3).

    That is a stream, an answer that sets a cookie, one that says private or no-store, and one that varies with
    headers other than `vary`. `cache_control` is sent with it unless it has one.
    """
    if not isinstance(response, Response) or not isinstance(response.response, DataBody):
        return None
    headers = response.headers
    if "Set-Cookie" in headers or cache_directives(headers) & {"private", "no-store"}:
        return None
    if not _words(headers.getlist("Vary")) <= _words(vary):
        return None
    body = await response.get_data(as_text=False)
    kept = Headers([(name, value) for name, value in headers if _is_kept(name)])
    kept.setdefault("Cache-Control", cache_control)
    kept.setdefault("ETag", body_etag(body))
    if vary:
        kept["Vary"] = ", ".join(vary)
    return StoredResponse(response.status_code, time.time(), list(kept), body)


def cache_directives(headers: Headers) -> frozenset[str]:
    """The names of the directives in Cache-Control, in lower case, without their arguments."""
    return frozenset(word.partition("=")[0].strip() for word in _words(headers.getlist("Cache-Control")))


def _words(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(word.strip().lower() for line in lines for word in line.split(","))


def _is_kept(name: str) -> bool:
    return name.lower() not in _NOT_KEPT and not name.lower().startswith(_PREFIXES_NOT_KEPT)
