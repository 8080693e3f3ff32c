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
from app.web.limits.declare import Exemption, exempt
from app.web.limits.enforce import enforce
from app.web.route_policy import policy_of


def guard_views(app: Quart) -> None:
    """Wrap each registered view once. Called by the factory when every route is there.

    Static files are the same for everyone and cost no backend anything: they have no limit and no session.
    """
    sockets = {rule.endpoint for rule in app.url_map.iter_rules() if rule.websocket}
    for endpoint, view in app.view_functions.items():
        guard = _static if endpoint == "static" else _guarded_socket if endpoint in sockets else _guarded
        app.view_functions[endpoint] = guard(view)


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


def _guarded_socket(view: Callable[..., Any]) -> Callable[..., Any]:
    """TypeError for a WebSocket that declares what is enforced for requests only: a limit, or a cache."""
    exemption, cache = policy_of(view, Exemption), policy_of(view, cached_view.ViewCache)
    if exemption is None or cache is not None:
        raise TypeError(f"the WebSocket {view!r} must be exempt from limits, and cannot be cached")

    @wraps(view)
    async def guarded(**arguments: Any) -> None:
        await auth.identify()
        auth.authorize(view)
        await view(**arguments)

    return guarded
