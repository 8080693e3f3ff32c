"""The check of Host, the rule against cross-site requests, and the security headers of every response."""

from quart import Quart, Response, current_app, has_websocket_context

from app.errors import BadRequest, Forbidden
from app.web.context import connection
from app.web.handshake import after_answer, before_view
from app.web.host import host_name, is_own_machine
from app.web.identity.browser_session import has_header_credential

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def register(app: Quart, *, allowed_hosts: tuple[str, ...], is_production: bool) -> None:
    """Refuse other values of Host with 400 and cross-site requests with 403; add the headers to every response."""

    async def check_host() -> None:
        name = host_name(connection().headers.get("Host", ""))
        # A loopback name is always allowed: health checks use it, and no link is made from Host.
        if not is_own_machine(name) and name not in allowed_hosts:
            raise BadRequest("This server does not answer for that Host.")

    async def add_headers(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        if is_production:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        return response

    before_view(app, check_host)
    before_view(app, check_same_origin)
    after_answer(app, add_headers)


async def check_same_origin() -> None:
    """Forbidden for an unsafe request from another origin (cross-site request forgery), login forms included.

    So is a WebSocket, whatever its method: its messages are not bound to any page (RFC 6455, 10.2). A credential in a
    header exempts: no browser adds one to another site's request.
    """
    asked, is_websocket = connection(), has_websocket_context()
    if (asked.method in SAFE_METHODS and not is_websocket) or has_header_credential(asked.headers):
        return
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None:
        # Fetch Metadata: browsers set it, pages cannot. "none" is an action of the user, such as a bookmark.
        allowed = site in ("same-origin", "none")
        if is_websocket and origin is not None:
            allowed = allowed and _is_own(origin)
    elif origin is not None:
        allowed = _is_own(origin)
    else:
        # No current browser; but an old one, which sends neither header, may have sent the cookie.
        allowed = current_app.config["SESSION_COOKIE_NAME"] not in asked.cookies
    if not allowed:
        raise Forbidden("The request does not come from this site's own pages.")


def _is_own(origin: str) -> bool:
    # By host and port only: behind a proxy that ends TLS the scheme is not known here.
    own = connection().host.lower()
    return bool(own) and origin.partition("://")[2].lower() == own
