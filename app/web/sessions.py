"""The browser's session: quart.session over our SessionStore, behind quart-session's interface."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from quart import Quart, Response
from quart.sessions import SessionMixin
from quart.wrappers.base import BaseRequestWebsocket
from quart_session import Session
from quart_session.sessions import RedisSessionInterface
from redis.exceptions import RedisError
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response as WerkzeugResponse

from app.errors import BadRequest, Unavailable
from app.kit.sessions import SessionRecord, SessionStore, Unstorable
from app.web import resources
from app.web.problems import problem

logger = logging.getLogger(__name__)

CREDENTIAL_HEADERS = ("X-Session-ID", "Authorization", "API-Key")
# Paths below which no cookie is read, with the static files'.
WITHOUT_SESSION = ("/health", "/metrics")
# What describes a body that is replaced, or leads on from it.
BODY_HEADERS = ("Content-Encoding", "Content-Range", "ETag", "Last-Modified", "Location", "Set-Cookie")

State = Literal["open", "detached", "down"]


def has_header_credential(headers: Headers) -> bool:
    """A request with one is judged by it alone: its cookie is not read."""
    return any(name in headers for name in CREDENTIAL_HEADERS)


def register(app: Quart, *, is_production: bool) -> None:
    """Keep `quart.session` in Redis. `__Host-` holds the cookie to this very host, over TLS (RFC 6265bis)."""
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_COOKIE_NAME="__Host-quartet" if is_production else "quartet",
        SESSION_COOKIE_SECURE=is_production,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_DOMAIN=None,
        SESSION_COOKIE_PATH="/",
    )
    Session(app)
    app.session_interface = QuartetSessionInterface(without_session=(app.static_url_path or "", *WITHOUT_SESSION))


class BrowserSession(SessionMixin):
    """What a handler has as `quart.session`. `used`: the answer depends on it.

    While Redis is down every access raises Unavailable: an answer that needs the session cannot be given, and nobody
    is taken for a visitor. Detached, on a request that is judged without its cookie, it is empty and refuses writes.
    """

    def __init__(self, record: SessionRecord | None = None, *, state: State = "open") -> None:
        self.record = record
        self.state = state
        self.used = False
        self._data: dict[str, Any] = record.data if record else {}
        self._cookie_id = record.id if record else None
        self._ended_id: str | None = None

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._write()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def clear(self) -> None:
        """End the session, as a logout does. What is set afterwards goes into a new one, under a new id."""
        self._write()
        self._end()

    @property
    def modified(self) -> bool:
        """Whether there is anything to save. Nested changes count."""
        if self.record is None:
            return bool(self._data) or self._ended_id is not None
        return any(self.record.changes())

    @modified.setter
    def modified(self, value: bool) -> None:
        """Flask's way of announcing a nested change. It is found without."""

    async def sign_in(
        self, store: SessionStore, user_id: int, *, metadata: Mapping[str, str], epoch: str | None
    ) -> SessionRecord:
        """Move the data into a new session of the user's, under a new id. SessionsEnded: see SessionStore.create."""
        data, old = self._write(), self.record.id if self.record else self._ended_id
        record = await store.create(
            data, channel="cookie", user_id=user_id, metadata=metadata, replaces=old, epoch=epoch
        )
        self.record, self._data, self._ended_id = record, record.data, None
        return record

    async def save(self, store: SessionStore, *, can_send_cookie: bool) -> None:
        """Write what has changed, in one round trip; nothing when nothing has."""
        if self.record is not None and self.record.user_id is None and self.record.stored and not self._data:
            # As in Flask: a visitor's session that was emptied is none.
            self._end()
        try:
            if self.record is not None:
                changed, removed = self.record.changes()
                if changed or removed:
                    # False where another request has ended the session, or given it a new id: this one then leaves
                    # the cookie alone, too, for it may be the other's by now.
                    await store.save(self.record, changed=changed, removed=removed)
            elif self._data and can_send_cookie:
                self.record = await store.create(self._data, channel="cookie", replaces=self._ended_id)
            elif self._ended_id is not None:
                await store.delete(self._ended_id)
        except Unstorable as error:
            # Fails open, as far as it goes: the answer stands, the session stays as it was, or ends as was asked.
            logger.error("a session was not saved: %s", error)
            resources().telemetry.count("session_unstorable")
            if self._ended_id is not None:
                await store.delete(self._ended_id)

    def cookie(self) -> str | None:
        """The value to send after save(): an id, "" to delete the cookie, None to leave it alone."""
        if self.record is None:
            return None if self._ended_id is None else ""
        return None if self.record.id == self._cookie_id else self.record.id

    def _read(self) -> dict[str, Any]:
        self.used = True
        if self.state == "down":
            raise Unavailable("The session cannot be read now.")
        return self._data

    def _write(self) -> dict[str, Any]:
        data = self._read()
        if self.state == "detached":
            raise BadRequest("This request has no browser session.")
        return data

    def _end(self) -> None:
        if self.record is not None:
            self._ended_id = self.record.id
        self.record, self._data = None, {}


