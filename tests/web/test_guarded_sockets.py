"""What the guard holds a WebSocket to."""

import pytest
from quart import Quart

from app.web.caching.cached_view import cached_view
from app.web.guard import guard_views
from app.web.limits.declare import exempt, rate_limit
from app.web.limits.subjects import by_address


async def view() -> None: ...


async def limited() -> None: ...


async def cached() -> None: ...


rate_limit("1/minute", key=by_address)(limited)
cached_view(1)(exempt("no backend")(cached))


@pytest.mark.parametrize("declared", [view, limited, cached])
def test_what_is_not_enforced_for_a_websocket_cannot_be_declared(declared: object) -> None:
    app = Quart(__name__)
    app.add_websocket("/socket", "socket", declared)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="exempt"):
        guard_views(app)
