"""Answers with an event stream from the hub (text/event-stream)."""

from collections.abc import Collection, Iterable

from quart import Response, request

from app.errors import Invalid
from app.web.context import resources

CONTENT_TYPE = "text/event-stream; charset=utf-8"


def last_event_id() -> str | None:
    """Where the client has got to. The header that a browser sends by itself is newer than the address it kept."""
    return request.headers.get("Last-Event-ID") or request.args.get("last_event_id")


async def event_stream(channels: Iterable[str], *, last_event_id: str | None, until: Collection[str] = ()) -> Response:
    """200 and a stream of `channels`, which goes on after `last_event_id`; junk there is a fresh start.

    A HEAD gets the headers alone. `until` names the types of events that end the stream. Invalid for names that are
    no channels, and for too many; any trouble besides is told in the stream, because an answer other than 200 would
    stop an EventSource for good.
    """
    try:
        # Holds nothing before the server reads its first bytes: a stream that is never read leaves no trace.
        stream = resources().hub.subscribe(channels, last_event_id=last_event_id, until=until)
    except ValueError as error:
        raise Invalid([{"loc": ["channel"], "msg": str(error)}]) from error
    response = Response(b"" if request.method == "HEAD" else stream, content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    # nginx would hold events back until its buffer is full.
    response.headers["X-Accel-Buffering"] = "no"
    # Quart would end the response after RESPONSE_TIMEOUT.
    response.timeout = None
    return response