class QuartetSessionInterface(RedisSessionInterface):  # type: ignore[misc]
    """quart-session's interface, with its reading and writing replaced (docs/decisions/0001)."""

    def __init__(self, *, without_session: tuple[str, ...]) -> None:
        super().__init__(redis=None, key_prefix="")
        self._without_session = without_session

    async def create(self, app: Quart) -> None:
        """Connects nothing: it runs before the lifespan, which opens the store."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> BrowserSession:
        if self._is_without_session(request.path) or has_header_credential(request.headers):
            return BrowserSession(state="detached")
        session_id = request.cookies.get(app.config["SESSION_COOKIE_NAME"])
        if session_id is None:
            return BrowserSession()
        try:
            return BrowserSession(await resources().sessions.get(session_id, channel="cookie"))
        except RedisError:
            # Fails closed, but only for who needs it. An error raised here would go past the error handlers.
            return BrowserSession(state="down")

    async def save_session(
        self, app: Quart, session: BrowserSession, response: Response | WerkzeugResponse | None
    ) -> None:
        """`response` is None after a WebSocket, whose changes are saved, but which can start no session."""
        if response is not None and session.used and session.state != "detached":
            response.vary.add("Cookie")
        if session.state != "open":
            return
        store = resources().sessions
        try:
            if session.used:
                await session.save(store, can_send_cookie=response is not None)
        except RedisError:
            # Fails closed: an answer that says "saved" or "logged out" must be true.
            if response is not None:
                await _refuse(response)
            return
        if session.record is not None and store.needs_touch(session.record):
            app.add_background_task(store.touch, session.record)
        if response is not None:
            _send_cookie(app, response, session.cookie())

    def _is_without_session(self, path: str) -> bool:
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._without_session if prefix)


def _send_cookie(app: Quart, response: Response | WerkzeugResponse, value: str | None) -> None:
    if value is None:
        return
    name = app.config["SESSION_COOKIE_NAME"]
    attributes = {
        "path": app.config["SESSION_COOKIE_PATH"],
        "secure": app.config["SESSION_COOKIE_SECURE"],
        "httponly": app.config["SESSION_COOKIE_HTTPONLY"],
        "samesite": app.config["SESSION_COOKIE_SAMESITE"],
    }
    if value:
        # The server decides how long a session lives; the cookie only has to live as long.
        response.set_cookie(name, value, max_age=round(resources().sessions.absolute_seconds), **attributes)
    else:
        response.delete_cookie(name, **attributes)
    response.headers["Cache-Control"] = "no-store"


async def _refuse(response: Response | WerkzeugResponse) -> None:
    """Turn an answer into a 503. An error raised in save_session would end as a 500."""
    error = Unavailable("The session could not be saved.")
    answer = problem(error.status, error.title, error.detail)
    response.status_code = error.status
    response.set_data(await answer.get_data(as_text=False))
    for name in BODY_HEADERS:
        response.headers.pop(name, None)
    response.headers.update(
        {**error.headers, "Content-Type": answer.headers["Content-Type"], "Cache-Control": "no-store"}
    )
