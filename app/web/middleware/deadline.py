"""Gives each request a budget of time to wait for a Redis that does not answer."""

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart

from app.kit.client.deadline import start_budget


def register(app: Quart, *, seconds: float) -> None:
    """Wrap the whole application, because Quart reads the session before any hook. A budget ends with its request."""
    inner = app.asgi_app

    async def with_budget(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "lifespan":
            start_budget(seconds)
        await inner(scope, receive, send)

    app.asgi_app = with_budget  # type: ignore[method-assign]
