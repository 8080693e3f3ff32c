"""The request or handshake that is being answered, as the outermost layer sees it, and the application's resources."""

import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import current_app, has_request_context, request, websocket
from quart.wrappers.base import BaseRequestWebsocket
from redis.exceptions import RedisError
from werkzeug.datastructures import MultiDict
from werkzeug.routing import Rule
from werkzeug.sansio.http import parse_cookie

from app.errors import AppError
from app.kit.cache.model import EarlyLookup, LoadRequest
from app.kit.limits.decision import Decision
from app.kit.sessions.record import SessionRecord
from app.resources import Resources

EXTENSION = "quartet"
UNMATCHED = "unmatched"
CREDENTIAL_HEADERS = ("X-Session-ID", "Authorization", "API-Key")
_CREDENTIALS = frozenset(name.lower().encode() for name in CREDENTIAL_HEADERS)
_VALID_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")

RawHeaders = list[tuple[bytes, bytes]]


class StreamedBody(Protocol):
    async def send(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Until it ends or the client has gone."""


class EarlySession(NamedTuple):
    """The session that was read; `error`: why it could not be."""

    record: SessionRecord | None
    error: RedisError | None = None


class Exchange:
    """`scope` is the request's, with what is malformed removed; `headers` has the first value of each of its headers.

    refusal     the error that answers it before a view is chosen
    host        the value of Host in lower case, without the port where it is the scheme's own
    has_header_credential   whether a header holds a credential: then it alone counts, and the cookie is not read
    route       the template of its route, such as /users/<int:id>; paths hold ids, and clients make up any number
    principal_id   the user whom a layer inside has identified, for the log
    decisions   those of the limits that were checked for it
    streamed    the body of a stream, which the edge sends when the framework has been left
    found       its rule and the arguments of its view, where the edge has searched for them
    early_...   what the edge has asked Redis ahead: the layer inside that needs it uses it in place of asking
    """

    __slots__ = (
        "answered",
        "began",
        "decisions",
        "early_decision",
        "early_session",
        "early_view",
        "found",
        "has_header_credential",
        "headers",
        "host",
        "id",
        "method",
        "path",
        "principal_id",
        "refusal",
        "route",
        "scope",
        "streamed",
    )

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.began = time.perf_counter()
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name, value)
        self.id = secrets.token_hex(8)
        self.path: str = scope["path"]
        # A handshake is a GET.
        self.method: str = scope.get("method", "GET")
        self.host = _without_own_port(self.headers.get(b"host", b"").decode("latin-1").lower(), scope["scheme"])
        self.has_header_credential = not _CREDENTIALS.isdisjoint(self.headers)
        self.refusal: Exception | type[AppError] | None = None
        self.answered = False
        self.route = UNMATCHED
        self.principal_id: int | None = None
        self.streamed: StreamedBody | None = None
        self.decisions: list[Decision] = []
        self.found: tuple[Rule, Mapping[str, Any]] | None = None
        self.early_decision: Decision | None = None
        self.early_session: EarlySession | None = None
        self.early_view: tuple[LoadRequest, EarlyLookup] | None = None

    def adopt_id(self) -> None:
        """Take the id that the request states, where it is well-formed: only for one that a trusted proxy sends."""
        given = self.headers.get(b"x-request-id", b"")
        if _VALID_ID.fullmatch(given):
            self.id = given.decode()

    @property
    def args(self) -> MultiDict[str, str]:
        """The parameters of the query, as Werkzeug's request has them."""
        query = self.scope["query_string"].decode()
        return MultiDict(parse_qsl(query, keep_blank_values=True, errors="werkzeug.url_quote"))

    def cookies(self, name: str) -> list[str]:
        """The values of the cookies of this name, in their order."""
        return parse_cookie(";".join(self.lines(b"cookie"))).getlist(name) if b"cookie" in self.headers else []

    def credentials(self) -> list[tuple[str, str]]:
        """The headers that hold credentials, as pairs of name and value."""
        if not self.has_header_credential:
            return []
        return [(name, value) for name in CREDENTIAL_HEADERS for value in self.lines(name.lower().encode())]

    def text(self, name: bytes) -> str | None:
        """The first value of a header."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def lines(self, name: bytes) -> list[str]:
        """All values of a header, in their order."""
        if name not in self.headers:
            return []
        return [value.decode("latin-1") for each, value in self.scope["headers"] if each == name]


def _without_own_port(host: str, scheme: str) -> str:
    return host.removesuffix(":443" if scheme in ("https", "wss") else ":80")


current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current_request_id() -> str | None:
    """None outside a request."""
    exchange = current.get()
    return exchange.id if exchange else None


def resources() -> Resources:
    """What the lifespan of the current application opened."""
    found: Resources = current_app.extensions[EXTENSION]
    return found


def connection() -> BaseRequestWebsocket:
    """The current request or WebSocket: what both have, such as headers, host and path."""
    return request if has_request_context() else websocket


def exchange() -> Exchange:
    """That of the current request or WebSocket."""
    return current.get() or exchange_of(connection())


def exchange_of(asked: BaseRequestWebsocket) -> Exchange:
    """That of the running request; a new one where no server has begun it, as in test_request_context()."""
    return current.get() or Exchange(asked.scope)
