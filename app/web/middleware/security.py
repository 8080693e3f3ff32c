"""The check of Host, and the security headers of every response."""

from quart import Quart, Response

from app.errors import BadRequest
from app.web.context import connection
from app.web.host import host_name, is_own_machine

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def register(app: Quart, *, allowed_hosts: tuple[str, ...], is_production: bool) -> None:
    """Refuse other values of Host with 400, and add the security headers to every response."""

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

    app.before_request(check_host)
    app.before_websocket(check_host)
    app.after_request(add_headers)
