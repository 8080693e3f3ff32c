"""Absolute URLs of routes, for Location and mails: under PUBLIC_URL, never under the Host that a client sent."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from quart import current_app, request, url_for

PUBLIC_URL = "PUBLIC_URL"


def link_to(endpoint: str, **values: Any) -> str:
    """The absolute URL of a route."""
    base: str = current_app.config[PUBLIC_URL]
    return base + url_for(endpoint, **values)


def links(endpoint: str, relations: Mapping[str, Mapping[str, object]]) -> Mapping[str, str]:
    """The header Link (RFC 8288) to this route with other queries, by relation. None in a query is left out."""
    address = link_to(endpoint, **(request.view_args or {}))
    found = [f'<{address}?{urlencode(_given(query))}>; rel="{name}"' for name, query in relations.items()]
    return {"Link": ", ".join(found)} if found else {}


def _given(query: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in query.items() if value is not None}
