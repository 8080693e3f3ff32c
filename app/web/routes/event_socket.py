"""WebSocket /api/v1/events/socket: the stream of GET /api/v1/events, each frame as a JSON message."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from quart import Blueprint, websocket

from app.errors import BadRequest
from app.kit.aio import first_of
from app.kit.events.json_messages import json_messages
from app.web.context import resources
from app.web.limits.declare import exempt
from app.web.routes.events import grant_of, requested_topics
from app.web.sse import last_event_id, subscribe

SUBPROTOCOL = "quartet.events.v1"
# How long a client may take to receive what one write holds.
SEND_SECONDS = 10.0

# Close codes: RFC 6455, 7.4.1, and the registry of WebSocket close codes at IANA for the last.
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013

blueprint = Blueprint("event_socket", __name__, url_prefix="/api/v1/events")


@blueprint.websocket("/socket")
@exempt("a WebSocket lasts for hours; the number of streams is capped")
async def socket() -> None:
    """`channel` and `last_event_id` of the query are those of GET /api/v1/events. The client sends no message."""
    subprotocol = _subprotocol()
    topics = requested_topics()
    stream = subscribe(topics, last_event_id=last_event_id(), grant=grant_of(topics))
    await websocket.accept(subprotocol=subprotocol)
    async with aclosing(stream):
        code, reason = await first_of(_send(stream), _refuse_message())
    # A client that receives nothing does not receive this either; the server ends its connection later.
    with suppress(TimeoutError):
        async with asyncio.timeout(SEND_SECONDS):
            await websocket.close(code, reason)


def _subprotocol() -> str | None:
    """The one to answer with, None for a client that offers none. BadRequest where ours is not among the offered."""
    offered = websocket.requested_subprotocols
    if offered and SUBPROTOCOL not in offered:
        raise BadRequest(f"The subprotocol of this WebSocket is {SUBPROTOCOL}.")
    return SUBPROTOCOL if offered else None


async def _send(stream: AsyncGenerator[bytes, None]) -> tuple[int, str]:
    """Send the stream to its end; the code and the reason to close with. Every end but a drain is to be tried again."""
    try:
        async for data in stream:
            async with asyncio.timeout(SEND_SECONDS):
                for message in json_messages(data):
                    await websocket.send(message)
    except TimeoutError:
        # Fails closed: the client reconnects and resumes from the last id that it received.
        resources().telemetry.count("events_streams_closed", reason="stalled")
        return TRY_AGAIN_LATER, "too slow"
    return (GOING_AWAY, "drain") if resources().hub.draining else (TRY_AGAIN_LATER, "")


async def _refuse_message() -> tuple[int, str]:
    """Messages are refused, because they would wait in a queue without a bound."""
    await websocket.receive()
    return POLICY_VIOLATION, "this WebSocket takes no messages"
