"""The way into every view: who asks, how often, whether they may, and whether the answer is known already."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from quart import Quart, Response
from quart_schema.validation import QUART_SCHEMA_REQUEST_ATTRIBUTE, DataSource

from app.errors import NotFound
from app.web import problems
from app.web.caching import cached_view
from app.web.identity import auth
from app.web.limits.declare import exempt
from app.web.limits.enforce import enforce


def guard_views(app: Quart) -> None:
    """Wrap each registered view once. Called by the factory when every route is there.

    Static files are the same for everyone and cost no backend anything: they have no limit and no session.
    """
    for endpoint, view in app.view_functions.items():
        app.view_functions[endpoint] = _static(view) if endpoint == "static" else _guarded(view)


def _static(view: Callable[..., Any]) -> Callable[..., Any]:
    @exempt("files are the same for everyone, and cost no backend anything")
    @wraps(view)
    async def static(filename: str) -> Any:
        try:
            return await view(filename=filename)
        except (OSError, ValueError) as error:
            # A name that no file system takes: too long, or with a NUL in it.
            raise NotFound from error

    return static


def _guarded(view: Callable[..., Any]) -> Callable[..., Any]:
    wants_json = getattr(view, QUART_SCHEMA_REQUEST_ATTRIBUTE, (None, None))[1] is DataSource.JSON

    @wraps(view)
    async def guarded(**arguments: Any) -> Response:
        identity = await auth.identify()
        # The limiter comes before each refusal: guesses at credentials, and what is malformed, are requests too.
        await enforce(view, identity.principal, with_body=False)
        if wants_json:
            problems.require_json()
        auth.authorize(view)
        # A body is read last: parsing it is the one thing here that a client can make expensive.
        await enforce(view, identity.principal, with_body=True)
        return await cached_view.respond(view, arguments)

    return guarded
