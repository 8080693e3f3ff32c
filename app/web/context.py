"""Quart adapters over the kit, and the accessor of the running application's resources."""

from quart import current_app, has_websocket_context, request, websocket
from quart.wrappers.base import BaseRequestWebsocket

from app.resources import Resources

EXTENSION = "quartet"


def resources() -> Resources:
    """What the lifespan of the current application opened."""
    found: Resources = current_app.extensions[EXTENSION]
    return found


def connection() -> BaseRequestWebsocket:
    """The current request, or the handshake of the current WebSocket: its headers, cookies, query and address."""
    return websocket if has_websocket_context() else request
