"""The check of Host, and the security headers of every response."""

import re

from quart import Quart, Response

from app.errors import BadRequest
from app.web.client_address import is_loopback
from app.web.context import connection

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?")
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def register(app: Quart, *, allowed_hosts: tuple[str, ...], is_production: bool) -> None:
    """Refuse other values of Host with 400, and add the security headers to every response."""

    async def check_host() -> None:
        name = _host_name(connection().headers.get("Host", ""))
        # A loopback name is always allowed: health checks use it, and no link is made from Host.
        if not _is_own_machine(name) and name not in allowed_hosts:
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


def _host_name(host: str) -> str:
    """The name in a Host header, in lower case, without its port (RFC 9110, 7.2); "" where it is malformed."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else ""


def _is_own_machine(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)
