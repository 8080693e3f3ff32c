"""The whole application, with routes of its own for the benchmark; CASE says which is asked, and how."""

import os
from typing import Any
from unittest.mock import patch

import uvloop
from quart import Blueprint, Quart

from app import factory
from app.resources import Resources
from app.settings import load_settings
from app.web.caching.cached_view import cached_view
from app.web.context import EXTENSION
from app.web.limits.declare import exempt, rate_limit
from app.web.limits.subjects import by_principal
from bench.asgi_requests import RECORDS, Headers, get, print_requests

BARE, DEFAULT = "bare route", "bare route, default limit"
CACHED, SESSION, UNCHANGED = "limit + cache", "session + limit + cache", "limit + cache, 304"
CASES = (BARE, DEFAULT, CACHED, SESSION, UNCHANGED)
PATHS = {BARE: "/bare", DEFAULT: "/default"}

blueprint = Blueprint("bench", __name__)


@blueprint.get("/bare")
@exempt("measures a route without a limit")
async def bare() -> list[dict[str, Any]]:
    return RECORDS


@blueprint.get("/default")
@rate_limit("1000000/minute", algorithm="counter", key=by_principal)
async def default() -> list[dict[str, Any]]:
    """The application's own default would refuse so many requests."""
    return RECORDS


@blueprint.get("/cached")
@rate_limit("1000000/minute", algorithm="counter")
@cached_view(600, public=True, tags=("records",))
async def cached() -> list[dict[str, Any]]:
    return RECORDS


def make_app() -> Quart:
    """The application as it is served, and the benchmark's blueprint."""
    # As a cloned project does: a blueprint is added to the factory's list.
    with patch.object(factory, "BLUEPRINTS", (*factory.BLUEPRINTS, blueprint)):
        return factory.create_app(load_settings({**os.environ, "ENVIRONMENT": "testing"}))


async def request_headers(app: Quart, case: str) -> Headers:
    """The headers of the case's requests. RuntimeError where the route does not do what the case is about."""
    if case in PATHS:
        return {}
    for _ in range(2):
        _, answered = await get(app, "/cached", headers={})
    if not {"ratelimit", "age", "etag"} <= answered.keys():
        raise RuntimeError(f"neither limited nor cached: {answered}")
    if case == UNCHANGED:
        return {"if-none-match": answered["etag"]}
    return {"cookie": await session_cookie(app)} if case == SESSION else {}


async def session_cookie(app: Quart) -> str:
    """The cookie of a visitor's new session."""
    resources: Resources = app.extensions[EXTENSION]
    record = await resources.sessions.create({"theme": "dark"}, channel="cookie")
    return f"{app.config['SESSION_COOKIE_NAME']}={record.id}"


async def main() -> None:
    case, app = os.environ["CASE"], make_app()
    async with app.test_app():
        path = PATHS.get(case, "/cached")
        headers = await request_headers(app, case)
        await print_requests(app, path, headers=headers, status=304 if case == UNCHANGED else 200)


if __name__ == "__main__":
    uvloop.run(main())
