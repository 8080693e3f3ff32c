"""A view's response as the cache stores it (RFC 9111)."""

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from quart import Response
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers
from werkzeug.http import parse_dict_header, parse_list_header

from app.kit.cache.entry import Codec
from app.web import problems

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
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
LONGEST_KNOWN_HEAD = 2048
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
    head = _known_head(head_bytes) if len(head_bytes) <= LONGEST_KNOWN_HEAD else _decode_head(head_bytes)
    return StoredResponse(head.status, head.made_at, head.headers, body)


def _decode_head(head_bytes: bytes) -> _Head:
    head = _decoder.decode(head_bytes)
    if not 200 <= head.status <= 599 or not all(_is_sound(name, value) for name, value in head.headers):
        raise ValueError("not a response that this module has encoded")
    return head


# What is read often is checked once.
_known_head = lru_cache(maxsize=512)(_decode_head)


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
    if "Set-Cookie" in headers or cache_directives(headers.getlist("Cache-Control")) & {"private", "no-store"}:
        return None
    if not _lower(parse_list_header(", ".join(headers.getlist("Vary")))) <= _lower(vary):
        return None
    body = await response.get_data(as_text=False)
    stored = Headers([(name, value) for name, value in headers if _is_stored(name)])
    stored.setdefault("Cache-Control", cache_control)
    if response.content_type != problems.MEDIA_TYPE:
        # A problem's body is each request's own.
        stored.setdefault("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
    if vary:
        stored["Vary"] = ", ".join(vary)
    return StoredResponse(response.status_code, time.time(), list(stored), body)


def cache_directives(lines: Sequence[str]) -> frozenset[str]:
    """The names of the directives in the lines of Cache-Control, in lower case, without their arguments."""
    return _lower(parse_dict_header(", ".join(lines))) if lines else frozenset()


def _lower(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


def _is_stored(name: str) -> bool:
    return name.lower() not in _NOT_STORED and not name.lower().startswith(_PREFIXES_NOT_STORED)
