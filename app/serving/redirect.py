"""From HTTP to HTTPS: every request of a plain port is sent to the public address."""

from typing import Any
from urllib.parse import urlsplit


class Redirect:
    """An ASGI application. 308 keeps the method (RFC 9110, 15.4.9). The target is PUBLIC_URL's, never the Host's."""

    def __init__(self, public_url: str) -> None:
        self._origin = f"https://{urlsplit(public_url).netloc}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        path = scope["raw_path"] if scope["raw_path"].startswith(b"/") else b"/"
        headers = [(b"location", self._origin.encode() + path + query), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 308, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
