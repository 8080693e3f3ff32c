"""A view's response as the cache stores it (RFC 9111), its key, and the conditional requests that it answers.

Conditional requests: RFC 9110, 13. A key is made of parsed values and stated hosts: clients cannot multiply keys.
"""

import hashlib
import re
import time
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec
from pydantic import TypeAdapter, ValidationError
from quart import Request, Response, current_app, request
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, parse_dict_header, parse_list_header, unquote_etag

from app.errors import PreconditionFailed
from app.kit.cache.arguments import encode_arguments
from app.kit.cache.entry import Codec
from app.kit.keys import digest
from app.web import problems
from app.web.conditions import sent_etags
from app.web.host import LOOPBACK_HOSTS

# In app.config: the values of Host under which responses are cached; see app.web.host.stated_hosts().
CACHED_HOSTS = "CACHED_HOSTS"

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
    if response.content_type != problems.MEDIA_TYPE:
        # A problem's body is each request's own.
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


def conditional(request: Request, response: Response) -> Response:
    """The response, or the 304 in its place where the client has it already (RFC 9110, 13.2.2).

    PreconditionFailed where If-Match or If-Unmodified-Since names another state than that of the response.
    """
    headers = response.headers
    if response.status_code != 200 or not ("ETag" in headers or "Last-Modified" in headers):
        return response
    if _is_other(request, headers):
        raise PreconditionFailed("The condition of the request does not hold.")
    return _not_modified(headers) if _is_unchanged(request, headers) else response


def _is_other(request: Request, headers: Headers) -> bool:
    """If-Match compares strongly (13.1.1); If-Unmodified-Since counts without it (13.1.4)."""
    if "If-Match" in request.headers:
        sent = sent_etags(request.headers, "If-Match")
        etag, is_weak = unquote_etag(headers.get("ETag"))
        return not (sent.star_tag or (etag is not None and not is_weak and sent.is_strong(etag)))
    since, modified = request.if_unmodified_since, parse_date(headers.get("Last-Modified"))
    return since is not None and modified is not None and modified > since


def _is_unchanged(request: Request, headers: Headers) -> bool:
    if "If-None-Match" in request.headers:
        etag, _ = unquote_etag(headers.get("ETag"))
        return etag is not None and sent_etags(request.headers, "If-None-Match").contains_weak(etag)
    since, modified = request.if_modified_since, parse_date(headers.get("Last-Modified"))
    return since is not None and modified is not None and modified <= since


def _not_modified(headers: Headers) -> Response:
    kept = Headers([(name, value) for name, value in headers if name.lower() in _SENT_WITH_304])
    response = Response(status=304, headers=kept)
    # There is no body that it could be the type of.
    del response.headers["Content-Type"]
    return response


class Parameters(NamedTuple):
    """The query parameters that a response depends on, by name, for its key and for its tags."""

    for_key: Mapping[str, Any]
    for_tags: Mapping[str, Any]


def parameters(model_class: type[Any] | None, names: Collection[str]) -> Parameters | None:
    """Parsed, where the route validates its query by a model: all spellings of a value are one, and a default left out.

    Otherwise as they were sent, in their order. None for a query that is invalid.
    """
    if model_class is None or not names:
        return Parameters(
            {name: request.args.getlist(name) for name in names}, {name: request.args.get(name) for name in names}
        )
    sent = {name: values if len(values) > 1 else values[0] for name, values in request.args.lists()}
    try:
        model = _adapter(cast(Hashable, model_class)).validate_python(sent)
    except ValidationError:
        return None
    parsed = {name: getattr(model, name) for name in names}
    return Parameters(parsed, parsed)


def is_stated_host() -> bool:
    """Whether the request's Host is one of finitely many: others are answered, and not cached."""
    hosts: Collection[str] = current_app.config.get(CACHED_HOSTS, LOOPBACK_HOSTS)
    return request.host.lower() in hosts


def view_key(found: Parameters, *, arguments: Mapping[str, Any], vary: Collection[str]) -> str:
    """`vary` names headers; repeated ones keep their order. HEAD shares the response to GET: the method is left out."""
    rule = request.url_rule
    # Built anew from the view's arguments: a converter may parse several paths to one value.
    built = rule.build(dict(arguments), append_unknown=False) if rule else None
    headers = [(name.lower(), request.headers.getlist(name)) for name in vary]
    path = built[1] if built else request.path
    return digest(encode_arguments(("view", request.host.lower(), path, dict(found.for_key), headers)))


@lru_cache
def _adapter(model_class: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model_class)
