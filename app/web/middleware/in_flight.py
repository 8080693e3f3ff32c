"""How many requests wait for their answer, as a metric."""

from collections.abc import Awaitable, Callable
from typing import Any

from app.kit.telemetry import Telemetry

# What begins an answer: a stream lasts for hours after it.
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start", "websocket.close"})

_App = Callable[[Any, Any, Any], Awaitable[None]]


def count_in_flight(app: _App, telemetry: Telemetry) -> _App:
    """Counts a request or a handshake from its arrival until its answer begins, or until it ends without one."""
    amount = 0

    def add(change: int) -> None:
        nonlocal amount
        amount += change
        telemetry.gauge("http_requests_in_flight", amount)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        waits = True

        def answered() -> None:
            nonlocal waits
            if waits:
                waits = False
                add(-1)

        async def observed(message: Any) -> None:
            if message["type"] in _ANSWERS:
                answered()
            await send(message)

        add(1)
        try:
            await app(scope, receive, observed)
        finally:
            answered()

    return counted
