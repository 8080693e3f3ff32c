"""WebSocket handshakes: how a view has answered, and what ends when it accepts."""

from typing import Any

from quart import Websocket
from werkzeug.datastructures import Headers

from app.kit.client.deadline import start_budget


class Handshake(Websocket):
    """A WebSocket that knows whether its handshake was answered; a second acceptance does nothing."""

    accepted = False
    closed = False

    async def accept(self, headers: dict[str, Any] | Headers | None = None, subprotocol: str | None = None) -> None:
        if self.accepted:
            return
        self.accepted = True
        # From here on it lives for hours: each wait for Redis has a time of its own.
        start_budget(None)
        await super().accept(headers, subprotocol)

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = True
        await super().close(code, reason)
