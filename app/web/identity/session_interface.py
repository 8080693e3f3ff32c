"""quart-session's interface over our SessionStore: reads the cookie, saves the session, sends the cookie."""

import logging
from collections.abc import Callable

from quart import Quart, Request, Response
from quart.wrappers.base import BaseRequestWebsocket
from quart_session import Session
from quart_session.sessions import RedisSessionInterface
from redis.exceptions import RedisError
from werkzeug.wrappers import Response as WerkzeugResponse

from app.errors import AppError, Conflict, Invalid, TooLarge, TooManyRequests, Unavailable
from app.kit.client.errors import record_failure
from app.kit.limits.limit import Limit
from app.kit.sessions.record import SessionRecord, bucket_of
from app.kit.sessions.values import SessionTooLarge, Unstorable
from app.web.client_address import client_network
from app.web.context import exchange_of, resources
from app.web.identity.browser_session import BrowserSession
from app.web.problems import answer_error, rate_limited

logger = logging.getLogger(__name__)

# No cookie is read at or below these paths.
WITHOUT_SESSION = ("/health", "/metrics")
ReadsSession = Callable[[BaseRequestWebsocket], bool]
# Headers that describe a body which is replaced, or that must not follow a failure.
BODY_HEADERS = ("Content-Encoding", "Content-Range", "ETag", "Last-Modified", "Location", "Set-Cookie")
# Cookies of our name that are tried: a sibling host, or a longer path, may have set others beside ours.
MOST_COOKIES = 4


def register(
    app: Quart,
    *,
    is_production: bool,
    name: str = "quartet",
    reads_session: ReadsSession = lambda _asked: True,
    visitors: Limit | None = None,
) -> None:
    """Keep `quart.session` in Redis, under a cookie of this name, and read it where `reads_session` says so.

    `visitors` limits the new sessions of visitors from one network: each is a key that stays, on a Redis that evicts
    none.

    The other SESSION_COOKIE_* are Quart's own settings. In production the name gets a prefix: `__Host-` binds the
    cookie to this host, over TLS (RFC 6265bis, 4.1.3.2), and `__Secure-` to TLS alone, where SESSION_COOKIE_DOMAIN
    gives it to other hosts too.
    """
    prefix = "__Secure-" if app.config["SESSION_COOKIE_DOMAIN"] else "__Host-"
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_COOKIE_NAME=prefix + name if is_production else name,
        SESSION_COOKIE_SECURE=is_production,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
    )
    Session(app)
    app.session_interface = QuartetSessionInterface(reads_session, visitors)
    app.register_error_handler(Unstorable, _answer_unstorable)


class QuartetSessionInterface(RedisSessionInterface):  # type: ignore[misc]
    """quart-session's interface, with its reading and writing replaced (docs/decisions/0001)."""

    def __init__(self, reads_session: ReadsSession, visitors: Limit | None) -> None:
        super().__init__(redis=None, key_prefix="")
        self._reads_session = reads_session
        self._visitors = visitors

    async def create(self, app: Quart) -> None:
        """Does nothing: it runs before the lifespan, which opens the store."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> BrowserSession:
        exchanged = exchange_of(request)
        if exchanged.has_header_credential or _is_without(request.path) or not self._reads_session(request):
            return BrowserSession(state="detached")
        can_send_cookie = isinstance(request, Request)
        sent = exchanged.cookies(app.config["SESSION_COOKIE_NAME"])
        if not sent:
            return BrowserSession(can_send_cookie=can_send_cookie)
        candidates = [session_id for session_id in sent if bucket_of(session_id)][:MOST_COOKIES]
        try:
            early = exchanged.early_session
            if early is not None and early.error is not None:
                raise early.error
            record = early.record if early is not None else await _find(candidates or sent[:1])
            return BrowserSession(record, can_send_cookie=can_send_cookie, ended_ids=() if record else candidates)
        except RedisError as error:
            # Fails closed where the session is used. An error raised here would not reach the error handlers.
            record_failure(error, block="sessions", telemetry=resources().telemetry)
            return BrowserSession(state="down")

    async def save_session(
        self, app: Quart, session: BrowserSession, response: Response | WerkzeugResponse | None
    ) -> None:
        """`response` is None after a WebSocket."""
        if response is not None and session.used and session.state != "detached":
            response.vary.add("Cookie")
        if session.state != "open":
            return
        store = resources().sessions
        try:
            if session.is_new:
                await self._admit_visitor()
            if session.used:
                await session.save(store)
        except RedisError as error:
            # Fails closed: an answer that says "saved" or "logged out" must be true.
            record_failure(error, block="sessions", telemetry=resources().telemetry)
            await _refuse(response, Unavailable("The session could not be saved."))
            return
        except (Conflict, TooManyRequests) as error:
            await _refuse(response, error)
            return
        except Unstorable as error:
            await _refuse(response, _refusal(error))
        if session.record is not None and store.needs_touch(session.record):
            app.add_background_task(store.touch, session.record)
        if response is not None:
            self._send_cookie(app, response, session.cookie())

    async def _admit_visitor(self) -> None:
        """TooManyRequests: the client's network has begun too many sessions."""
        if self._visitors is None:
            return
        # Fails open: without Redis the session cannot be made either.
        decision = await resources().limiter.check([(self._visitors, f"address:{client_network()}")])
        if not decision.allowed:
            raise rate_limited(decision)

    def _send_cookie(self, app: Quart, response: Response | WerkzeugResponse, cookie: tuple[str, bool] | None) -> None:
        if cookie is None:
            return
        session_id, permanent = cookie
        name = self.get_cookie_name(app)
        attributes = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        if session_id:
            # The server ends the session; a cookie that outlives the browser has to live as long as the longest.
            life = round(resources().sessions.absolute_seconds) if permanent else None
            response.set_cookie(name, session_id, max_age=life, **attributes)
        else:
            response.delete_cookie(name, **attributes)
        response.headers["Cache-Control"] = "no-store"


def _is_without(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in WITHOUT_SESSION)


def only_candidate(sent: list[str]) -> str | None:
    """The id of the one cookie that could be ours; None where there is none, or several are to be tried."""
    candidates = [session_id for session_id in sent if bucket_of(session_id)]
    return candidates[0] if len(candidates) == 1 else None


async def _find(candidates: list[str]) -> SessionRecord | None:
    """The session of the first valid cookie. One round trip, where that is the first that is well formed."""
    store = resources().sessions
    for session_id in candidates:
        if record := await store.get(session_id, channel="cookie"):
            return record
    return None


def _refusal(error: Unstorable) -> AppError:
    """The answer to a request that would store what a session cannot hold."""
    logger.error("a session was not saved: %s", error, exc_info=error)
    resources().telemetry.count("session_unstorable")
    if isinstance(error, SessionTooLarge):
        return TooLarge("The session cannot hold this much.")
    return Invalid([{"loc": ["session"], "msg": "cannot hold what this request puts into it"}])


async def _answer_unstorable(error: Unstorable) -> Response:
    return await answer_error(_refusal(error))


async def _refuse(response: Response | WerkzeugResponse | None, error: AppError) -> None:
    # Changes the response in place: an error raised in save_session would be a 500.
    if response is None:
        return
    answer = await answer_error(error)
    response.status_code = answer.status_code
    response.set_data(await answer.get_data(as_text=False))
    for name in BODY_HEADERS:
        response.headers.pop(name, None)
    response.headers.update({**answer.headers, "Cache-Control": "no-store"})
