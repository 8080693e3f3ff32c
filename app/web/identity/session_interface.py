"""quart-session's interface over our SessionStore: reads the cookie, saves the session, sends the cookie."""

from collections.abc import Callable

from quart import Quart, Response
from quart.wrappers.base import BaseRequestWebsocket
from quart_session import Session
from quart_session.sessions import RedisSessionInterface
from redis.exceptions import RedisError
from werkzeug.wrappers import Response as WerkzeugResponse

from app.errors import Unavailable
from app.kit.client.errors import record_failure
from app.web.context import resources
from app.web.identity.browser_session import BrowserSession, has_header_credential
from app.web.problems import answer_error

# No cookie is read at or below these paths.
WITHOUT_SESSION = ("/health", "/metrics")
ReadsSession = Callable[[BaseRequestWebsocket], bool]
# Headers that describe a body which is replaced, or that must not follow a failure.
BODY_HEADERS = ("Content-Encoding", "Content-Range", "ETag", "Last-Modified", "Location", "Set-Cookie")


def register(app: Quart, *, is_production: bool, reads_session: ReadsSession = lambda _asked: True) -> None:
    """Keep `quart.session` in Redis, and read it where `reads_session` says so.

    `__Host-` binds the cookie to this host, over TLS (RFC 6265bis, 4.1.3.2).
    """
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
    app.session_interface = QuartetSessionInterface(reads_session)


class QuartetSessionInterface(RedisSessionInterface):  # type: ignore[misc]
    """quart-session's interface, with its reading and writing replaced (docs/decisions/0001)."""

    def __init__(self, reads_session: ReadsSession) -> None:
        super().__init__(redis=None, key_prefix="")
        self._reads_session = reads_session

    async def create(self, app: Quart) -> None:
        """Does nothing: it runs before the lifespan, which opens the store."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> BrowserSession:
        if has_header_credential(request.headers) or _is_without(request.path) or not self._reads_session(request):
            return BrowserSession(state="detached")
        session_id = request.cookies.get(app.config["SESSION_COOKIE_NAME"])
        if session_id is None:
            return BrowserSession()
        try:
            return BrowserSession(await resources().sessions.get(session_id, channel="cookie"))
        except RedisError as error:
            # Fails closed where the session is used. An error raised here would not reach the error handlers.
            record_failure(error, block="sessions", telemetry=resources().telemetry)
            return BrowserSession(state="down")

    async def save_session(
        self, app: Quart, session: BrowserSession, response: Response | WerkzeugResponse | None
    ) -> None:
        """`response` is None after a WebSocket: its changes are saved, but it cannot start a session."""
        if response is not None and session.used and session.state != "detached":
            response.vary.add("Cookie")
        if session.state != "open":
            return
        store = resources().sessions
        try:
            if session.used:
                await session.save(store, can_send_cookie=response is not None)
        except RedisError as error:
            # Fails closed: an answer that says "saved" or "logged out" must be true.
            record_failure(error, block="sessions", telemetry=resources().telemetry)
            if response is not None:
                await _refuse(response)
            return
        if session.record is not None and store.needs_touch(session.record):
            app.add_background_task(store.touch, session.record)
        if response is not None:
            _send_cookie(app, response, session.cookie())


def _is_without(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in WITHOUT_SESSION)


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
        # The server ends the session; the cookie only has to live as long as the longest.
        response.set_cookie(name, value, max_age=round(resources().sessions.absolute_seconds), **attributes)
    else:
        response.delete_cookie(name, **attributes)
    response.headers["Cache-Control"] = "no-store"


async def _refuse(response: Response | WerkzeugResponse) -> None:
    # Changes the response in place: an error raised in save_session would be a 500.
    answer = await answer_error(Unavailable("The session could not be saved."))
    response.status_code = answer.status_code
    response.set_data(await answer.get_data(as_text=False))
    for name in BODY_HEADERS:
        response.headers.pop(name, None)
    response.headers.update({**answer.headers, "Cache-Control": "no-store"})
