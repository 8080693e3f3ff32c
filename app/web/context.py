"""The running application's resources, and the request or WebSocket that is being answered."""

from quart import current_app, has_request_context, request, websocket
from quart.wrappers.base import BaseRequestWebsocket

from app.resources import Resources

EXTENSION = "quartet"


def resources() -> Resources:
    """What the lifespan of the current application opened."""
    found: Resources = current_app.extensions[EXTENSION]
    return found


def connection() -> BaseRequestWebsocket:
    """The current request or WebSocket: what both have, such as headers, host and path."""
    return request if has_request_context() else websocket
