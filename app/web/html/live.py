"""Pages whose scripts follow events, from before what they show was read."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from quart import g
from redis.exceptions import RedisError

from app.kit.client.errors import record_failure
from app.web.context import resources

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def live_page(view: Callable[Arguments, Awaitable[Answer]]) -> Callable[Arguments, Awaitable[Answer]]:
    """Decorates the view of a page that loads live.js.

    The page gets the position of the events before it was read (`data-after`), and its stream begins there: an event
    between the reading and the stream is received. While Redis is down there is none, and the page fetches its regions
    anew when its stream is live.
    """

    @wraps(view)
    async def with_position(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        g.events_after = await _position()
        return await view(*args, **kwargs)

    return with_position


async def _position() -> str:
    found = resources()
    try:
        return str(await found.hub.cursor())
    except RedisError as error:
        # Fails open: the page is shown. A defect is counted and logged as one.
        record_failure(error, block="events", telemetry=found.telemetry)
        return ""
