"""Absolute URLs of routes, for Location and mails: under PUBLIC_URL, never under the Host that a client sent."""

from typing import Any

from quart import current_app, url_for

PUBLIC_URL = "PUBLIC_URL"


def link_to(endpoint: str, **values: Any) -> str:
    """The absolute URL of a route."""
    base: str = current_app.config[PUBLIC_URL]
    return base + url_for(endpoint, **values)
