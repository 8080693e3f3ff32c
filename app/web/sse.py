"""Responses that stream the hub's events (text/event-stream)."""

from collections.abc import AsyncGenerator, Collection, Iterable

from quart import Response, request

from app.errors import Invalid
from app.kit.events.grant import Grant
from app.web.context import connection, resources

CONTENT_TYPE = "text/event-stream; charset=utf-8"


def last_event_id() -> str | None:
    """The client's last event id: the header, which EventSource sends when it reconnects, before the query."""
    asked = connection()
    return asked.headers.get("Last-Event-ID") or asked.args.get("last_event_id")


def subscribe(
    topics: Iterable[str],
    *,
    last_event_id: str | None,
    until: Collection[str] = (),
    seconds: float | None = None,
    grant: Grant | None = None,
) -> AsyncGenerator[bytes, None]:
    """Hub.subscribe(), for the client of this request or WebSocket. Raises Invalid for bad topics, and for too many."""
    try:
        # The generator allocates nothing before its first read, so a response that is never read leaks nothing.
        return resources().hub.subscribe(topics, last_event_id=last_event_id, until=until, seconds=seconds, grant=grant)
    except ValueError as error:
        raise Invalid([{"loc": ["channel"], "msg": str(error)}]) from error


async def event_stream(
    topics: Iterable[str],
    *,
    last_event_id: str | None,
    until: Collection[str] = (),
    seconds: float | None = None,
    grant: Grant | None = None,
) -> Response:
    """200 and a stream of `topics`, which resumes after `last_event_id` when that is a valid id.

    A HEAD gets the headers alone. An event of a type in `until` ends the stream, and so do `seconds` and the end of
    `grant`; without one it is a visitor's. Raises what subscribe() raises. Every other failure is part of the stream,
    because a status other than 200 stops an EventSource for good.
    """
    stream = subscribe(topics, last_event_id=last_event_id, until=until, seconds=seconds, grant=grant)
    response = _response(b"" if request.method == "HEAD" else stream)
    if request.method == "HEAD":
        # The length of a stream is not known (RFC 9110, 8.6).
        response.headers.pop("Content-Length", None)
    # Quart would end the response after RESPONSE_TIMEOUT.
    response.timeout = None
    return response


def finite_stream(frames: bytes) -> Response:
    """200 and a stream that ends after these frames."""
    return _response(frames)


def _response(body: bytes | AsyncGenerator[bytes, None]) -> Response:
    response = Response(body, content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    # Otherwise nginx buffers the events.
    response.headers["X-Accel-Buffering"] = "no"
    return response
