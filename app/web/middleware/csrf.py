"""Cross-site request forgery: an unsafe request of a browser must come from this site's own pages."""

from quart import Quart, current_app, request

from app.errors import Forbidden
from app.web.context import connection
from app.web.identity.browser_session import has_header_credential

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1


def register(app: Quart) -> None:
    app.before_request(check_unsafe_request)
    # The handshake is a GET, but a page of any site may open a WebSocket and read what comes (RFC 6455, 10.2).
    app.before_websocket(check_same_origin)


async def check_unsafe_request() -> None:
    """Forbidden for an unsafe request from another origin, login forms included."""
    if request.method not in SAFE_METHODS:
        await check_same_origin()


async def check_same_origin() -> None:
    """Forbidden for another origin. A credential in a header exempts: no browser adds one to another site's request."""
    asked = connection()
    if has_header_credential(asked.headers):
        return
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None:
        # Fetch Metadata: browsers set it, pages cannot. "none" is an action of the user, such as a bookmark.
        allowed = site in ("same-origin", "none")
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
